"""ssi-status: the cluster on one screen."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from openssi import commands
from openssi.commands.cluster import View, view
from openssi.loads import Load
from openssi.membership import DOWN, LIVING, NEVERUP, UP
from openssi.netboot import images

_PERIOD_S = 2.0
_COLOURS = {UP: "32", DOWN: "31", NEVERUP: "90"}
_LOW_MEMORY = 0.05  # of all memory


def main(argv: Sequence[str]) -> int:
    """Print the screen once, again and again (--watch), or as JSON; 1 when something needs attention."""
    parser = argparse.ArgumentParser(
        prog="ssi-status", description="Nodes, load, memory, uptime, and what needs attention."
    )
    parser.add_argument("-w", "--watch", action="store_true", help="go on until Ctrl-C, a screen each 2 seconds")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(argv)
    root = commands.root()
    if options.json:
        now = view(root)
        print(json.dumps({"name": now.cluster.name, "nodes": facts(now), "attention": attention(root, now)}))
        return 0
    while options.watch:
        print("\033[H\033[2J" + "\n".join(screen(root, view(root), colour=True)), flush=True)
        time.sleep(_PERIOD_S)
    now = view(root)
    print("\n".join(screen(root, now, colour=sys.stdout.isatty())))
    return 1 if attention(root, now) else 0


def facts(now: View) -> list[dict[str, object]]:
    """Return what is known of each node, by number."""
    found = []
    for node in now.cluster.nodes:
        heard = now.heard.get(node.number)
        found.append(
            {
                "number": node.number,
                "nodename": now.cluster.name_of(node.number),
                "state": now.states[node.number],
                "role": now.roles[node.number],
                "address": node.ip,
                "load": heard.level if heard else None,
                "cpus": heard.cpus if heard else None,
                "memory_mib": heard.memory_mib if heard else None,
                "free_mib": heard.free_mib if heard else None,
                "uptime_s": heard.uptime_s if heard else None,
                "kernel": heard.kernel if heard else None,
            }
        )
    return found


def attention(root: Path, now: View) -> list[str]:
    """Return what a person should look at, a line each."""
    found = []
    for node in now.cluster.nodes:
        number, there = node.number, now.states[node.number]
        heard = now.heard.get(number)
        if there == DOWN:
            last = next((each for each in reversed(now.history) if each.node == number), None)
            found.append(f"node {number} is DOWN{f' since {last.when}: {last.cause}' if last else ''}")
        elif there in LIVING and heard is None:
            found.append(
                f"node {number} is {there} but does not tell its load (onnode {number} systemctl status openssi-loads)"
            )
        elif heard is not None and heard.free_mib < heard.memory_mib * _LOW_MEMORY:
            found.append(f"node {number} has {heard.free_mib} MiB of memory left")
    kernels = {each.kernel for each in now.heard.values()}
    if len(kernels) > 1:
        found.append(
            f"nodes run different kernels ({', '.join(sorted(kernels))}): ssi-shutdown --rolling boots one after the other anew"
        )
    return found + images.outdated(root)


def screen(root: Path, now: View, *, colour: bool) -> list[str]:
    """Return the lines of the screen."""
    up = sum(each == UP for each in now.states.values())
    lines = [f"{now.cluster.name or 'cluster'}: {up} of {len(now.states)} nodes UP   {time.strftime('%F %T')}", ""]
    lines.append("node  name              state      load  cpus  memory used       up for    kernel")
    for node in now.cluster.nodes:
        lines.append(_line(now, node.number, now.heard.get(node.number), colour))
    trouble = attention(root, now)
    lines += ["", "needs attention:", *(f"  {line}" for line in trouble)] if trouble else ["", "all is well"]
    rows = shutil.get_terminal_size((200, 1000)).lines
    return (
        lines
        if len(lines) < rows or not colour
        else [*lines[: rows - 2], "… (make the window larger, or ssi-status | less)"]
    )


def _line(now: View, number: int, heard: Load | None, colour: bool) -> str:
    there = now.states[number]
    star = "*" if now.roles[number] == "init" else " "
    word = there.ljust(9)
    if colour and there in _COLOURS:
        word = f"\033[{_COLOURS[there]}m{word}\033[0m"
    head = f"{number:>4}{star} {now.cluster.name_of(number):<17} {word}"
    if heard is None:
        return head.rstrip()
    used = heard.memory_mib - heard.free_mib
    memory = f"{used}/{heard.memory_mib} MiB"
    return f"{head} {heard.level:>5}  {heard.cpus:>4}  {memory:<17} {duration(heard.uptime_s):<9} {heard.kernel}"


def duration(seconds: int) -> str:
    """Return a time span in its two largest units, such as ``3 d 4 h``."""
    for size, unit, small, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // small} {part}"
    return f"{seconds} s"
