"""The tasks for a trial cluster that runs: look at it, use its consoles, switch a machine off and on, end it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

from openssi import files, run
from openssi.errors import Error
from openssi.qemu import Machine
from openssi_build.lab import running, transcript
from openssi_build.lab.cluster import Lab
from openssi_build.lab.running import Powered

_TAIL = 4096


def directory(root: Path) -> Path:
    """Return where the trial cluster of the tree ``root`` lies."""
    return root / "out/lab"


def clear(root: Path) -> None:
    """Remove what an ended trial cluster has left."""
    shutil.rmtree(directory(root), ignore_errors=True)


def hand_over(lab: Lab) -> None:
    """Make the cluster one for people: consoles as wide as their terminal, names in the prompts, reboots that come back."""
    size = shutil.get_terminal_size()
    lines = [f"stty rows {size.lines} columns {size.columns} 2>/dev/null", r"PS1='\h# '"]
    one = lab.machines[1]
    one.command("printf '%s\\n' " + " ".join(run.pasteable([line]) for line in lines) + " >/root/.profile")
    for machine in (each for each in lab.machines.values() if each.running):
        machine.send(". /root/.profile\n")
        machine.wait(r"^\S+# ", 60)
        # While it was made, a reboot had to end the machine: see Lab.rebooted().
        machine.monitor("set-action", reboot="reset")


def stop(root: Path) -> list[int]:
    """Cut the power of the trial cluster and remove its disks; return the machines that ran. What was said stays in out/log."""
    where = directory(root)
    running_ones = running.end(where)
    logs = root / "out/log/lab"
    logs.mkdir(parents=True, exist_ok=True)
    for log in where.glob("*.log"):
        log.replace(logs / log.name)
    clear(root)
    return running_ones


def last_line(log: Path) -> str:
    """Return the last line with words in it that a console said, as plain text."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        text = transcript.plain(stream.read().decode("utf-8", "replace"))
    lines = [line.strip() for line in text.splitlines() if re.search(r"\w", line)]
    return lines[-1] if lines else ""


def status(root: Path) -> list[str]:
    """Return a line for each machine and helper: whether it runs, its place in the cluster, the last line of its console."""
    where = directory(root)
    state = running.recall(where)
    if not state.machines:
        return ["no trial cluster: inv lab starts one"]
    alive = running.alive(where)
    heard = transcript.plain((where / "node1.log").read_text(errors="replace"))
    lines = [f"{'machine':<11} {'power':<6} {'cluster':<9} console says"]
    for number in sorted(state.machines):
        told = re.findall(rf"\b(nodeup|nodedown) {number}\b", heard)
        member = "init node" if number == 1 else told[-1] if told else ""
        power = "on" if number in alive else "off"
        lines.append(f"node{number:<7} {power:<6} {member:<9} {last_line(where / f'node{number}.log')[:100]}")
    for name, pid in state.helpers.items():
        lines.append(f"{name:<11} {'on' if running.is_ours(pid, where) else 'off'}")
    return lines


def _known(where: Path, number: int) -> Powered:
    machines = running.recall(where).machines
    if number not in machines:
        known = ", ".join(map(str, sorted(machines)))
        hint = f"there are {known}" if known else "inv lab starts a trial cluster"
        raise Error(f"node {number}: no such machine", hint=hint)
    return machines[number]


def console(root: Path, number: int) -> int:
    """Join our terminal to the console of a machine until Ctrl-]; return the exit status."""
    where = directory(root)
    _known(where, number)
    if number not in running.alive(where):
        raise Error(f"node {number}: it is switched off", hint=f"inv lab-power {number} switches it on")
    path = Machine(f"node{number}", [], where, lasting=True).console_socket
    # A second one would wait without a word: qemu speaks with one at a time.
    with files.lock(where / f"node{number}.lock", timeout=0):
        print(f"Console of node {number}; Ctrl-] leaves it, Return shows the prompt.")  # noqa: T201 - for a terminal
        return run.interactive(["socat", "-,raw,echo=0,escape=0x1d", f"UNIX-CONNECT:{path}"])


def power(root: Path, number: int) -> str:
    """Switch a machine off if it is on, then on; return what was done."""
    where = directory(root)
    known = _known(where, number)
    was_on = number in running.alive(where)
    running.kill([known.pid], where)
    machine = Machine(f"node{number}", known.argv, where, lasting=True)
    machine.start()
    machine.monitor("set-action", reboot="reset")
    machine.detach()
    state = running.recall(where)
    machines = {**state.machines, number: replace(known, pid=machine.pid)}
    running.remember(where, replace(state, machines=machines))
    return f"node{number}: switched {'off and on' if was_on else 'on'}"
