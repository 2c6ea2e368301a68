"""`inv lab`: a trial cluster from nothing, left running, and the tasks that look at it, reach its consoles and end it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from openssi import run
from openssi.errors import Error
from openssi.qemu import Machine, accelerator
from openssi_build import build
from openssi_build.lab import cluster, image
from openssi_build.lab.cluster import Lab
from openssi_build.settings import Settings

WAYS = ("pxe", "uefi")
_STATE = "lab.json"
_PROMPT = r"^# $"
_SLOW = {"kvm": 1, "tcg": 4}  # how much longer a guest takes than it does natively
_ANSWERS = {
    "create": "boolean true",
    "node-number": "string 1",
    "interconnect": "select enp0s17",
    "boot-protocol": "select PXE",
    "cvip": "string",
    "clustername": "string lab",
    "root-failover": "boolean false",
    "save": "boolean true",
}
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


def start(root: Path, cache: Path, settings: Settings, *, nodes: int = 3, boot: str = "pxe") -> None:
    """Make a cluster of ``nodes`` machines below ``out/lab`` and leave it running; Error when one runs there already."""
    ways = _ways(boot)
    if not 1 <= nodes <= 9:
        raise Error(f"--nodes {nodes}: expected 1 to 9")
    directory = root / "out/lab"
    if _alive(directory):
        raise Error(f"{directory}: a cluster runs there", hint="inv lab-stop ends it")
    shutil.rmtree(directory, ignore_errors=True)
    console = Console()
    say = _Progress(console)
    say("Debian disk of the first node", 120)
    disk = image.disk(cache, image.Machine(), log_to=root / "out/log/lab-disk.log")
    say("packages and repository", 120)
    repo = build.repository_by_content(root, cache, settings)
    with Lab(directory, repo, lasting=True) as lab:
        _first(lab, disk, say)
        for number in range(2, nodes + 1):
            _node(lab, number, ways[number % len(ways)], say)
        _write_state(lab)
        say("cluster -v on the first node", 0)
        console.print(lab.machines[1].command("cluster -v", 60)[1].rstrip(), highlight=False, markup=False)
    console.print(
        "It runs on: inv lab-status, inv lab-console --node N (end with Ctrl-]), inv lab-stop", highlight=False
    )


class _Progress:
    """Says each step with its time and how long it usually takes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def __call__(self, what: str, usual: float) -> None:
        passed = time.monotonic() - self._began
        about = f" (usually {usual:.0f} s)" if usual else ""
        self._console.print(f"{passed:5.0f} s  {what}{about}", highlight=False, markup=False)


def _ways(boot: str) -> Sequence[str]:
    if boot == "mixed":
        return WAYS
    if boot not in WAYS:
        raise Error(f"--boot {boot}: expected one of {', '.join((*WAYS, 'mixed'))}")
    return (boot,)


def _first(lab: Lab, disk: Path, say: Callable[[str, float], None]) -> None:
    """Boot the first node, install openssi as the guide says, and reboot."""
    slow = _SLOW[accelerator()]
    say(f"first node boots ({accelerator()})", 12 * slow)
    one = lab.first(disk)
    one.wait(_PROMPT, 900)
    say("apt-get install openssi", 25 * slow)
    key = "/usr/share/keyrings/openssi-archive-keyring.gpg"
    _typed(one, f"/usr/lib/apt/apt-helper download-file {lab.url}/openssi-archive-keyring.gpg {key}")
    _typed(one, f"echo 'deb [signed-by={key}] {lab.url} ./' >>/etc/apt/sources.list")
    _typed(one, "printf 'Package: *\\nPin: release o=OpenSSI\\nPin-Priority: 1001\\n' >>/etc/apt/preferences")
    _typed(one, "apt-get -q update && apt-get -qy --allow-downgrades dist-upgrade", 900)
    lines = "".join(f"openssi openssi/{key} {value}\\n" for key, value in _ANSWERS.items())
    _typed(one, f"printf '{lines}' | debconf-set-selections")
    _typed(one, "DEBIAN_FRONTEND=noninteractive apt-get -qy install openssi", 1800)
    _typed(one, "test -e /etc/clustertab")
    say("first node reboots as the init node", 14 * slow)
    one.send("reboot\n")
    lab.rebooted(1)
    one.wait("login: root", 900)
    one.wait(_PROMPT, 300)


def _node(lab: Lab, number: int, way: str, say: Callable[[str, float], None]) -> None:
    """Boot an empty machine, add it, and wait until it is up."""
    say(f"node {number} boots by {way}", 15 * _SLOW[accelerator()])
    extra = uefi_words(lab.directory, number) if way == "uefi" else ()
    machine = lab.start(number, cluster.node_command(number, lab.switch, extra=extra))
    machine.wait("waiting to be added", 900)
    one = lab.machines[1]
    _typed(one, f"ssi-addnode --yes --node-number {number} --mac {cluster.mac(number)}")
    one.wait(f"nodeup {number}", 900)
    one.send("\n")
    one.wait(_PROMPT, 60)


def uefi_words(directory: Path, number: int) -> list[str]:
    """Return the words that give a machine UEFI firmware, with its own variables in ``directory``."""
    variables = directory / f"node{number}.vars"
    if not FIRMWARE.exists():
        raise Error(f"{FIRMWARE}: not there", hint="apt install ovmf")
    shutil.copyfile(VARIABLES, variables)
    return [
        "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}",
        "-drive", f"if=pflash,format=raw,file={variables}",
    ]  # fmt: skip


def _typed(machine: Machine, line: str, timeout: float = 300) -> str:
    status, said = machine.command(line, timeout)
    if status != 0:
        raise Error(f"{machine.name}: {line}: exit status {status}: {said.strip()[-500:]}", hint=f"see {machine.log}")
    return said


def _write_state(lab: Lab) -> None:
    state = {"helpers": lab.helpers(), "machines": {number: each.pid for number, each in lab.machines.items()}}
    (lab.directory / _STATE).write_text(json.dumps(state))


def _state(directory: Path) -> tuple[list[int], dict[int, int]]:
    """Return the process numbers of the helpers, and of the machines by their numbers."""
    try:
        state = json.loads((directory / _STATE).read_text())
    except FileNotFoundError:
        return [], {}
    return state["helpers"], {int(number): pid for number, pid in state["machines"].items()}


def _is_ours(pid: int, directory: Path) -> bool:
    """Return True when the process is still the one that was started for ``directory``: numbers are used again."""
    try:
        return os.fsencode(directory) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _alive(directory: Path) -> list[int]:
    _, machines = _state(directory)
    return [number for number, pid in machines.items() if _is_ours(pid, directory)]


def stop(root: Path) -> list[int]:
    """Cut the power of the cluster below ``out/lab``; return the machines that ran. Their disks stay."""
    directory = root / "out/lab"
    running = _alive(directory)
    helpers, machines = _state(directory)
    for pid in (*machines.values(), *helpers):
        if _is_ours(pid, directory):
            os.kill(pid, signal.SIGTERM)
    (directory / _STATE).unlink(missing_ok=True)
    return running


def status(root: Path) -> list[str]:
    """Return a line for each machine: whether it runs, its process, the last line of its console."""
    directory = root / "out/lab"
    alive = _alive(directory)
    lines = []
    for number, pid in sorted(_state(directory)[1].items()):
        log = directory / f"node{number}.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        said = [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines() if line.strip(" #\r")]
        what = f"runs, pid {pid}" if number in alive else "ended"
        lines.append(f"node{number}: {what}: {said[-1].strip()[:100] if said else '(nothing said)'}")
    return lines or ["no trial cluster: inv lab starts one"]


def console(root: Path, number: int) -> int:
    """Join our terminal to the console of a machine until Ctrl-]; return the exit status."""
    directory = root / "out/lab"
    if number not in _alive(directory):
        known = ", ".join(map(str, _alive(directory))) or "none"
        raise Error(f"node {number}: does not run (running: {known})", hint="inv lab starts the cluster")
    path = Machine(f"node{number}", [], directory, lasting=True).console_socket
    print(f"console of node {number}; Ctrl-] leaves it")  # noqa: T201 - it is a terminal's program
    return run.interactive(["socat", "-,raw,echo=0,escape=0x1d", f"UNIX-CONNECT:{path}"])
