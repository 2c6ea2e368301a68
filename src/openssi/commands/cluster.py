"""cluster: who is in the cluster, and what is known of a node."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openssi import commands, loads, membership
from openssi.cluster import state
from openssi.membership import UP, Transition


@dataclass(frozen=True)
class View:
    """The cluster at one moment: its table, the state and role of each node, history and loads."""

    cluster: state.Cluster
    states: dict[int, str]
    roles: dict[int, str]
    history: list[Transition]
    heard: dict[int, loads.Load]


def view(root: Path) -> View:
    """Return the cluster as this node sees it; Error when it is none, or membership does not run."""
    cluster = state.load(root)
    seen = membership.members(root)
    history = membership.history(root)
    states = membership.states((node.number for node in cluster.nodes), seen, membership.latest(history))
    roles = {node.number: seen[node.number].role if node.number in seen else "-" for node in cluster.nodes}
    return View(cluster, states, roles, history, loads.read(root))


def main(argv: Sequence[str]) -> int:
    """Print what was asked for: numbers of nodes that are UP, the list (-v), one node (-V N), JSON."""
    parser = argparse.ArgumentParser(prog="cluster", description="Who is in the cluster.")
    parser.add_argument("-v", "--verbose", action="store_true", help="all nodes: number, state, name, address, role")
    parser.add_argument("-V", "--node", help="all that is known of this node, by number or name")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(argv)
    now = view(commands.root())
    if options.node is not None:
        number = now.cluster.find(options.node).number
        facts = details(now, number)
        print(
            json.dumps(facts)
            if options.json
            else "\n".join([f"Node {number}:", *(f"{k}: {v}" for k, v in facts.items())])
        )
    elif options.json:
        print(json.dumps({"name": now.cluster.name, "nodes": [row(now, node.number) for node in now.cluster.nodes]}))
    elif options.verbose:
        print("\n".join(listing(now)))
    else:
        print(" ".join(str(number) for number, each in now.states.items() if each == UP))
    return 0


def row(now: View, number: int) -> dict[str, object]:
    """Return a node's line as a mapping."""
    node = now.cluster.node(number)
    return {
        "number": number,
        "state": now.states[number],
        "nodename": now.cluster.name_of(number),
        "address": node.ip,
        "role": now.roles[number],
    }


def listing(now: View) -> list[str]:
    """Return the lines of ``cluster -v``, columns aligned."""
    rows = [[str(value) for value in row(now, node.number).values()] for node in now.cluster.nodes]
    rows = [[f"{number}:", *rest] for number, *rest in rows]
    widths = [max(len(each[column]) for each in rows) for column in range(5)] if rows else []
    return [
        " ".join([each[0].rjust(widths[0]), *(c.ljust(w) for c, w in zip(each[1:], widths[1:], strict=True))]).rstrip()
        for each in rows
    ]


def details(now: View, number: int) -> dict[str, object]:
    """Return OpenSSI's keys of a node, then those of ours."""
    node = now.cluster.node(number)
    own = [each for each in now.history if each.node == number]
    heard = now.heard.get(number)
    last, first = (own[-1], own[0]) if own else (None, None)
    return {
        "State": now.states[number],
        "Previous state": last.old if last else "-",
        "Reason for last transition": last.cause if last else "-",
        "Last transition ID": last.id if last else "-",
        "Last transition time": last.when if last else "-",
        "First transition ID": first.id if first else "-",
        "First transition time": first.when if first else "-",
        "Number of CPUs": heard.cpus_configured if heard else "-",
        "Number of CPUs online": heard.cpus if heard else "-",
        "Nodename": now.cluster.name_of(number),
        "Address": node.ip,
        "MAC": node.mac,
        "Network boot": {"P": "PXE", "E": "Etherboot"}[node.protocol],
        "Role": now.roles[number],
        "May be the init node": "yes" if node.initnode else "no",
        "Local boot device": node.bootdev or "-",
        "Kernel": heard.kernel if heard else "-",
        "Memory": f"{heard.memory_mib} MiB" if heard else "-",
        "Load": heard.level if heard else "-",
    }
