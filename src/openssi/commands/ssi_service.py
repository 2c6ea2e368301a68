"""ssi-service: show and change which services run on every node, once per cluster, or on some nodes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from openssi import commands, membership, remote, services
from openssi.cluster import state
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """List the policy, or set or forget one unit's line; ``--now`` starts and stops the unit accordingly."""
    parser = argparse.ArgumentParser(
        prog="ssi-service",
        description="Which services run where: every (node), init (node), once (per cluster), none, or node numbers such as 2:3.",
    )
    parser.add_argument("--now", action="store_true", help="start and stop the unit on the nodes at once")
    parser.add_argument("action", nargs="?", choices=("list", "set", "reset"), default="list")
    parser.add_argument("unit", nargs="?", help="cron, cron.service, backup.timer …")
    parser.add_argument("scope", nargs="?", help="every, init, once, none or 2:3")
    options = parser.parse_args(argv)
    root = commands.root()
    if options.action == "list":
        return show(root, options.unit)
    if options.unit is None or (options.action == "set") == (options.scope is None):
        parser.error(f"{options.action}: expected UNIT{' SCOPE' if options.action == 'set' else ''}")
    name = services.unit(options.unit)
    wanted = services.scope(options.scope) if options.action == "set" else None
    with state.locked(root):
        services.change(root, name, wanted)
    rule = services.load(root).get(name)
    print(f"{name}: {rule.scope if rule else 'only where systemd has it enabled on the init node'}")
    if options.now:
        return apply(root, name, rule)
    print("Nodes do so when they boot next; with --now at once.")
    return 0


def show(root: Path, only: str | None) -> int:
    """Print unit, scope and file of each rule, or of ``only`` one; 1 when that has none."""
    rules = services.load(root)
    if only is not None:
        name = services.unit(only)
        if name not in rules:
            print(
                f"ssi-service: {name}: no rule; it runs only where systemd has it enabled on the init node",
                file=sys.stderr,
            )
            return 1
        rules = {name: rules[name]}
    width = max((len(name) for name in rules), default=0)
    for name, rule in rules.items():
        mark = "" if rule.source.endswith(services.SHIPPED) else "  (set here)"
        print(f"{name.ljust(width)}  {rule.scope}{mark}")
    return 0


def apply(root: Path, name: str, rule: services.Rule | None) -> int:
    """Make the nodes that are up run the unit or not, after they have read the policy; 1 when one could not."""
    there = {n: each for n, each in membership.members(root).items() if each.state in membership.LIVING}
    failed = 0
    for number, member in sorted(there.items()):
        init = member.role == "init"
        runs = rule.runs_on(number, init=init) if rule else init
        for words in (["systemctl", "daemon-reload"], ["systemctl", "start" if runs else "stop", name]):
            answer = remote.on_node(number, words, timeout=120)
            if answer.status != 0:
                failed = 1
                print(f"ssi-service: node {number}: {answer.output.decode(errors='replace').strip()}", file=sys.stderr)
    if not there:
        raise Error("no node is up", hint="cluster -v")
    return failed
