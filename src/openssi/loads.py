"""The load of every node, on every node: one datagram a node each two seconds, kept in /run/ssi/loads.json.

The datagrams go by broadcast on the interconnect from and to a port that only root may use; what comes from another
port or from an address that is no node's is dropped, so no user can speak for a node.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "run/ssi/loads.json"
PORT = 799  # UDP; below 1024, and not assigned by IANA (780-799)
PERIOD_S = 2.0
STALE_S = 8.0  # four datagrams lost
_LARGEST = 1000  # bytes of a datagram


@dataclass(frozen=True)
class Load:
    """What one node says: its load average of one minute, processors, memory in MiB, seconds up, kernel, time said.

    ``load`` is runnable and waiting tasks a processor; ``when`` is the receiver's clock.
    """

    number: int
    load: float
    cpus: int
    cpus_configured: int
    memory_mib: int
    free_mib: int
    uptime_s: int
    kernel: str
    tasks: int
    when: float = 0.0

    @property
    def level(self) -> int:
        """The number of OpenSSI's loads: 100 is one task a processor."""
        return round(self.load * 100)


def measure(root: Path, number: int) -> Load:
    """Return this node's load now, from /proc of the tree ``root``."""
    average, _, _, running, _ = (root / "proc/loadavg").read_text().split()
    memory = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines() if ":" in line)
    cpus = os.cpu_count() or 1
    return Load(
        number=number,
        load=round(float(average) / cpus, 2),
        cpus=cpus,
        cpus_configured=_configured(root) or cpus,
        memory_mib=int(memory["MemTotal"].split()[0]) // 1024,
        free_mib=int(memory["MemAvailable"].split()[0]) // 1024,
        uptime_s=int(float((root / "proc/uptime").read_text().split()[0])),
        kernel=platform.release(),
        tasks=int(running.split("/")[1]),
    )


def _configured(root: Path) -> int:
    """Return the number of processors that are there, online or not (sysfs ``present``: ranges such as 0-3,6)."""
    try:
        text = (root / "sys/devices/system/cpu/present").read_text()
    except OSError:
        return 0
    bounds = [each.split("-") for each in text.strip().split(",") if each]
    return sum(int(each[-1]) - int(each[0]) + 1 for each in bounds)


def encode(load: Load) -> bytes:
    """Return ``load`` as a datagram."""
    return json.dumps({key: value for key, value in asdict(load).items() if key != "when"}).encode()


def decode(datagram: bytes, when: float) -> Load:
    """Return the load that a datagram holds; ValueError for anything else."""
    if len(datagram) > _LARGEST:
        raise ValueError(f"{len(datagram)} bytes: expected at most {_LARGEST}")
    said = json.loads(datagram)
    if not isinstance(said, dict):
        raise ValueError("expected an object")
    whole = ("number", "cpus", "cpus_configured", "memory_mib", "free_mib", "uptime_s", "tasks")
    if set(said) != {*whole, "load", "kernel"} or not all(type(said[key]) is int for key in whole):
        raise ValueError("not the fields of a load")
    if type(said["load"]) not in (int, float) or type(said["kernel"]) is not str:
        raise ValueError("not a load")
    if not said["kernel"].isprintable():
        raise ValueError("kernel: not printable")
    return Load(**said, when=when)


def dump(loads: Mapping[int, Load]) -> str:
    """Return the loads as the text of the file."""
    return json.dumps([asdict(loads[number]) for number in sorted(loads)]) + "\n"


def read(root: Path, now: float | None = None) -> dict[int, Load]:
    """Return the loads by number that are not older than 8 seconds; empty when nobody exchanges them."""
    try:
        said = json.loads((root / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    limit = (time.time() if now is None else now) - STALE_S
    return {each["number"]: Load(**each) for each in said if each["when"] >= limit}


def least(loads: Mapping[int, Load]) -> int | None:
    """Return the node with the least load, of equals the one with more free memory, then the lower number."""
    if not loads:
        return None
    best = min(loads.values(), key=lambda each: (each.load, -each.free_mib, each.number))
    return best.number
