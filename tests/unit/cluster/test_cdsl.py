"""Files that each node has for itself."""

from __future__ import annotations

import errno
from functools import partial
from itertools import count, takewhile
from pathlib import Path

import pytest
from unit.cluster import killed

from openssi import files
from openssi.cluster import cdsl, state
from openssi.errors import Error

MOTD = Path("/etc/motd")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.sync", lambda: None)


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    for name in ("node1", "node2", "node12", "nodename-is-no-node"):
        (tmp_path / "cluster" / name).mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/motd").write_text("hello\n")
    (tmp_path / "etc/motd").chmod(0o640)
    return tmp_path


def test_a_local_file_is_a_link_and_every_node_starts_with_a_copy(cluster: Path) -> None:
    assert cdsl.make_local(cluster, MOTD) == [1, 2, 12]
    assert (cluster / "etc/motd").readlink() == Path("/cluster/self/etc/motd")
    for number in (1, 2, 12):
        copy = cluster / f"cluster/node{number}/etc/motd"
        assert (copy.read_text(), copy.stat().st_mode & 0o777) == ("hello\n", 0o640)
    assert [each.name for each in (cluster / "etc").iterdir()] == ["motd"]
    assert cdsl.make_local(cluster, MOTD) == []


def test_a_directory_goes_and_comes_back_with_all_that_is_in_it(cluster: Path) -> None:
    directory = cluster / "var/lib/ntp"
    directory.mkdir(parents=True)
    (directory / "drift").write_text("1.5")
    (directory / "link").symlink_to("drift")
    cdsl.make_local(cluster, Path("/var/lib/ntp"))
    assert (cluster / "cluster/node12/var/lib/ntp/link").readlink() == Path("drift")
    cdsl.make_global(cluster, Path("/var/lib/ntp"), 2)
    assert not directory.is_symlink()
    assert (directory / "link").read_text() == "1.5"
    assert not (cluster / "cluster/node1/var/lib/ntp").exists()


def test_a_copy_that_differs_is_not_dropped_unless_forced(cluster: Path) -> None:
    cdsl.make_local(cluster, MOTD)
    (cluster / "cluster/node2/etc/motd").write_text("mine\n")
    with pytest.raises(Error, match=r"^/etc/motd: node 1's differs from that of node 2 \(--force drops theirs\)$"):
        cdsl.make_global(cluster, MOTD, 1)
    assert (cluster / "etc/motd").is_symlink()
    cdsl.make_global(cluster, MOTD, 2, force=True)
    assert (cluster / "etc/motd").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/etc/absent", "/etc/absent: no such file or directory"),
        ("/usr/share", "/usr/share: /usr can't differ from node to node"),
        ("/cluster/node1", "/cluster/node1: /cluster can't differ"),
        ("etc/motd", "etc/motd: expected an absolute path"),
        ("/", "/: expected an absolute path"),
        ("/etc/../etc/motd", "expected an absolute path"),
    ],
)
def test_what_can_not_be_local_is_refused_and_named(cluster: Path, path: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        cdsl.make_local(cluster, Path(path))


def test_a_path_below_a_local_directory_is_refused(cluster: Path) -> None:
    (cluster / "srv/own").mkdir(parents=True)
    cdsl.make_local(cluster, Path("/srv/own"))
    with pytest.raises(Error, match="/srv/own/x: each node has /srv/own for itself already"):
        cdsl.make_local(cluster, Path("/srv/own/x"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc", "/etc: each node has /etc/motd in it for itself already"),
        ("/var/lib", "/var/lib: each node has /var/lib/systemd in it for itself already"),
        ("/var/lib/systemd", "/var/lib/systemd: each node has its own, by /cluster/etc/pernode"),
        ("/var/lib/systemd/x", "/var/lib/systemd/x: each node has /var/lib/systemd for itself already"),
    ],
)
def test_a_directory_with_something_local_in_it_is_refused_and_nothing_is_lost(
    cluster: Path, path: str, reason: str
) -> None:
    cdsl.make_local(cluster, MOTD)
    (cluster / "cluster/node2/etc/motd").write_text("mine\n")
    (cluster / "var/lib/systemd/x").mkdir(parents=True)
    with pytest.raises(Error, match=f"^{reason}$"):
        cdsl.make_local(cluster, Path(path))
    assert (cluster / "cluster/node2/etc/motd").read_text() == "mine\n"


def test_without_nodes_nothing_is_touched(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/motd").write_text("hello\n")
    with pytest.raises(Error, match=r"/cluster: no node here \(ssi-create"):
        cdsl.make_local(tmp_path, MOTD)
    assert (tmp_path / "etc/motd").read_text() == "hello\n"
    assert not (tmp_path / "cluster").exists()


def test_a_file_that_is_shared_or_absent_on_the_node_can_not_be_made_global(cluster: Path) -> None:
    with pytest.raises(Error, match="/etc/motd: not a file that each node has for itself"):
        cdsl.make_global(cluster, MOTD, 1)
    cdsl.make_local(cluster, MOTD)
    with pytest.raises(Error, match="/etc/motd: node 3 has none"):
        cdsl.make_global(cluster, MOTD, 3)


def test_an_error_on_the_way_leaves_the_old_file_and_no_rest(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "symlink_to", broken)
    with pytest.raises(KeyboardInterrupt):
        cdsl.make_local(cluster, MOTD)
    assert (cluster / "etc/motd").read_text() == "hello\n"
    assert rests(cluster) == [] and not (cluster / "cluster/node1/etc/motd").exists()


def rests(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if ".openssi-" in path.name or path.name == "cdsl-change"]


def no_exchange(first: Path, second: Path) -> None:
    """What NFS says."""
    raise OSError(errno.EINVAL, "Invalid argument")


def content(path: Path) -> str:
    return (path / "a.conf" if path.is_dir() else path).read_text()


def whole(root: Path, path: Path) -> None:
    """Assert that ``path`` is a link with a copy on each node, or there and no copy is."""
    copies = [root / f"cluster/node{number}" / path.relative_to("/") for number in (1, 2, 12)]
    if cdsl.is_local(root, path):
        assert [content(copy) for copy in copies] == ["mine\n"] * 3
    else:
        assert content(root / path.relative_to("/")) == "mine\n"
        assert not any(copy.exists() for copy in copies)
    assert rests(root) == []


@pytest.mark.parametrize(("name", "atomic"), [("foo.d", True), ("foo.d", False), ("motd", True)])
@pytest.mark.parametrize("back", [False, True])
def test_killed_anywhere_it_is_local_or_global_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, atomic: bool, back: bool
) -> None:
    if not atomic:
        monkeypatch.setattr(files, "exchange", no_exchange)
    path = Path("/etc", name)

    def prepared(root: Path) -> Path:
        for number in (1, 2, 12):
            (root / f"cluster/node{number}").mkdir(parents=True)
        place = root / "etc" / name
        (place if name == "foo.d" else place.parent).mkdir(parents=True)
        (place / "a.conf" if name == "foo.d" else place).write_text("mine\n")
        if back:
            cdsl.make_local(root, path)
        return root

    def turned(root: Path) -> None:
        if back:
            cdsl.make_global(root, path, 2)
        else:
            cdsl.make_local(root, path)

    def died(step: int) -> bool:
        root = prepared(tmp_path / str(step))
        if not killed.at(step, root, partial(turned, root)):
            return False
        place = root / "etc" / name
        if atomic:
            assert place.is_symlink() or content(place) == "mine\n", f"step {step}: nothing there"
        with state.locked(root):
            cdsl.recover(root)
        whole(root, path)
        if cdsl.is_local(root, path) == back:
            turned(root)
        assert cdsl.is_local(root, path) != back
        whole(root, path)
        return True

    assert len(list(takewhile(died, count(1)))) > 10


def test_the_links_of_a_node_are_found_and_mounted_directories_hold_none(cluster: Path) -> None:
    for path in ("srv/own", "var/lib/systemd"):
        (cluster / path).mkdir(parents=True)
    cdsl.make_local(cluster, MOTD)
    cdsl.make_local(cluster, Path("/srv/own"))
    (cluster / "cluster/node1/etc/no-link").touch()
    (cluster / "cluster/node1/var/lib/systemd/deep").mkdir(parents=True)
    assert cdsl.of_node(cluster, 1) == [MOTD, Path("/srv/own")]
