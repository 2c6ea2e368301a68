-- A link to another document, NAME.md, leads to its HTML form; the text form shows the name alone.
function Link(link)
  local name, anchor = link.target:match("^([%w%.%-]+)%.md(#?.*)$")
  if name == nil then
    return nil
  end
  if FORMAT:match("html") then
    link.target = name .. ".html" .. anchor
    return link
  end
  return link.content
end
