"""`apt-get install openssi` in a clean Debian: with answers, without, with bad ones; and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import installing
import pytest
from installing import ANSWERS, Machine

pytestmark = pytest.mark.integration

CARDS = "ip link add eth1 type veth peer name eth2; ip address add 10.0.0.1/24 dev eth1; ip link set eth1 up"


@pytest.fixture
def machine(root: Path, cache: Path, built_repo: Path) -> Iterator[Machine]:
    with installing.machine(root, cache, built_repo) as found:
        yield found


def test_with_answers_the_machine_is_the_first_node_and_purging_gives_it_back(machine: Machine) -> None:
    machine.answer(ANSWERS)
    code, said = machine.apt("install", *machine.debs)
    assert code == 0, said
    table = (machine.tree / "etc/clustertab").read_text()
    assert "3\t10.0.0.1\t52:54:00:00:00:01\tE\t1\t-\n" in table
    assert (machine.tree / "etc/clustername").read_text() == "farm\n"
    assert (machine.tree / "cluster/node3/etc/nodename").read_text() == "sun\n"
    # what was installed again leaves the cluster as it is
    code, said = machine.apt("install", "--reinstall", *(name for name in machine.debs if "/openssi_" in name))
    assert code == 0, said
    assert (machine.tree / "etc/clustertab").read_text() == table
    code, said = machine.apt("purge", "openssi")
    assert code == 0, said
    assert machine.picture() == machine.before


JOURNAL = "var/lib/openssi/undo/journal"
TOGETHER = ("openssi", "openssi-tools")


def made(machine: Machine) -> None:
    """Install all and make the machine the first node."""
    machine.answer(ANSWERS)
    code, said = machine.apt("install", *machine.debs)
    assert code == 0, said
    assert (machine.tree / "etc/clustertab").exists(), said


def test_whatever_is_removed_or_purged_first_the_machine_is_given_back(machine: Machine) -> None:
    orders: list[list[tuple[str, ...]]] = [
        [("purge", "openssi"), ("purge", "openssi-tools")],
        [("purge", *TOGETHER)],
        [("purge", "openssi-tools")],
        [("remove", "openssi"), ("remove", "openssi-tools"), ("purge", *TOGETHER)],
    ]
    for order in orders:
        made(machine)
        for words in order:
            code, said = machine.apt(*words)
            assert code == 0, said
        assert machine.picture() == machine.before, order
        assert not (machine.tree / "var/lib/openssi").exists(), order


def test_what_can_not_give_the_machine_back_is_refused_and_it_still_can_be(machine: Machine) -> None:
    made(machine)
    machine.session.run(["ssi-addnode", "--yes", "--mac", "52:54:00:00:00:02"])
    for words in (("purge", "openssi"), ("remove", *TOGETHER), ("purge", *TOGETHER)):
        code, said = machine.apt(*words)
        assert code != 0
        assert "the cluster has other nodes: 1 (ssi-rmnode them first" in said
        assert (machine.tree / JOURNAL).exists()
    # whatever happened to the script that refuses
    (machine.tree / "var/lib/dpkg/info/openssi-tools.prerm").write_text("#!/bin/sh\n")
    code, said = machine.apt("purge", *TOGETHER)
    assert code != 0
    assert "/var/lib/openssi/undo is kept" in said
    assert (machine.tree / JOURNAL).exists()
    code, said = machine.apt("install", *machine.debs)
    assert code == 0, said
    machine.session.run(["ssi-create", "--undo", "--yes", "--force"])
    code, said = machine.apt("purge", *TOGETHER)
    assert code == 0, said
    assert machine.picture() == machine.before


def test_without_answers_the_machine_stays_as_it_is_and_the_next_step_is_told(machine: Machine) -> None:
    code, said = machine.apt("install", *machine.debs)
    assert code == 0, said
    assert "ssi-create makes it the first node of a cluster" in said
    assert machine.picture() == machine.before
    # answers that come later
    machine.answer(ANSWERS)
    code, out, err = machine.session.status(
        ["dpkg-reconfigure", "openssi"], env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=600
    )
    assert code == 0, (out + err).decode()
    assert (machine.tree / "etc/clustertab").exists()


@pytest.mark.parametrize(("card", "reason"), [("eth9", "card 'eth9': expected one with an address"), ("", "card ''")])
def test_a_card_that_is_not_there_is_refused_and_no_other_is_taken(machine: Machine, card: str, reason: str) -> None:
    # a card that could be taken by mistake
    machine.answer({**ANSWERS, "interconnect": f"select {card}"})
    code, said = machine.apt("install", *machine.debs, before=CARDS)
    assert code == 0, said
    assert reason in said
    assert "ssi-create makes it the first node of a cluster" in said
    assert machine.picture() == machine.before


def test_a_person_is_asked_again_after_a_bad_answer(machine: Machine) -> None:
    code, said = machine.apt("install", *machine.debs)
    assert code == 0, said
    # The frontend that reads plain lines, on a terminal of its own. 126 is no number of a node: all is asked again.
    rest = ["eth1", "PXE", "", "farm", "no"]
    lines = ["yes", "126", *rest, "7", *rest, "yes"]
    code, out, err = machine.session.status(
        ["sh", "-c", f"{CARDS}; exec script --quiet --return --command 'dpkg-reconfigure --priority=high openssi' /dev/null"],
        env={"DEBIAN_FRONTEND": "teletype", "TERM": "dumb"},
        input="".join(f"{line}\n" for line in lines).encode(),
        timeout=600,
    )  # fmt: skip
    said = (out + err).decode(errors="replace")
    assert code == 0, said
    assert "These answers do not fit" in said
    assert "expected 1 to 125" in said
    assert "7\t10.0.0.1\t" in (machine.tree / "etc/clustertab").read_text()


def test_4_5_programs_of_the_same_names_can_be_installed_before_and_after(machine: Machine) -> None:
    session = machine.session
    session.run(
        ["sh", "-c", "cd /srv && apt-get -qq update && apt-get -qq download graphviz ctdb"], network=True, timeout=600
    )
    session.run(["sh", "-c", "for deb in /srv/*.deb; do dpkg-deb --extract $deb /srv/theirs; done"])
    (tools,) = [name for name in machine.debs if "openssi-tools" in name]
    theirs, ours = ["/srv/graphviz.deb", "/srv/ctdb.deb"], [tools]
    session.run(["sh", "-c", "cd /srv && mv graphviz_*.deb graphviz.deb && mv ctdb_*.deb ctdb.deb"])
    for order in ([*theirs, *ours], [*ours, *theirs]):
        # What they depend on does not matter here.
        session.run(["dpkg", "--unpack", *order], timeout=300)
        for name, package in (("cluster", "graphviz"), ("onnode", "ctdb")):
            session.run(["cmp", f"/srv/theirs/usr/bin/{name}", f"/usr/bin/{name}.{package}"])
            assert b"openssi" in (machine.tree / "usr/bin" / name).read_bytes()
        session.run(["dpkg", "--purge", "--force-depends", "openssi-tools"], timeout=300)
        for name in ("cluster", "onnode"):
            session.run(["cmp", f"/srv/theirs/usr/bin/{name}", f"/usr/bin/{name}"])
        session.run(["dpkg", "--purge", "graphviz", "ctdb"], timeout=300)
