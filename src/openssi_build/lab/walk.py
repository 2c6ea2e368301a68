"""The install guide at the consoles of virtual machines: each step typed and answered as an administrator would."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openssi.errors import Error
from openssi.qemu import Machine
from openssi_build.lab import cluster
from openssi_build.lab.cluster import Lab
from openssi_build.lab.guide import Steps
from openssi_build.lab.transcript import Transcript

PROMPT = r"^# "  # a message of the kernel may follow it
BOOT_S = 900  # at most: a Debian userland under tcg on a loaded machine
CLUSTER = "lab"
# What ssi-create asks through debconf, and the answers.
_CREATE = (
    (r"first node of a cluster now\?.*\] ?", "yes"),
    (r"Number of this node.*: ?", "1"),
    (r"Network card of the interconnect.*: ?", cluster.CARD),
    (r"Network boot protocol.*: ?", "PXE"),
    (r"virtual IP address.*: ?", ""),
    (r"Name of the cluster.*: ?", CLUSTER),
    (r"other nodes reach too\?.*\] ?", "no"),
    (r"with these answers\?.*\] ?", "yes"),
)


@dataclass
class Walk:
    """The way through the guide's ``steps`` on the machines of a lab; what is typed and said goes into ``transcript``."""

    lab: Lab
    steps: Steps
    transcript: Transcript = field(default_factory=Transcript)

    @property
    def one(self) -> Machine:
        """The first node."""
        return self.lab.machines[1]

    def ok(self, line: str, timeout: float = 300, on: int = 1) -> str:
        """Type ``line`` on a node's console; return what it says. Error unless it exits 0."""
        machine = self.lab.machines[on]
        before = _ready(machine)
        status, said = machine.command(line, timeout)
        self.transcript.add(machine.name, f"# {machine.text[before:]}")
        if status != 0:
            raise Error(
                f"{machine.name}: {line}: exit status {status}: {said.strip()[-500:]}", hint=f"see {machine.log}"
            )
        return said

    def follow(self, step: str, timeout: float = 300) -> str:
        """Type every line of a step of the guide on the first node; return what the last one says."""
        said = ""
        for line in self.steps[step]:
            said = self.ok(line, timeout)
        return said

    def append(self, path: str, lines: Sequence[str]) -> None:
        """Append ``lines`` to a file of the first node."""
        self.dialogue(f"cat >>{path} <<'END'", [(r"^> ", line) for line in [*lines, "END"]], PROMPT, 60, pause=0)

    def dialogue(
        self,
        line: str,
        answers: Sequence[tuple[str, str]],
        end: str,
        timeout: float,
        *,
        pause: float = 0.5,  # what asks may drop what was typed before
    ) -> None:
        """Type ``line`` on the first node, answer each question as its pattern comes, and wait until ``end`` is said."""
        before = _ready(self.one)
        self.one.send(f"{line}\n")
        for question, answer in answers:
            self.one.wait(question, timeout)
            time.sleep(pause)
            self.one.send(f"{answer}\n")
        self.one.wait(end, timeout)
        self.transcript.add(self.one.name, f"# {self.one.text[before:]}", keep=[question for question, _ in answers])

    def until(self, line: str, pattern: str, timeout: float, on: int = 1) -> str:
        """Repeat ``line`` until what it says matches ``pattern``; return that."""
        machine = self.lab.machines[on]
        end = time.monotonic() + timeout
        while True:
            before = _ready(machine)
            _, said = machine.command(line, 120)
            if re.search(pattern, said, re.MULTILINE):
                self.transcript.add(machine.name, f"# {machine.text[before:]}")
                return said
            if time.monotonic() > end:
                raise Error(f"{machine.name}: {line}: no {pattern!r} in {timeout} s: {said.strip()[-500:]}")
            time.sleep(2)

    def boot(self, disk: Path, *, extra: Sequence[str] = ()) -> None:
        """Section 1: start the machine that Debian was installed on."""
        self.lab.first(disk, extra=extra)
        self.one.wait(PROMPT, BOOT_S)

    def give_address(self) -> None:
        """Step 1.4: the card on the interconnect gets its static address."""
        self.append("/etc/network/interfaces", self.steps["step-1-4"])
        self.follow("step-1-4-up")

    def name_the_repository(self) -> None:
        """Step 2.1: the key, and the lines of the sources."""
        self.follow("step-2-1")
        self.append("/etc/apt/sources.list", self.steps["step-2-1-line"])

    def pin_the_repository(self) -> None:
        """Step 2.2: the pin."""
        self.append("/etc/apt/preferences", self.steps["step-2-2"])

    def upgrade(self) -> None:
        """Step 2.4: the packages that the cluster has versions of its own of are exchanged."""
        *prepared, upgrade = self.steps["step-2-4"]
        for line in prepared:
            self.ok(f"{line} 2>&1 | cat")
        self.dialogue(upgrade, [(r"DOWNGRADED:\s+libproc2-0 procps[\s\S]*\[Y/n\] ", "y")], PROMPT, 600)

    def install(self) -> None:
        """Step 2.6: the package asks its questions and makes the first node."""
        questions = [(r"\[Y/n\] ", "y"), *_CREATE]
        ready = rf"This machine is node 1 of {CLUSTER}\. Reboot it[\s\S]*?{PROMPT}"
        self.dialogue(self.steps["step-2-6"][0], questions, ready, 900)

    def restart(self) -> None:
        """Step 2.7: the first node comes back as the init node."""
        line = self.steps["step-2-7"][0]
        self.one.send(f"{line}\n")
        self.transcript.add(self.one.name, f"# {line}")
        self.come_back()
        self.until("cluster -v", r"^1: UP +node1 +10\.10\.0\.1 init", BOOT_S)

    def come_back(self) -> None:
        """Wait until the first node, which was told to reboot, has done so."""
        self.lab.rebooted(1)
        self.one.wait("login: root", BOOT_S)
        self.one.wait(PROMPT, BOOT_S)

    def meet(self, number: int, argv: Sequence[str]) -> None:
        """Step 3.3: start a machine by its qemu command; it says its address and waits."""
        machine = self.lab.start(number, argv)
        machine.wait(rf"ssi: this machine: {cluster.mac(number)}", BOOT_S)
        machine.wait(r"waiting to be added.*\n", BOOT_S)
        self.transcript.add(machine.name, machine.text, edges=2, keep=[r"\bssi: "])

    def add(self, number: int, *, name: str = "", protocol: str = "") -> None:
        """Step 3.4: ssi-addnode offers the machine that waits; it goes on by itself, and the membership is right."""
        answers = (
            (r"Node number.*: $", str(number)),
            (rf"1\) {cluster.mac(number)}[\s\S]*escan.*: $", "1"),
            (r"Address on the interconnect.*: $", ""),
            (r"\(P\)XE or \(E\)therboot.*: $", protocol),
            (r"Nodename.*: $", name),
            (r"Save.*: $", "y"),
        )
        name = name or f"node{number}"
        self.dialogue(self.steps["step-3-4"][0], answers, rf"node {number} \({name}\) is in the cluster.*\n", 120)
        self.joined(number, name)

    def joined(self, number: int, name: str) -> None:
        """Wait until the init node's console tells of the node and the membership has it as UP."""
        before = len(self.one.text)
        self.one.wait(rf"nodeup {number}\b", BOOT_S)
        self.transcript.add(self.one.name, self.one.text[before:], edges=2, keep=["nodeup"])
        self.one.send("\n")
        pattern = rf"^{number}: UP +{name} +10\.10\.0\.{number} node"
        self.until(self.steps["step-3-4-verify"][0], pattern, BOOT_S)


def _ready(machine: Machine) -> int:
    """Return how much the console has said when the shell's prompt stands there, or after seconds without one."""
    end = time.monotonic() + 5
    while not machine.text.endswith("# ") and time.monotonic() < end:
        time.sleep(0.05)
    return len(machine.text)
