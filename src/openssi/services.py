"""The policy of what runs where: /usr/lib/openssi/services, and /etc/openssi/services over it.

openssi-generator reads the same two files when a node boots; here is what shows and changes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openssi import files
from openssi.cluster import table
from openssi.errors import Error

SHIPPED = "usr/lib/openssi/services"
OWN = "etc/openssi/services"
WORDS = ("every", "init", "once", "none")
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]+\.(service|socket|target|timer|path|mount|automount|swap|slice)")


@dataclass(frozen=True)
class Rule:
    """A unit, where it runs, and the file that says so."""

    unit: str
    scope: str
    source: str

    def runs_on(self, number: int, *, init: bool) -> bool:
        """Return True if the unit runs on node ``number``, which is the init node or not."""
        if self.scope in ("init", "once"):
            return init
        return self.scope == "every" or str(number) in self.scope.split(":")


def unit(text: str) -> str:
    """Return ``text`` as a unit's name, a service when it has no ending; Error when it can be none."""
    name = text if "." in text else f"{text}.service"
    if not _UNIT.fullmatch(name):
        raise Error(f"unit '{text}': expected a name such as cron.service")
    return name


def scope(text: str) -> str:
    """Return ``text`` as a scope: every, init, once, none or node numbers between colons; Error otherwise."""
    if text in WORDS:
        return text
    try:
        return ":".join(str(each) for each in sorted({table.number(part) for part in text.split(":")}))
    except ValueError:
        raise Error(f"scope '{text}': expected {', '.join(WORDS)} or node numbers such as 2:3") from None


def parse(text: str, where: str) -> list[Rule]:
    """Return the rules of one file; Error names file and line of the first bad one."""
    return [Rule(*_rule(line, place, where), where) for place, line in _lines(text)]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for place, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield place, line


def _rule(line: str, place: int, where: str) -> tuple[str, str]:
    words = line.split()
    if len(words) != 2:
        raise Error(f"{where}: line {place}: {len(words)} words: expected UNIT SCOPE")
    try:
        return unit(words[0]), scope(words[1])
    except Error as problem:
        raise Error(f"{where}: line {place}: {problem}") from None


def load(root: Path) -> dict[str, Rule]:
    """Return the rule of each unit that has one, in the order of the files."""
    rules: dict[str, Rule] = {}
    for name in (SHIPPED, OWN):
        try:
            text = (root / name).read_text()
        except FileNotFoundError:
            continue
        rules.update({rule.unit: rule for rule in parse(text, f"/{name}")})
    return rules


def put(text: str, name: str, wanted: str | None) -> str:
    """Return the administrator's file ``text`` with ``name``'s line set to ``wanted``, or without it when None."""
    kept = [line for line in text.splitlines() if line.split()[:1] != [name]]
    if wanted is not None:
        kept.append(f"{name} {wanted}")
    return "".join(f"{line}\n" for line in kept)


def change(root: Path, name: str, wanted: str | None) -> None:
    """Set or (None) forget the administrator's rule for unit ``name``; a bad file is refused before it is touched."""
    path = root / OWN
    text = path.read_text() if path.exists() else ""
    parse(text, f"/{OWN}")
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_if_changed(path, put(text, name, wanted))
