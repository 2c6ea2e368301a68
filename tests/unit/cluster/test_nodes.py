import os
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest
from unit.cluster import killed, machine

from openssi.cluster import answers, cdsl, create, nodes, state
from openssi.cluster.answers import Answers
from openssi.cluster.nodes import Request
from openssi.errors import Error

EARTH = Request(2, "52:54:00:00:00:02", "10.0.0.22", "P", "earth")
MARS = Request(3, "52:54:00:00:00:03", "10.0.0.3", "E", "mars")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.sync", lambda: None)


def made(root: Path, failover: bool = False) -> Path:
    """A cluster of one node whose kernel and loaders are small stand-ins."""
    machine.bootable(machine.make(root))
    return created(root, failover)


def created(root: Path, failover: bool = False) -> Path:
    create.make(root, answers.check(Answers(1, "eth1", "P", "", "galaxy", failover), [machine.NIC], {}), lambda _: None)
    return root


def whole(root: Path, request: Request) -> None:
    """Assert that the node is in, with all that follows."""
    cluster = state.load(root)
    assert cluster.find(request.nodename).number == request.number
    assert f"{request.ip}\t{request.nodename}" in (root / "etc/hosts").read_text()
    assert f" {request.ip}(rw," in (root / "etc/exports.d/openssi.exports").read_text()
    assert request.ip in (root / "etc/ssh/shosts.equiv").read_text().splitlines()
    assert request.nodename in (root / "etc/ssh/ssh_known_hosts").read_text()
    assert request.mac in (root / f"cluster/etc/dhcp-hosts/node{request.number}").read_text()
    entry = "01-" + request.mac.replace(":", "-")
    assert f"ssi.node={request.number} " in (root / "tftpboot/ssi" / entry).read_text()
    assert f"ssi.node={request.number} " in (root / "tftpboot/pxelinux.cfg" / entry).read_text()
    home = root / f"cluster/node{request.number}"
    assert (home / "etc/hostname").read_text() == f"{request.nodename}\n"
    assert len((home / "etc/machine-id").read_text()) == 33
    assert (home / "var/lib/systemd").is_dir() and (home / "var/lib/nfs/sm").is_dir()
    assert not (home / "var/lib/systemd/random-seed").exists()
    assert "server 10.0.0.254" in (home / create.CHRONY).read_text()


def absent(root: Path, request: Request) -> None:
    cluster = state.load(root)
    assert all(node.number != request.number for node in cluster.nodes)
    for path in ("etc/hosts", "etc/exports.d/openssi.exports", "etc/ssh/shosts.equiv", "etc/ssh/ssh_known_hosts"):
        assert request.ip not in (root / path).read_text()
    assert not (root / f"cluster/etc/dhcp-hosts/node{request.number}").exists()
    assert not (root / "tftpboot/ssi" / ("01-" + request.mac.replace(":", "-"))).exists()
    assert not (root / f"cluster/node{request.number}").exists()


def test_a_node_is_added_with_all_that_follows(tmp_path: Path) -> None:
    root = made(tmp_path)
    said: list[str] = []
    nodes.add(root, EARTH, said.append)
    assert said == []
    whole(root, EARTH)
    ids = {(root / f"cluster/node{n}/etc/machine-id").read_text() for n in (1, 2)}
    assert len(ids) == 2


def test_a_new_node_gets_what_each_node_has_for_itself_as_the_init_node_has_it(tmp_path: Path) -> None:
    root = made(tmp_path)
    (root / "etc/X11").mkdir()
    (root / "etc/X11/xorg.conf").write_text("nv\n")
    (root / "srv/own").mkdir(parents=True)
    (root / "srv/own/a").write_text("1")
    cdsl.make_local(root, Path("/etc/X11/xorg.conf"))
    cdsl.make_local(root, Path("/srv/own"))
    (root / "cluster/node1/etc/X11/xorg.conf").write_text("vesa\n")
    nodes.add(root, EARTH)
    home = root / "cluster/node2"
    assert (home / "etc/X11/xorg.conf").read_text() == "vesa\n"
    assert (home / "srv/own/a").read_text() == "1"
    whole(root, EARTH)


def test_a_directory_that_is_listed_later_is_made_for_every_node_that_is_there(tmp_path: Path) -> None:
    root = made(tmp_path)
    nodes.add(root, EARTH)
    (root / "srv/own/deep").mkdir(parents=True)
    (root / "srv/own").chmod(0o700)
    (root / "srv/own/deep/a").write_text("the first's\n")
    with (root / state.PERNODE).open("a") as stream:
        stream.write("/srv/own\n/srv/new\n/usr/share\n/cluster\n")
    said: list[str] = []
    nodes.own_directories(root, said.append)
    assert (root / "cluster/node1/srv/own/deep/a").read_text() == "the first's\n"
    assert (root / "cluster/node2/srv/own/deep").is_dir() and not (root / "cluster/node2/srv/own/deep/a").exists()
    assert (root / "cluster/node2/srv/own").stat().st_mode & 0o777 == 0o700
    assert (root / "srv/new").is_dir() and (root / "cluster/node2/srv/new").is_dir()
    warnings = [line for line in said if line.startswith("warning")]
    assert [line.rpartition(": ")[2] for line in warnings] == [
        "/usr can't differ from node to node",
        "/cluster can't differ from node to node",
    ]
    before = machine.picture(root)
    nodes.own_directories(root, said.append)
    assert machine.picture(root) == before
    with pytest.raises(Error, match="/usr/share: /usr can't differ"):
        nodes.add(root, MARS)
    absent(root, MARS)


def test_a_node_is_removed_without_a_trace_and_others_stay(tmp_path: Path) -> None:
    root = made(tmp_path)
    nodes.add(root, EARTH)
    nodes.add(root, MARS)
    with (root / "etc/fstab").open("a") as stream:
        stream.write("/dev/vda none swap sw,x-ssi.node=2 0 0\n")
    nodes.remove(root, 2)
    absent(root, EARTH)
    whole(root, MARS)
    assert "/dev/vda" not in (root / "etc/fstab").read_text()


def test_undo_after_nodes_were_added_gives_the_machine_back(tmp_path: Path) -> None:
    machine.bootable(machine.make(tmp_path))
    before = machine.picture(tmp_path)
    created(tmp_path)
    nodes.add(tmp_path, EARTH)
    create.undo(tmp_path, lambda _: None)
    assert machine.picture(tmp_path) == before


def test_undo_gives_back_what_mklocalfile_made_each_nodes_own(tmp_path: Path) -> None:
    machine.bootable(machine.make(tmp_path))
    (tmp_path / "etc/X11").mkdir()
    (tmp_path / "etc/X11/xorg.conf").write_text("nv\n")
    before = machine.picture(tmp_path)
    created(tmp_path)
    cdsl.make_local(tmp_path, Path("/etc/X11/xorg.conf"))
    nodes.add(tmp_path, EARTH)
    create.undo(tmp_path, lambda _: None)
    assert machine.picture(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"number": 1}, "node 1: taken by sun"),
        ({"number": 126}, "expected 1 to 125"),
        ({"mac": "52:54:00:00:00:01"}, "node 1's already"),
        ({"mac": "nonsense"}, "expected six hex pairs"),
        ({"ip": "10.0.0.1"}, "node 1's already"),
        ({"ip": "10.0.1.2"}, "not in the interconnect"),
        ({"ip": "10.0.0.255"}, "broadcast"),
        ({"ip": "10.0.0.254"}, "the cluster's own"),
        ({"ip": "10.0.0.99"}, "lent to 52:54:00:00:00:77"),
        ({"nodename": "sun"}, "node 1's already"),
        ({"nodename": "SUN"}, "node 1's already"),
        ({"nodename": "sun.example.org"}, "node 1's already"),
        ({"nodename": "Node1"}, "node 1's already"),
        ({"nodename": "galaxy"}, "the cluster is called so"),
        ({"nodename": "GALAXY-root"}, "the cluster is called so"),
        ({"nodename": "NODE9"}, "means another node's number"),
        ({"nodename": "Printer"}, "is 10.9.9.9 in /etc/hosts"),
        ({"nodename": "node9"}, "means another node's number"),
        ({"nodename": "7"}, "expected letters"),
        ({"nodename": "two words"}, "expected letters"),
        ({"nodename": "printer"}, "is 10.9.9.9 in /etc/hosts"),
        ({"protocol": "N"}, "expected P"),
        ({"failover": True}, "root failover is not enabled"),
    ],
)
def test_what_is_taken_or_wrong_is_refused_and_nothing_is_written(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    root = made(tmp_path)
    (root / "etc/hosts").write_text("10.9.9.9 printer\n" + (root / "etc/hosts").read_text())
    (root / "var/lib/openssi/dnsmasq.leases").write_text("1700000000 52:54:00:00:00:77 10.0.0.99 * *\n")
    before = machine.picture(root)
    fields = {**vars(EARTH), **change}
    with pytest.raises(Error, match=complaint):
        nodes.add(root, Request(**fields))
    assert machine.picture(root) == before


def test_a_waiting_machine_may_keep_the_address_it_was_lent(tmp_path: Path) -> None:
    root = made(tmp_path)
    (root / "var/lib/openssi/dnsmasq.leases").write_text(f"1700000000 {EARTH.mac} 10.0.0.140 * *\n")
    nodes.add(root, Request(2, EARTH.mac, "10.0.0.140", "P", "earth"))
    assert state.load(root).node(2).ip == "10.0.0.140"


def test_defaults_are_free(tmp_path: Path) -> None:
    root = made(tmp_path)
    nodes.add(root, EARTH)
    cluster = state.load(root)
    assert nodes.default_number(cluster) == 3
    assert nodes.default_ip(cluster, 3) == "10.0.0.3"
    nodes.add(root, Request(7, "52:54:00:00:00:07", "10.0.0.3", "P", "venus"))
    assert nodes.default_ip(state.load(root), 3) == "10.0.0.2"


def test_a_card_is_exchanged_and_its_old_entries_go(tmp_path: Path) -> None:
    root = made(tmp_path)
    nodes.add(root, EARTH)
    cluster = state.load(root)
    nodes.change(root, nodes.with_changes(cluster.node(2), mac="52:54:00:00:00:23"), nodename="terra")
    whole(root, Request(2, "52:54:00:00:00:23", "10.0.0.22", "P", "terra"))
    assert EARTH.mac not in (root / "cluster/etc/dhcp-hosts/node2").read_text()
    assert not (root / "tftpboot/ssi/01-52-54-00-00-00-02").exists()
    with pytest.raises(Error, match="node 1's already"):
        nodes.change(root, nodes.with_changes(cluster.node(2), mac=machine.NIC.mac))


def test_the_init_nodes_card_is_not_changed_in_the_table_alone(tmp_path: Path) -> None:
    root = made(tmp_path)
    own = state.load(root).node(1)
    for change in ({"ip": "10.0.0.7"}, {"mac": "52:54:00:00:00:77"}):
        with pytest.raises(Error, match=r"address and MAC are those of its card now: .*then ssi-create again"):
            nodes.change(root, nodes.with_changes(own, **change))
    assert state.load(root).node(1) == own
    nodes.change(root, nodes.with_changes(own, protocol="E"))
    assert state.load(root).node(1).protocol == "E"


def test_the_init_node_stays(tmp_path: Path) -> None:
    with pytest.raises(Error, match="the init node"):
        nodes.remove(made(tmp_path), 1)


def test_two_at_once_are_both_in_or_one_is_refused(tmp_path: Path) -> None:
    root = made(tmp_path)
    wanted = [EARTH, MARS, Request(3, "52:54:00:00:00:04", "10.0.0.4", "P", "venus")]
    children = []
    for request in wanted:
        child = os.fork()
        if child == 0:
            try:
                nodes.add(root, request)
                os._exit(0)
            except Error:
                os._exit(3)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ends[0] == 0 and sorted(ends[1:]) == [0, 3]
    whole(root, EARTH)
    whole(root, wanted[1] if ends[1] == 0 else wanted[2])


def killed_add(directory: Path, step: int) -> bool:
    """Kill the adding of a node at ``step``; return False when there was no such step."""
    root = made(directory / str(step))
    if not killed.at(step, root, partial(nodes.add, root, EARTH)):
        return False
    added = any(node.number == 2 for node in state.load(root).nodes)
    if added:
        # What the init node does by itself when it sees the table change, and when it boots.
        recovered(root)
        whole(root, EARTH)
    else:
        nodes.add(root, EARTH)
        whole(root, EARTH)
    assert not list((root / "cluster").glob(".*-node*")), f"step {step}"
    return True


def killed_remove(directory: Path, step: int) -> bool:
    root = made(directory / str(step))
    nodes.add(root, EARTH)
    if not killed.at(step, root, partial(nodes.remove, root, 2)):
        return False
    recovered(root)
    if any(node.number == 2 for node in state.load(root).nodes):
        whole(root, EARTH)
        nodes.remove(root, 2)
    absent(root, EARTH)
    return True


def recovered(root: Path) -> None:
    with state.locked(root):
        nodes.recover(root)
        nodes.follow(root, lambda line: pytest.fail(line))


def test_killed_while_adding_the_node_is_in_or_not(tmp_path: Path) -> None:
    steps = list(takewhile(partial(killed_add, tmp_path), range(1, 1000, 19)))
    assert len(steps) > 3


def test_killed_while_removing_the_node_is_in_or_not(tmp_path: Path) -> None:
    steps = list(takewhile(partial(killed_remove, tmp_path), range(1, 1000, 19)))
    assert len(steps) > 3
