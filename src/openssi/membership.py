"""Who is there: the members that serf sees, in the words of OpenSSI, and the history of their changes.

The agent of each node (/usr/lib/openssi/membership) writes what it sees to /run/ssi/members.json at every change. The
init node keeps the history: /var/lib/openssi/transitions, a line a change, six columns between tabs: transition id,
time (UTC), node, old state, new state, cause. It lies on the root that all share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from openssi import files
from openssi.errors import Error

MEMBERS = "run/ssi/members.json"
HISTORY = "var/lib/openssi/transitions"
_COLUMNS = 6
_KEPT = 20000  # lines of history before the older half is dropped

# The eight states of OpenSSI. KCLEANUP is the kernel's work after a loss and never seen here.
NEVERUP, COMINGUP, UP, SHUTDOWN, GOINGDOWN, UCLEANUP, DOWN = (
    "NEVERUP", "COMINGUP", "UP", "SHUTDOWN", "GOINGDOWN", "UCLEANUP", "DOWN",
)  # fmt: skip
LIVING = (COMINGUP, UP, SHUTDOWN, GOINGDOWN)


@dataclass(frozen=True)
class Member:
    """A node as serf sees it: its state, why it is not alive, its role and the id of its boot."""

    number: int
    state: str
    cause: str
    role: str
    boot: str


@dataclass(frozen=True)
class Transition:
    """One line of the history; ``when`` is UTC in ISO 8601, ``id`` counts from 1."""

    id: int
    when: str
    node: int
    old: str
    new: str
    cause: str

    @property
    def line(self) -> str:
        """The transition as its line of the file."""
        return "\t".join([str(self.id), self.when, str(self.node), self.old, self.new, self.cause]) + "\n"


def parse_members(text: str) -> dict[int, Member]:
    """Return the members by number from what ``serf members -format=json`` says; strangers without a number are left out."""
    found: dict[int, Member] = {}
    for each in json.loads(text)["members"]:
        tags = each.get("tags") or {}
        number = tags.get("node", "")
        if not number.isdecimal():
            continue
        state, cause = _state(each["status"], tags.get("state", UP))
        found[int(number)] = Member(int(number), state, cause, tags.get("role", "node"), tags.get("boot", ""))
    return found


def _state(status: str, told: str) -> tuple[str, str]:
    """Return state and cause from serf's ``status`` and what the node itself ``told`` by its tag."""
    if status == "alive":
        return (told if told in LIVING else UP), "it said so"
    if status == "leaving":
        return GOINGDOWN, "it leaves"
    return DOWN, "it left" if status == "left" else "not reachable"


def members(root: Path) -> dict[int, Member]:
    """Return the members by number as this node's agent last saw them; Error when there is no agent."""
    try:
        return parse_members((root / MEMBERS).read_text())
    except FileNotFoundError:
        raise Error(
            f"/{MEMBERS}: no such file", hint="membership does not run: systemctl status openssi-membership"
        ) from None
    except (ValueError, KeyError) as problem:
        raise Error(f"/{MEMBERS}: {problem}") from None


def states(numbers: Iterable[int], seen: Mapping[int, Member], recorded: Mapping[int, Transition]) -> dict[int, str]:
    """Return the state of each node: what is seen, else DOWN if it was ever up, else NEVERUP."""
    found = {}
    for number in numbers:
        last = recorded.get(number)
        if number in seen:
            cleaning = last is not None and last.new == UCLEANUP and seen[number].state == DOWN
            found[number] = UCLEANUP if cleaning else seen[number].state
        else:
            found[number] = DOWN if last is not None else NEVERUP
    return found


def history(root: Path) -> list[Transition]:
    """Return all recorded transitions, oldest first; a line that a power cut tore is left out."""
    try:
        lines = (root / HISTORY).read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    return [found for line in lines[:-1] if (found := _transition(line))]


def _transition(line: str) -> Transition | None:
    columns = line.split("\t")
    if len(columns) != _COLUMNS or not columns[0].isdecimal() or not columns[2].isdecimal():
        return None
    return Transition(int(columns[0]), columns[1], int(columns[2]), columns[3], columns[4], columns[5])


def latest(transitions: Iterable[Transition]) -> dict[int, Transition]:
    """Return the last transition of each node."""
    return {each.node: each for each in transitions}


def changes(
    seen: Mapping[int, Member], recorded: Mapping[int, str], boots: Mapping[int, str], *, settled: bool
) -> list[tuple[int, str, str, str]]:
    """Return ``(node, old state, new state, cause)`` of what differs between what is ``seen`` and ``recorded``, by number.

    A node with another boot id than in ``boots`` was down in between, however short. A node that nobody sees is
    DOWN only when ``settled``: an agent that has just started has not heard of all yet.
    """
    found = []
    for number, member in sorted(seen.items()):
        old = recorded.get(number, NEVERUP)
        known = boots.get(number)
        if old in LIVING and member.state in LIVING and known and member.boot and known != member.boot:
            found.append((number, old, DOWN, "it was booted anew"))
            old = DOWN
        # A node that was never seen alive has not gone down either.
        if member.state != old and not (member.state == DOWN and old in (NEVERUP, UCLEANUP)):
            found.append((number, old, member.state, member.cause))
    if settled:
        lost = [number for number, old in sorted(recorded.items()) if number not in seen and old in LIVING]
        found += [(number, recorded[number], DOWN, "not seen") for number in lost]
    return found


class History:
    """The history, held under its lock: what is recorded, and append() for more."""

    def __init__(self, root: Path) -> None:
        self.path = root / HISTORY
        self._boots_path = self.path.with_name("boots.json")
        self.transitions = history(root)
        self._next = self.transitions[-1].id + 1 if self.transitions else 1
        try:
            self.boots = {int(key): str(value) for key, value in json.loads(self._boots_path.read_text()).items()}
        except (FileNotFoundError, ValueError):
            self.boots = {}

    def states(self) -> dict[int, str]:
        """Return the last recorded state by node."""
        return {number: each.new for number, each in latest(self.transitions).items()}

    def append(self, node: int, old: str, new: str, cause: str) -> Transition:
        """Add one transition durably and return it."""
        if len(self.transitions) >= _KEPT:
            self.transitions = self.transitions[_KEPT // 2 :]
            files.write(self.path, "".join(each.line for each in self.transitions))
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        made = Transition(self._next, when, node, old, new, cause)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as stream:
            data = made.line.encode()
            if stream.tell() and not _ends_whole(self.path):
                data = b"\n" + data
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        self._next += 1
        self.transitions.append(made)
        return made

    def remember(self, boots: Mapping[int, str]) -> None:
        """Keep the boot ids by node for the next look."""
        merged = {**self.boots, **boots}
        if merged != self.boots:
            self.boots = merged
            files.write(self._boots_path, json.dumps(merged, sort_keys=True) + "\n")


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
