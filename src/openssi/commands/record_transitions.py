"""record-transitions: on the init node, write down who came and went, say it on the console, run the hooks.

Called at every change that the membership agent sees, and once more when a new agent has heard of all others. It
compares what is seen with what is recorded, so a call too many or too few changes nothing.
"""

from __future__ import annotations

import os
import re
import syslog
from collections.abc import Sequence
from pathlib import Path

from openssi import commands, files, membership, run
from openssi.cluster import state
from openssi.errors import CommandError, Error
from openssi.membership import DOWN, UCLEANUP, UP, History

_HOOK_S = 60.0
# .x.swp, #x#, x~, x.dpkg-old, x.ucf-dist, x.bak; a name as 20-mail.sh is a hook's.
_LEFT_OVER = re.compile(r"^[.#]|~$|\.(dpkg|ucf)-[a-z]+$|\.(bak|orig|rej|swp)$")


def main(argv: Sequence[str]) -> int:
    """Bring the history up to date; ``--settled``: from now on a node that is not seen is DOWN."""
    root = commands.root()
    settled = root / "run/ssi/settled"
    if "--settled" in argv:
        settled.touch()
    # One at a time: a hook may take long, and the next call sees what it left to do.
    with files.lock(root / "run/ssi/transitions.lock"):
        record(root, settled=settled.exists())
    return 0


def record(root: Path, *, settled: bool) -> None:
    """Append what has changed to the history; nodeup and nodedown are told and their hooks run."""
    cluster = state.load(root)
    known = {node.number for node in cluster.nodes}
    seen = {number: each for number, each in membership.members(root).items() if number in known}
    book = History(root)
    recorded = {number: each for number, each in book.states().items() if number in known}
    for number, old, new, cause in membership.changes(seen, recorded, book.boots, settled=settled):
        _transition(root, book, cluster, number, old, new, cause)
    book.remember({number: each.boot for number, each in seen.items() if each.boot and each.state != DOWN})


def _transition(root: Path, book: History, cluster: state.Cluster, number: int, old: str, new: str, cause: str) -> None:
    if new == DOWN:
        # the state of OpenSSI while users' programs clean up
        made = book.append(number, old, UCLEANUP, cause)
        _tell(root, "nodedown", cluster, number, cause)
        _hooks(root, "nodedown", cluster, number, made.id)
        book.append(number, UCLEANUP, DOWN, cause)
        return
    made = book.append(number, old, new, cause)
    if new == UP and old in (membership.NEVERUP, membership.COMINGUP, DOWN, UCLEANUP):
        _tell(root, "nodeup", cluster, number, "")
        _hooks(root, "nodeup", cluster, number, made.id)


def _tell(root: Path, event: str, cluster: state.Cluster, number: int, cause: str) -> None:
    """Say it on the console and in the journal."""
    why = f": {cause}" if cause else ""
    text = f"{event} {number} ({cluster.name_of(number)}, {cluster.node(number).ip}){why}"
    syslog.openlog("openssi", 0, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_NOTICE, text)
    try:
        with (root / "dev/console").open("w") as console:
            console.write(f"\r\n{text}\r\n")
    except OSError:
        pass  # a machine without a console has the journal


def _hooks(root: Path, event: str, cluster: state.Cluster, number: int, transition: int) -> None:
    """Run the executables in /etc/openssi/<event>.d in order; a failing one is reported and stops nothing."""
    environment = {
        "OPENSSI_EVENT": event,
        "OPENSSI_NODE": str(number),
        "OPENSSI_NODENAME": cluster.name_of(number),
        "OPENSSI_ADDRESS": cluster.node(number).ip,
        "OPENSSI_TRANSITION": str(transition),
    }
    for hook in hooks(root / "etc/openssi" / f"{event}.d"):
        try:
            run.run([hook, str(number)], env=environment, timeout=_HOOK_S)
        except (CommandError, Error, OSError) as problem:
            syslog.syslog(syslog.LOG_ERR, f"{hook}: {problem}")


def hooks(directory: Path) -> list[Path]:
    """Return the executables in ``directory`` by name; what editors and dpkg leave beside a file is skipped."""
    if not directory.is_dir():
        return []
    return sorted(
        path
        for path in directory.iterdir()
        if path.is_file() and os.access(path, os.X_OK) and not _LEFT_OVER.search(path.name)
    )
