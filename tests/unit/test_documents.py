"""README and docs/ against the tree: tasks, links, commands, and the files that a client is told to write."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from openssi_build import archive, settings


def documents(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]


def block(text: str, behind: str) -> str:
    """Return the first indented block behind a phrase."""
    match = re.search(r"\n\n((?:    .*\n|\n)+)", text[text.index(behind) :])
    assert match
    return textwrap.dedent(match[1]).strip()


def test_documents_name_no_task_that_is_not_there(root: Path) -> None:
    defined = re.findall(r"^@task\(.*?^def (\w+)\(", (root / "tasks.py").read_text(), re.MULTILINE | re.DOTALL)
    tasks = {name.strip("_").replace("_", "-") for name in defined}
    table = (root / "README.md").read_text().partition("## Tasks")[2].partition("## ")[0]
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([a-z-]+)`", row)
    }
    assert named
    assert named <= tasks, named - tasks
    used = {task for path in documents(root) for task in re.findall(r"\binv ([a-z]+(?:-[a-z]+)*)", path.read_text())}
    assert used <= tasks, used - tasks


def test_what_readme_tells_a_client_to_write_is_what_the_package_has(root: Path) -> None:
    readme = (root / "README.md").read_text()
    repository = settings.Repository(uri="http://repository.example.org/openssi")

    def plain(text: str) -> str:
        return "\n".join(line for line in text.splitlines() if not line.startswith(("#", "Explanation:"))).strip()

    assert block(readme, "sources.list.d/openssi.sources`:") == plain(archive.sources(repository))
    assert block(readme, "preferences.d/openssi.pref`") == plain(archive.preferences(repository))


def test_links_lead_to_files(root: Path) -> None:
    for path in documents(root):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path}: {target}"


def test_readme_names_places_that_are_there(root: Path) -> None:
    table = (root / "README.md").read_text().partition("## Where things are")[2]
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for place in re.findall(r"`([^`]+)`", row):
            assert (root / place).exists(), place


def test_every_command_of_ours_that_a_document_names_exists(root: Path) -> None:
    ours = {path.name for where in ("bin", "sbin") for path in (root / where).iterdir()}
    heads = [re.search(r"^(\S.*) - ", path.read_text(), re.MULTILINE) for path in (root / "docs/man").iterdir()]
    pages = {name for head in heads if head for name in head[1].split(", ")}
    for path in documents(root):
        named = set(re.findall(r"`(?:[^`\n]*\s)?(ssi-[a-z]+)(?!\.service)\b", path.read_text()))
        assert named <= ours | pages, f"{path}: {sorted(named - ours - pages)}"
    assert ours - pages == set(), f"no manual page: {sorted(ours - pages)}"
