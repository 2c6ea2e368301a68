"""`inv bench cluster`: every command with 125 nodes in the table, and 125 members in one network namespace."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from ipaddress import IPv4Interface
from pathlib import Path

from openssi import loads, run
from openssi.cluster import answers, create, nodes, state
from openssi.cluster.answers import Answers
from openssi.cluster.nics import Nic
from openssi.cluster.table import Node
from openssi.errors import Error
from openssi.loads import Load
from openssi.netboot import loaders
from openssi_build import chroot
from openssi_build.bench import measure
from openssi_build.bench.measure import Row

NODES = 125
_NIC = Nic("eth1", "52:54:00:00:00:01", IPv4Interface("10.0.0.1/24"))
_KERNEL = "6.12.1-amd64"
_LIMIT_S = 1.0
# What the reader of a screen and the administrator call, with all nodes but the last in the table at first.
COMMANDS = (
    ("cluster", "-v"),
    ("cluster", "-V", "77"),
    ("cluster", "--json"),
    ("clusternode_getstate", "77"),
    ("clusternode_num",),
    ("clustername",),
    ("loads",),
    ("fastnode",),
    ("ssi-status",),
    ("ssi-status", "--json"),
    ("ssi-service", "list"),
    ("ssi-service", "set", "cron", "2:3"),
    ("ssi-shutdown", "--reboot", "--dry-run"),
    ("ssi-addnode", "--waiting"),
    ("ssi-addnode", "--mac", f"52:54:00:00:01:{NODES:02x}", "--yes"),
    ("ssi-chnode", str(NODES), "--nodename", "last"),
    ("ssi-rmnode", str(NODES), "--yes", "--force"),
    ("ssi-ksync", "--quiet"),
    ("ssi-ksync", "--check"),
)
_MEMBER_BARS = {"s": 15.0, "%": 1.0, "MiB": 32.0}


def bench(root: Path, cache: Path, *, members: bool = True) -> bool:
    """Measure the commands of the tree ``root`` and, with ``members``, a room of agents; print both and return whether all bars are met."""
    rows = commands(root)
    measure.show(f"commands with {NODES} nodes in the table", rows)
    if members:
        more = room(root, cache, NODES)
        measure.show(f"{NODES} members in one network namespace, load {os.getloadavg()[0]:.1f}", more)
        rows += more
    return all(row.met for row in rows)


def commands(root: Path, *, times: int = 3) -> list[Row]:
    """Return a row for each command: the median of its wall seconds against one second."""
    found: dict[str, list[float]] = {" ".join(words): [] for words in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="openssi-bench-") as name:
        tree = Path(name)
        full(tree)
        env = {"OPENSSI_ROOT": str(tree), "PYTHONPATH": str(root / "src"), "LC_ALL": "C.UTF-8"}
        for _ in range(times):
            for words in COMMANDS:
                found[" ".join(words)].append(_wall(root, words, env))
    return [
        Row(name, statistics.median(walls), "at most", _LIMIT_S, "s", 1.0) for name, walls in found.items()
    ]  # fmt: skip


def _wall(root: Path, words: tuple[str, ...], env: dict[str, str]) -> float:
    program = next(path for path in (root / "bin" / words[0], root / "sbin" / words[0]) if path.exists())
    begun = time.monotonic()
    status, _, err = run.status([sys.executable, program, *words[1:]], env=env, timeout=60)
    took = time.monotonic() - begun
    # ssi-status and ksync's check say 1 when something needs attention.
    if status > 1 or (status == 1 and err):
        raise Error(f"{' '.join(words)}: exit status {status}: {err.decode(errors='replace').strip()}")
    return took


def full(tree: Path) -> None:
    """Make ``tree`` a cluster of all nodes but the last, as the init node sees it while all are up."""
    for path, text in _FILES.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for loader in loaders.LOADERS["amd64"]:
        (tree / loader.path).parent.mkdir(parents=True, exist_ok=True)
        (tree / loader.path).write_text(loader.name)
    given = Answers(1, _NIC.name, "P", "", "galaxy", root_failover=False)
    create.make(tree, answers.check(given, [_NIC], {}), lambda _: None)
    text = (tree / state.TABLE).read_text()
    for number in range(2, NODES):
        text += Node(number, f"10.0.0.{number}", f"52:54:00:00:01:{number:02x}").line
        own = state.directory(tree, number) / "etc/nodename"
        own.parent.mkdir(parents=True)
        own.write_text(f"star{number}\n")
    (tree / state.TABLE).write_text(text)
    nodes.follow(tree, lambda _: None)
    (tree / "run/ssi").mkdir(parents=True)
    (tree / "run/ssi/nodenum").write_text("1\n")
    (tree / "run/ssi/role").write_text("init\n")
    (tree / "run/ssi/members.json").write_text(json.dumps({"members": [_member(n) for n in range(1, NODES)]}))
    # They stay fresh for the time of the bench.
    heard = {n: Load(n, 0.1, 4, 4, 4000, 3000, 60, _KERNEL, 50, time.time() + 3600) for n in range(1, NODES)}
    (tree / loads.FILE).write_text(loads.dump(heard))


_FILES = {
    "etc/hostname": "sun\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\tsun\n",
    "etc/fstab": "UUID=1-2 / ext4 errors=remount-ro 0 1\n",
    "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAAC3Nz root@sun\n",
    "etc/chrony/chrony.conf": "confdir /etc/chrony/conf.d\n",
    "usr/lib/openssi/services": "cron.service once\n",
    f"boot/vmlinuz-{_KERNEL}": "kernel",
    f"boot/openssi-initrd.img-{_KERNEL}": "initrd",
}


def _member(number: int) -> dict[str, object]:
    tags = {"node": str(number), "role": "init" if number == 1 else "node", "state": "UP", "boot": f"{number:08x}"}
    return {"name": f"node{number}", "addr": f"10.0.0.{number}:7946", "status": "alive", "tags": tags}


def room(root: Path, cache: Path, count: int) -> list[Row]:
    """Return the figures of ``count`` agents of Debian's serf, in a network namespace of their own, against their bars."""
    with (
        chroot.Chroot(chroot.base(cache, "trixie", ["serf"])) as session,
        tempfile.TemporaryDirectory(prefix="openssi-serf-") as name,
    ):
        libraries = session.path / "usr/lib/x86_64-linux-gnu"
        serf = [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, session.path / "usr/bin/serf"]
        argv = [
            "unshare", *(["--user", "--map-root-user"] if os.geteuid() != 0 else []),
            "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
            sys.executable, "-m", "openssi_build.bench.members", json.dumps([str(word) for word in serf]), name, str(count),
        ]  # fmt: skip
        figures = json.loads(run.output(argv, env={"PYTHONPATH": str(root / "src")}, timeout=1200))
    return [_row(what, value) for what, value in figures.items()]


def _row(what: str, value: float) -> Row:
    unit = what.rpartition(" ")[2]
    if unit not in _MEMBER_BARS:
        return Row(what, value, "at most", 0.0, "", None if value == 0 else 0.0)
    if "killed" not in what and unit == "s":
        return Row(what, value, "", 0.0, unit)
    return Row(what, value, "at most", _MEMBER_BARS[unit], unit, 1.0)
