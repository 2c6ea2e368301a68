import re
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest
from unit.cluster import killed, machine

from openssi.cluster import answers, create, nodes, state
from openssi.cluster.answers import Answers
from openssi.errors import Error

GIVEN = Answers(1, "eth1", "P", "", "galaxy", False)
NICS = [machine.OUTER, machine.NIC]


def made(root: Path, given: Answers = GIVEN) -> None:
    assert create.make(root, answers.check(given, NICS, {}), lambda _: None) == []


def undone(root: Path) -> None:
    create.undo(root, lambda _: None)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


def test_a_machine_becomes_the_first_node(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    made(root)
    cluster = state.load(root)
    assert [node.line for node in cluster.nodes] == ["1\t10.0.0.1\t52:54:00:00:00:01\tP\t1\t-\n"]
    assert (cluster.name, cluster.names, cluster.service_address) == ("galaxy", {1: "sun"}, "10.0.0.254")
    assert (root / "etc/nodename").readlink() == Path("/cluster/self/etc/nodename")
    assert (root / "cluster/node1/etc/machine-id").read_text() == machine.FILES["etc/machine-id"]
    assert (root / "cluster/node1/etc/network/interfaces").read_text() == machine.FILES["etc/network/interfaces"]
    assert (root / "cluster/node1/var/lib/systemd/random-seed").read_text() == "x"
    hosts = (root / "etc/hosts").read_text()
    assert "# openssi: 127.0.1.1\tsun.example.org\tsun\n" in hosts
    assert "10.0.0.1\tsun.example.org sun node1\n" in hosts
    assert "10.0.0.254\tgalaxy galaxy-root\n" in hosts
    exports = (root / "etc/exports.d/openssi.exports").read_text()
    assert "/ 10.0.0.1(rw,no_root_squash,no_subtree_check,sec=sys,sync,fsid=0)\n/home 10.0.0.1(rw," in exports
    assert "dhcp-range=10.0.0." in (root / "cluster/etc/dnsmasq.conf").read_text()


def test_secrets_are_for_root_alone_and_not_served(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    made(root)
    assert (root / state.SERF_KEY).stat().st_mode & 0o777 == 0o600
    assert (root / "root/.shosts").stat().st_mode & 0o777 == 0o600
    key = (root / state.SERF_KEY).read_text().strip()
    assert not any(key in path.read_text() for path in (root / "tftpboot").rglob("*") if path.is_file())


def test_until_the_first_mount_the_links_lead_to_the_init_nodes_files(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    made(root)
    target = root / (root / "etc/hostname").readlink().relative_to("/")
    assert target.read_text() == "sun\n"


def test_running_it_again_changes_nothing(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    made(root)
    before = machine.picture(root)
    made(root)
    assert machine.picture(root) == before


def test_undo_gives_the_machine_back(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    before = machine.picture(root)
    stamp = (root / "etc/hosts").stat().st_mtime_ns
    made(root)
    undone(root)
    assert machine.picture(root) == before
    assert (root / "etc/hosts").stat().st_mtime_ns == stamp


def test_undo_keeps_what_was_changed_since(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    made(root)
    with (root / "etc/hosts").open("a") as stream:
        stream.write("10.9.9.9 printer\n")
    (root / "cluster/node1/etc/hostname").write_text("star\n")
    undone(root)
    assert (root / "etc/hosts").read_text() == machine.FILES["etc/hosts"] + "10.9.9.9 printer\n"
    assert (root / "etc/hostname").read_text() == "star\n"
    assert not (root / "cluster").exists()


def test_another_number_needs_undo_first(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    made(root)
    with pytest.raises(Error, match="--undo"):
        made(root, Answers(2, "eth1", "P", "", "galaxy", False))


@pytest.mark.parametrize("point", ["/var", "/usr", "/var/lib/nfs"])
def test_what_every_node_needs_is_on_the_root_s_filesystem(tmp_path: Path, point: str) -> None:
    root = machine.make(tmp_path)
    with (root / "etc/fstab").open("a") as stream:
        stream.write(f"UUID=7-8 {point} ext4 defaults 0 2\n")
    before = machine.picture(root)
    with pytest.raises(Error, match=rf"/etc/fstab: {point} is a filesystem of its own"):
        made(root)
    assert machine.picture(root) == before


def test_answers_can_be_changed_by_running_it_again(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    before = machine.picture(root)
    made(root)
    key = (root / state.SERF_KEY).read_bytes()
    made(root, Answers(1, "eth1", "E", "192.168.1.9", "nebula", True))
    cluster = state.load(root)
    assert cluster.name == "nebula" and cluster.settings.root_failover and cluster.nodes[0].protocol == "E"
    assert "192.168.1.9\tnebula\n10.0.0.254\tnebula-root\n" in (root / "etc/hosts").read_text()
    assert (root / state.SERF_KEY).read_bytes() == key
    undone(root)
    assert machine.picture(root) == before


def test_the_administrators_directories_stay_when_it_runs_again(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    made(root)
    with (root / state.PERNODE).open("a") as stream:
        stream.write("/srv/own  # mine\n")
    made(root, Answers(1, "eth1", "E", "", "galaxy", False))
    assert state.pernode(root) == [*state.OWN_DIRECTORIES, "srv/own"]
    assert state.load(root).nodes[0].protocol == "E"


def test_running_it_again_repairs_damaged_settings(tmp_path: Path) -> None:
    root = machine.make(tmp_path)
    made(root)
    before = machine.picture(root)
    (root / state.SETTINGS).write_text("damaged\n")
    made(root)
    assert machine.picture(root) == before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"service_address": "10.0.0.2"}, "service address 10.0.0.2: node 2 (earth) has it"),
        ({"cvip": "10.0.0.2"}, "CVIP 10.0.0.2: node 2 (earth) has it"),
        ({"clustername": "Earth"}, "clustername Earth: node 2 (earth) is called so"),
        ({"clustername": "node2"}, "clustername node2: node 2 (earth) is called so"),
        ({"clustername": "SUN"}, "clustername SUN: this machine is called so"),
        (
            {"interconnect": "eth1,52:54:00:00:00:01,10.9.0.1/24"},
            "node 2 (earth) has 10.0.0.2, which is not in 10.9.0.0/24",
        ),
        ({"interconnect": "eth1,52:54:00:00:00:01,10.0.0.2/24"}, "card eth1 10.0.0.2: node 2 (earth) has it"),
    ],
)
def test_run_again_it_takes_nothing_from_another_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], complaint: str
) -> None:
    monkeypatch.setattr("os.sync", lambda: None)
    root = machine.bootable(machine.make(tmp_path))
    made(root)
    nodes.add(root, nodes.Request(2, "52:54:00:00:00:02", "10.0.0.2", "P", "earth"))
    before = machine.picture(root)
    fields = {**vars(GIVEN), **change}
    with pytest.raises(Error, match=re.escape(complaint)):
        made(root, Answers(**fields))
    assert machine.picture(root) == before


def killed_make(directory: Path, step: int) -> bool:
    """Kill the making at ``step``, then go on or back; return False when there was no such step."""
    root = machine.make(directory / str(step))
    before = machine.picture(root)
    if not killed.at(step, root, partial(made, root)):
        return False
    hostname = root / "etc/hostname"
    place = root / hostname.readlink().relative_to("/") if hostname.is_symlink() else hostname
    assert place.read_text() == "sun\n", f"step {step}: the machine lost its name"
    if state.exists(root):
        assert state.load(root).nodes
    if step % 2:
        made(root)
        assert state.load(root).names == {1: "sun"}
    undone(root)
    assert _without_ours(machine.picture(root)) == before, f"step {step}"
    return True


def killed_undo(directory: Path, step: int) -> bool:
    root = machine.make(directory / str(step))
    before = machine.picture(root)
    made(root)
    if not killed.at(step, root, partial(undone, root)):
        return False
    undone(root)
    assert _without_ours(machine.picture(root)) == before, f"step {step}"
    return True


def _without_ours(picture: machine.Picture) -> machine.Picture:
    """Leave out what a kill may leave below /var/lib/openssi: an empty journal."""
    return {name: what for name, what in picture.items() if not name.startswith("var/lib/openssi/undo")}


def test_killed_while_making_it_can_go_on_or_back(tmp_path: Path) -> None:
    steps = list(takewhile(partial(killed_make, tmp_path), range(1, 1000, 17)))
    assert len(steps) > 5


def test_killed_while_undoing_it_ends_the_same(tmp_path: Path) -> None:
    steps = list(takewhile(partial(killed_undo, tmp_path), range(1, 1000, 17)))
    assert len(steps) > 5
