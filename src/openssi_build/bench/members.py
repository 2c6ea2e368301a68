"""Many serf agents in one network namespace, configured as a node's is: how soon a loss is seen, and what it costs.

Run as a program inside of the namespace (see openssi_build.bench.cluster): ``members SERF DIRECTORY COUNT``, where SERF
is the command as JSON. Agent N has the address 127.0.1.N; the first one tells of events. The figures go to
standard output as JSON.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openssi import run
from openssi.errors import Error

if TYPE_CHECKING:
    from subprocess import Popen

PROGRAM = Path(__file__).resolve().parents[3] / "node/usr/lib/openssi/membership"
_TICKS = os.sysconf("SC_CLK_TCK")
_VARIABLE = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")


def configuration(number: int, key: str, script: str) -> dict[str, Any]:
    """Return the agent's configuration from the text of the program that starts it on a node.

    Only what must differ on one machine is put in its place: addresses, the port of the commands, who hears of events.
    """
    text = script.split("<<EOT\n", 1)[1].split("\nEOT\n", 1)[0]
    values = {
        "number": str(number),
        "address": address(number),
        "key": key,
        "role": "init" if number == 1 else "node",
        "state": "UP",
        "boot": f"{number:08x}",
        "snapshot": "",
        "others": "" if number == 1 else f'"{address(1)}"',
        "silent": "true" if number == 1 else "false",
        "leaves": "false" if number == 1 else "true",
    }
    found: dict[str, Any] = json.loads(_VARIABLE.sub(lambda match: values[match[1] or match[2]], text))
    found["rpc_addr"] = f"{address(number)}:7373"
    found["event_handlers"] = []
    return found


def address(number: int) -> str:
    """Return the address of agent ``number``."""
    return f"127.0.1.{number}"


class Room:
    """The agents of one run."""

    def __init__(self, serf: list[str], directory: Path) -> None:
        self.serf = serf
        self.directory = directory
        self.events = directory / "events"
        self.events.touch()
        self.key = run.output([*serf, "keygen"], timeout=30).decode().strip()
        self.agents: dict[int, Popen[bytes]] = {}
        handler = directory / "handler"
        handler.write_text(
            f'#!/bin/sh\nwhile read -r name _; do echo "$(date +%s.%N) $SERF_EVENT $name"; done >>{self.events}\n'
        )
        handler.chmod(0o755)
        self.handler = f"member-join,member-failed,member-leave={handler}"

    def start(self, number: int) -> None:
        """Start agent ``number``."""
        config = configuration(number, self.key, PROGRAM.read_text())
        if number == 1:
            config["event_handlers"] = [self.handler]
        path = self.directory / f"{number}.json"
        path.write_text(json.dumps(config))
        log = self.directory / f"{number}.log"
        self.agents[number] = run.start([*self.serf, "agent", f"-config-file={path}"], log_to=log)

    def kill(self, numbers: list[int]) -> None:
        """Kill agents, as a power cut would."""
        for number in numbers:
            self.agents[number].send_signal(signal.SIGKILL)
        for number in numbers:
            self.agents.pop(number).wait()

    def end(self) -> None:
        """Kill all agents."""
        self.kill(list(self.agents))

    def seen(self) -> list[tuple[float, str, int]]:
        """Return ``(time, event, number)`` of what the first agent told so far."""
        words = (line.split() for line in self.events.read_text().splitlines())
        return [(float(when), event, int(name.removeprefix("node"))) for when, event, name in words]

    def alive(self) -> int:
        """Return how many members the first agent sees alive."""
        env = {"SERF_RPC_AUTH": self.key}
        argv = [*self.serf, "members", f"-rpc-addr={address(1)}:7373", "-format=json", "-status=alive"]
        status, out, _ = run.status(argv, env=env, timeout=30)
        return len(json.loads(out)["members"]) if status == 0 else 0

    def wait(self, event: str, numbers: set[int], since: float, seconds: float) -> float:
        """Return after how many seconds from ``since`` ``event`` was told of all ``numbers``; Error after ``seconds``."""
        while time.time() - since < seconds:
            told = {number: when for when, what, number in self.seen() if what == event and when >= since}
            if numbers <= told.keys():
                return max(told[number] for number in numbers) - since
            time.sleep(0.1)
        raise Error(f"{event} of {sorted(numbers)}: not told within {seconds:.0f} s")

    def cpu_s(self) -> float:
        """Return the processor seconds of all agents."""
        fields = (Path(f"/proc/{each.pid}/stat").read_text().rsplit(")", 1)[1].split() for each in self.agents.values())
        return sum(int(each[11]) + int(each[12]) for each in fields) / _TICKS

    def memory_mib(self) -> list[float]:
        """Return the resident memory of each agent."""
        texts = (Path(f"/proc/{each.pid}/status").read_text() for each in self.agents.values())
        return [int(match[1]) / 1024 for text in texts if (match := re.search(r"VmRSS:\s+(\d+)", text))]


def measure(room: Room, count: int) -> dict[str, float]:
    """Return the figures of a room of ``count`` agents: seconds, per cent of a processor, MiB, numbers of false alarms."""
    begun = time.time()
    for number in range(1, count + 1):
        room.start(number)
        if number == 1:
            time.sleep(1)
    while room.alive() < count:
        if time.time() - begun > 180:
            raise Error(f"{room.alive()} of {count} agents alive after 180 s")
        time.sleep(0.5)
    figures = {"all alive s": time.time() - begun}
    figures |= _idle(room, count)
    killed: set[int] = set()
    ones = []
    for number in (count, count - 1, count - 2):
        ones.append(_loss(room, {number}, killed))
    figures["one killed, slowest of three s"] = max(ones)
    figures["ten killed at once, slowest s"] = _loss(room, set(range(count - 12, count - 2)), killed)
    since = time.time()
    room.start(count)
    figures["killed and back s"] = room.wait("member-join", {count}, since, 60)
    since = time.time()
    _load(60)
    time.sleep(15)  # what was suspected under load is told by then
    downs = [number for when, what, number in room.seen() if what == "member-failed"]
    figures["false downs under load"] = len(
        [each for when, what, each in room.seen() if what == "member-failed" and when >= since]
    )
    figures["false downs in all"] = len([number for number in downs if number not in killed])
    return figures


def _idle(room: Room, count: int) -> dict[str, float]:
    time.sleep(15)
    before, since = room.cpu_s(), time.monotonic()
    time.sleep(30)
    used = (room.cpu_s() - before) / (time.monotonic() - since) * 100
    memory = room.memory_mib()
    return {
        "idle, an agent %": used / count,
        "memory, largest MiB": max(memory),
        "memory, mean MiB": sum(memory) / count,
    }


def _loss(room: Room, numbers: set[int], killed: set[int]) -> float:
    """Kill agents and return the seconds until the last of them is told of."""
    killed |= numbers
    since = time.time()
    room.kill(sorted(numbers))
    return room.wait("member-failed", numbers, since, 90)


def _load(seconds: float) -> None:
    """Keep every processor busy twice over."""
    program = f"import time; end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    loops = [run.start([sys.executable, "-c", program]) for _ in range(2 * (os.cpu_count() or 1))]
    for loop in loops:
        loop.wait()


def main(argv: list[str]) -> int:
    """Measure and print the figures."""
    serf, directory, count = json.loads(argv[0]), Path(argv[1]), int(argv[2])
    run.run(["ip", "link", "set", "lo", "up"], timeout=10)
    room = Room(serf, directory)
    try:
        sys.stdout.write(json.dumps(measure(room, count)) + "\n")
    except Error as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    finally:
        room.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
