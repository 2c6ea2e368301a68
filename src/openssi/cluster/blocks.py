"""Our lines in files that belong to the administrator: a block between two marks, put in and taken out again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from openssi.errors import Error

BEGIN = "# openssi begin: made from /etc/clustertab, edits up to the end mark are lost"
END = "# openssi end"
_LOCAL = re.compile(r"127\.0\.1\.1\s")
_PARKED = "# openssi: "


def strip(text: str, where: str) -> str:
    """Return ``text`` without our block; Error names ``where`` when a mark stands alone."""
    lines = text.splitlines(keepends=True)
    marks = [i for i, line in enumerate(lines) if line.rstrip("\n") in (BEGIN, END)]
    if not marks:
        return text
    if len(marks) != 2 or lines[marks[0]].rstrip("\n") != BEGIN:
        raise Error(f"{where}: line {marks[0] + 1}: a mark of openssi stands alone", hint="remove it by hand")
    return "".join(lines[: marks[0]] + lines[marks[1] + 1 :])


def put(text: str, lines: Sequence[str], where: str) -> str:
    """Return ``text`` with ``lines`` as our block: where it was, else at the end."""
    block = "".join(line + "\n" for line in (BEGIN, *lines, END))
    plain = strip(text, where)
    start = text.find(BEGIN + "\n")
    if start >= 0:
        return plain[:start] + block + plain[start:]
    gap = "" if not plain or plain.endswith("\n") else "\n"
    return plain + gap + block


def restored(current: str, original: str, where: str) -> str:
    """Return ``current`` without our block: exactly ``original`` if nothing else was changed since."""
    plain = strip(current, where)
    return original if plain == strip(put(original, (), where), where) else plain


def park(hosts: str, name: str) -> str:
    """Return the hosts file with Debian's ``127.0.1.1 NAME`` line as a comment.

    On a shared root that line would lead every other node to itself.
    """
    return "".join(
        _PARKED + line if _LOCAL.match(line) and name in _names(line) else line
        for line in hosts.splitlines(keepends=True)
    )


def unpark(hosts: str) -> str:
    """Return the hosts file with what park() made a comment alive again."""
    parked = re.compile(re.escape(_PARKED) + _LOCAL.pattern)
    lines = hosts.splitlines(keepends=True)
    return "".join(line.removeprefix(_PARKED) if parked.match(line) else line for line in lines)


def aliases(hosts: str, name: str) -> list[str]:
    """Return the names, the full one first, that a parked line gives to ``name``; else just the name."""
    for line in hosts.splitlines():
        if line.startswith(_PARKED) and name in _names(line.removeprefix(_PARKED)):
            return _names(line.removeprefix(_PARKED))
    return [name]


def _names(line: str) -> list[str]:
    return line.partition("#")[0].split()[1:]
