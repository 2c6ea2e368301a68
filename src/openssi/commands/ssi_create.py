"""ssi-create: make this machine the first node of a cluster, or give it back."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from openssi import ask, run
from openssi.ask import Console
from openssi.cluster import answers, blocks, create, nics, state, table
from openssi.cluster.answers import Answers, Complete
from openssi.cluster.journal import Journal
from openssi.cluster.nics import Nic
from openssi.commands import root as commands_root
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """Ask what is not given, check, show the plan or do it."""
    options = _parser().parse_args(argv)
    root = commands_root()
    if options.undo:
        return _undo(root, options)
    _may(root)
    found = nics.configured if run.find("ip") else list
    if options.cards:
        return _show_cards(found())
    given = _given(options)
    asks = ask.at_console() and not options.yes
    if asks:
        given = _ask(root, Console(), given, found)
    given = answers.merged(Answers(kernel_arguments=_consoles(root)), given)
    complete = answers.check(given, found(), _resolved(root, given))
    if options.check:
        create.plan(root, complete, Journal(root))
        print(*create.summary(complete), sep="\n")
        return 0
    if options.dry_run:
        return _show(root, complete)
    if asks and not _confirmed(Console(), complete):
        return 1
    return _make(root, complete)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ssi-create", description="make this machine the first node of a cluster")
    ask_flag = parser.add_argument_group("answers (what is not given is asked for at a console)")
    ask_flag.add_argument("--answers", type=Path, metavar="FILE", help="a TOML file of answers; flags win over it")
    ask_flag.add_argument("--node-number", type=int, metavar="N", help=f"1 to {table.HIGHEST}")
    ask_flag.add_argument("--interconnect", metavar="CARD", help="name of the card, with a static address")
    ask_flag.add_argument("--boot-protocol", metavar="P|E", help="PXE or Etherboot")
    ask_flag.add_argument("--cvip", metavar="ADDRESS", help="the cluster's virtual address; empty: none")
    ask_flag.add_argument("--clustername", metavar="NAME", help="resolves to the CVIP")
    ask_flag.add_argument("--root-failover", type=_yes, metavar="yes|no", help="may other nodes take over the root?")
    ask_flag.add_argument("--service-address", metavar="ADDRESS", help="where the root is served (default: the last)")
    ask_flag.add_argument("--pool", metavar="FIRST-LAST", help="addresses for machines that wait to be added")
    ask_flag.add_argument("--kernel-arguments", metavar="WORDS", help="for every node, such as console=ttyS0,115200")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done")
    parser.add_argument("--check", action="store_true", help="only check the answers and sum them up")
    parser.add_argument("--cards", action="store_true", help="list the network cards that have an address")
    parser.add_argument("--undo", action="store_true", help="give the machine back as it was")
    parser.add_argument("--force", action="store_true", help="undo though there are other nodes")
    return parser


def _show_cards(found: Sequence[Nic]) -> int:
    for nic in found:
        print(nic)
    return 0


def _yes(text: str) -> bool:
    try:
        return ask.yes_or_no(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _may(root: Path) -> None:
    if not state.is_init_node(root):
        raise Error("this is not the init node", hint="onnode INITNODE ssi-create …")


def _given(options: argparse.Namespace) -> Answers:
    """Return the answers of the flags, and under them those of the file."""
    flags = Answers(
        options.node_number,
        options.interconnect,
        options.boot_protocol,
        options.cvip,
        options.clustername,
        options.root_failover,
        options.service_address,
        options.pool,
        options.kernel_arguments,
    )
    return answers.merged(answers.read(options.answers), flags) if options.answers else flags


def _ask(root: Path, console: Console, given: Answers, found: Callable[[], list[Nic]]) -> Answers:
    """Return ``given`` with its gaps filled at the console, in the order of the guide."""
    before = _before(root)
    number, nic, protocol, cvip, name, failover = (
        given.node_number,
        given.interconnect,
        given.boot_protocol,
        given.cvip,
        given.clustername,
        given.root_failover,
    )
    if number is None:
        number = console.ask(f"Node number, 1 to {table.HIGHEST}", table.number, str(before.node_number or 1))
    if nic is None:
        none = "no card has an address; configure one in another terminal, then R"
        nic = console.choose("Card for the interconnect, a private network", found, _card, none).name
    if protocol is None:
        protocol = console.ask(
            "Network boot by (P)XE or (E)therboot",
            lambda text: table.protocol(text.upper()),
            before.boot_protocol or "P",
        )
    if cvip is None:
        cvip = console.ask(
            "Cluster virtual IP address (CVIP), none: empty",
            lambda text: answers.virtual("" if text == "none" else text, found()) or "",
            before.cvip or None,
        )
    if name is None:
        name = console.ask("Clustername", answers.hostname, before.clustername)
    if failover is None:
        failover = console.yes("Root failover (the root is on a disk that other nodes reach too)", default=False)
    asked = Answers(number, nic, protocol, cvip, name, failover)
    return answers.merged(before, answers.merged(given, asked))


def _consoles(root: Path) -> str:
    """Return the consoles that this machine's kernel was told: a room with serial lines has them on every node."""
    path = Path("/proc/cmdline")
    if root != Path("/") or not path.exists():
        return ""
    return " ".join(word for word in path.read_text().split() if word.startswith("console="))


def _card(text: str, found: Sequence[Nic]) -> Nic:
    return answers.card(text, found)


def _before(root: Path) -> Answers:
    """Return the answers of the cluster that is there already, as defaults."""
    if not state.exists(root):
        return Answers()
    cluster = state.load(root)
    own, settings = cluster.init_node, cluster.settings
    return Answers(
        node_number=own.number,
        boot_protocol=own.protocol,
        cvip=settings.cvip,
        clustername=cluster.name,
        service_address=settings.service_address,
        pool="-".join(settings.pool) or None,
        kernel_arguments=settings.kernel_arguments,
    )


def _resolved(root: Path, given: Answers) -> dict[str, str]:
    """Return what the clustername leads to by the administrator's lines of /etc/hosts or by DNS, if anything."""
    name = given.clustername or ""
    if not re.fullmatch(r"[\w.-]+", name):
        return {}
    path = root / "etc/hosts"
    text = blocks.strip(path.read_text(errors="replace"), "/etc/hosts") if path.exists() else ""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if name in words[1:]:
            return {name: words[0]}
    if root != Path("/") or not run.find("getent"):
        return {}
    try:
        status, out, _ = run.status(["getent", "-s", "dns", "ahostsv4", name], timeout=5)
    except Error:
        return {}  # a resolver that does not answer knows nothing
    return {name: out.split()[0].decode()} if status == 0 and out else {}


def _confirmed(console: Console, complete: Complete) -> bool:
    for line in create.summary(complete):
        console.say(f"  {line}")
    console.say("  Time is kept by chrony: every node follows the init node (ssi-timesync forces it).")
    return console.yes("Make this machine the first node", default=True)


def _show(root: Path, complete: Complete) -> int:
    for line in create.summary(complete):
        print(line)
    for step in create.plan(root, complete, Journal(root)):
        print(f"would make: {step.title}")
    print(*create.firewall(complete.nic.name), sep="\n")
    return 0


def _make(root: Path, complete: Complete) -> int:
    failed = create.make(root, complete, print)
    print(*create.firewall(complete.nic.name), sep="\n")
    for line in failed:
        print(f"warning: {line}")
    print(f"This machine is node {complete.number} of {complete.clustername}. Reboot it; then add nodes: ssi-addnode")
    return 0


def _undo(root: Path, options: argparse.Namespace) -> int:
    _may(root)
    journal = Journal(root)
    if options.dry_run:
        for entry in reversed(journal.entries):
            print(f"would restore: /{entry.path} ({entry.was} before)")
        return 0
    if not journal.entries:
        print("Nothing to undo: ssi-create made nothing here.")
        return 0
    others = _others(root)
    if others and not options.force:
        raise Error(f"the cluster has other nodes: {others}", hint="ssi-rmnode them first, or --undo --force")
    question = "Give the machine back as it was, with all in /cluster and /tftpboot gone"
    if ask.at_console() and not options.yes and not Console().yes(question, default=False):
        return 1
    create.undo(root, print)
    print("The machine is as it was. Reboot it.")
    return 0


def _others(root: Path) -> str:
    if not state.exists(root):
        return ""
    cluster = state.load(root)
    return ", ".join(str(node.number) for node in cluster.nodes if node != cluster.init_node)
