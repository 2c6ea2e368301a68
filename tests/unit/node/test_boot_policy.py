"""What a node runs and mounts: the scripts that systemd and dpkg call, on trees of their own."""

import os
import subprocess
from pathlib import Path

import pytest

from openssi import services
from openssi.cluster import cdsl

ROOT = Path(__file__).resolve().parents[3]
NODE = ROOT / "node"
GENERATOR = NODE / "usr/lib/systemd/system-generators/openssi-generator"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for directory in ("etc/openssi", "run/ssi", "usr/lib/openssi", "usr/lib/systemd/system", "etc/systemd/system"):
        (root / directory).mkdir(parents=True)
    return root


def as_node(root: Path, number: int, role: str) -> None:
    (root / "run/ssi/nodenum").write_text(f"{number}\n")
    (root / "run/ssi/role").write_text(f"{role}\n")


def script(path: Path, root: Path, *words: str | Path) -> str:
    return subprocess.run(
        [path, *words],
        env={**os.environ, "OPENSSI_ROOT": str(root)},
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    ).stdout


def generate(root: Path, tmp_path: Path) -> tuple[set[str], set[str], str | None]:
    """Return the units wanted, those masked and the default target."""
    out = {name: tmp_path / name for name in ("normal", "early", "late")}
    for directory in out.values():
        directory.mkdir(exist_ok=True)
    script(GENERATOR, root, *out.values())
    wants = out["normal"] / "openssi-node.target.wants"
    wanted = {link.name for link in wants.iterdir()} if wants.exists() else set()
    links = {link.name: str(link.readlink()) for link in out["early"].iterdir()}
    default = links.pop("default.target", None)
    assert set(links.values()) <= {"/dev/null"}
    return wanted, set(links), default


def policy(root: Path, shipped: str, own: str = "") -> None:
    (root / services.SHIPPED).write_text(shipped)
    (root / services.OWN).write_text(own)
    for line in (shipped + own).splitlines():
        if line and not line.startswith("#"):
            (root / "usr/lib/systemd/system" / line.split()[0]).touch()


POLICY = "# comment\nssh.service every\ncron.service once\nnfs-server.service init\nserf.service none\nx.service 2:3\n"


def test_a_node_boots_into_what_the_policy_gives_it(tree: Path, tmp_path: Path) -> None:
    policy(tree, POLICY)
    as_node(tree, 2, "node")
    assert generate(tree, tmp_path) == (
        {"ssh.service", "x.service"},
        {"cron.service", "nfs-server.service", "serf.service"},
        "/usr/lib/systemd/system/openssi-node.target",
    )


def test_the_init_node_boots_as_ever_less_what_is_others(tree: Path, tmp_path: Path) -> None:
    policy(tree, POLICY)
    as_node(tree, 1, "init")
    assert generate(tree, tmp_path) == (set(), {"serf.service", "x.service"}, None)


def test_a_machine_that_is_no_node_is_left_alone(tree: Path, tmp_path: Path) -> None:
    policy(tree, POLICY)
    assert generate(tree, tmp_path) == (set(), set(), None)


def test_the_administrator_s_line_replaces_the_shipped_one(tree: Path, tmp_path: Path) -> None:
    policy(tree, POLICY, "cron.service every\nssh.service 3\n")
    as_node(tree, 2, "node")
    wanted, masked, _ = generate(tree, tmp_path)
    assert "cron.service" in wanted and "ssh.service" in masked


def test_a_unit_that_is_not_installed_is_not_wanted(tree: Path, tmp_path: Path) -> None:
    policy(tree, POLICY)
    (tree / "usr/lib/systemd/system/ssh.service").unlink()
    as_node(tree, 2, "node")
    assert "ssh.service" not in generate(tree, tmp_path)[0]


def test_generator_and_command_read_the_shipped_policy_alike(tree: Path, tmp_path: Path) -> None:
    policy(tree, (NODE / services.SHIPPED).read_text(), "logrotate.timer every\nbackup.service 2\n")
    rules = services.load(tree)
    assert len(rules) > 30
    as_node(tree, 2, "node")
    wanted, masked, _ = generate(tree, tmp_path)
    assert wanted == {name for name, rule in rules.items() if rule.runs_on(2, init=False)}
    assert masked == {name for name, rule in rules.items() if not rule.runs_on(2, init=False)}


FSTAB = """\
# comment
LABEL=root / ext4 errors=remount-ro 0 1
UUID=1 /boot ext4 defaults 0 2
/dev/vdb none swap sw,nofail,x-ssi.node=2 0 0
/dev/vdc none swap defaults,node=2:3 0 0
tmpfs /scratch tmpfs x-ssi.node=*,size=1m
LABEL=opt /opt ext3 chard,defaults,node=1:2 1 1
server:/data /data nfs4 x-ssi.node=1:3 0 0
"""


@pytest.mark.parametrize(
    ("number", "role", "mounted"),
    [
        (1, "init", ["LABEL=root / ext4 errors=remount-ro 0 1", "UUID=1 /boot ext4 defaults 0 2",
                     "tmpfs /scratch tmpfs size=1m 0 0", "LABEL=opt /opt ext3 defaults 1 1",
                     "server:/data /data nfs4 defaults 0 0"]),
        (2, "node", ["/dev/vdb none swap sw,nofail 0 0", "/dev/vdc none swap defaults 0 0",
                     "tmpfs /scratch tmpfs size=1m 0 0"]),
        (3, "node", ["/dev/vdc none swap defaults 0 0", "tmpfs /scratch tmpfs size=1m 0 0",
                     "server:/data /data nfs4 defaults 0 0"]),
    ],
)  # fmt: skip
def test_each_node_takes_its_own_lines_of_the_one_fstab(tree: Path, number: int, role: str, mounted: list[str]) -> None:
    (tree / "etc/fstab").write_text(FSTAB)
    as_node(tree, number, role)
    assert script(NODE / "usr/lib/openssi/fstab-here", tree).splitlines() == mounted


def test_a_file_in_the_place_of_a_link_becomes_the_node_s_own(tree: Path) -> None:
    own = tree / "cluster/self/etc"
    (own / "network").mkdir(parents=True)
    (own / "hostname").write_text("old\n")
    (own / "network/interfaces").write_text("as it was\n")
    (tree / "etc/network").mkdir()
    (tree / "etc/hostname").write_text("new\n")
    (tree / "etc/network/interfaces").symlink_to("/cluster/self/etc/network/interfaces")
    said = script(NODE / "usr/lib/openssi/repair-cdsl", tree)
    assert "repaired the link /etc/hostname" in said
    assert str((tree / "etc/hostname").readlink()) == "/cluster/self/etc/hostname"
    assert (own / "hostname").read_text() == "new\n"
    assert (own / "network/interfaces").read_text() == "as it was\n"
    assert script(NODE / "usr/lib/openssi/repair-cdsl", tree) == ""


def test_a_repair_that_was_cut_off_is_ended_by_the_next(tree: Path) -> None:
    own = tree / "cluster/self/etc"
    own.mkdir(parents=True)
    (own / "hostname").write_text("new\n")
    (tree / "etc/hostname").write_text("new\n")
    (tree / "etc/hostname.openssi-new").symlink_to("/cluster/self/etc/hostname")
    assert "repaired the link /etc/hostname" in script(NODE / "usr/lib/openssi/repair-cdsl", tree)
    assert (tree / "etc/hostname").is_symlink()
    assert not (tree / "etc/hostname.openssi-new").is_symlink()


def test_what_lies_in_a_directory_of_the_node_s_own_is_left_alone(tree: Path) -> None:
    own = tree / "cluster/self/etc"
    (own / "foo.d").mkdir(parents=True)
    (own / "foo.d/a.conf").write_text("mine\n")
    (tree / "etc/foo.d").symlink_to("../cluster/self/etc/foo.d")
    assert script(NODE / "usr/lib/openssi/repair-cdsl", tree) == ""
    assert (own / "foo.d/a.conf").read_text() == "mine\n"


@pytest.mark.parametrize(("name", "busy"), [("motd", "/etc/motd"), ("foo.d/a.conf", "/etc/foo.d")])
def test_what_mkglobalfile_has_in_hand_is_not_repaired(tree: Path, name: str, busy: str) -> None:
    for path, content in ((tree / "cluster/self/etc" / name, "was mine\n"), (tree / "etc" / name, "for all\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tree / "cluster/etc").mkdir()
    (tree / cdsl.CHANGE).write_text(f"{busy}\n")
    assert script(NODE / "usr/lib/openssi/repair-cdsl", tree) == ""
    assert (tree / "etc" / name).read_text() == "for all\n"
    (tree / cdsl.CHANGE).unlink()
    assert f"repaired the link /etc/{name}" in script(NODE / "usr/lib/openssi/repair-cdsl", tree)
