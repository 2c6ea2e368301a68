from ipaddress import IPv4Network
from pathlib import Path

import pytest

from openssi.cluster import state
from openssi.errors import Error


def tree(root: Path) -> Path:
    for directory in ("etc", "cluster/etc", "cluster/node1/etc", "cluster/node2/etc"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / state.TABLE).write_text(
        "1\t10.0.0.1\t52:54:00:00:00:01\tP\t1\t-\n2\t10.0.0.2\t52:54:00:00:00:02\tP\t0\t-\n"
    )
    (root / state.NAME).write_text("galaxy\n")
    (root / state.SETTINGS).write_text(state.Settings("10.0.0.0/24", "10.0.0.254").text)
    (root / "cluster/node1/etc/nodename").write_text("sun\n")
    (root / "cluster/node2/etc/nodename").write_text("earth\n")
    return root


def test_a_cluster_is_read_from_its_root(tmp_path: Path) -> None:
    cluster = state.load(tree(tmp_path))
    assert cluster.name == "galaxy"
    assert cluster.names == {1: "sun", 2: "earth"}
    assert cluster.interconnect == IPv4Network("10.0.0.0/24")
    assert cluster.service_address == "10.0.0.254"


@pytest.mark.parametrize("text", ["2", "earth", "10.0.0.2"])
def test_a_node_is_found_by_number_name_and_address(tmp_path: Path, text: str) -> None:
    assert state.load(tree(tmp_path)).find(text).number == 2


def test_a_stale_hosts_entry_does_not_mislead(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "etc/hosts").write_text("10.0.0.1 earth\n")
    assert state.load(root).find("earth").number == 2


@pytest.mark.parametrize("text", ["3", "mars", "10.0.0.3"])
def test_who_is_not_in_the_table_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(Error, match=rf"node {text}: not in"):
        state.load(tree(tmp_path)).find(text)


def test_settings_survive_writing_and_reading(tmp_path: Path) -> None:
    root = tree(tmp_path)
    settings = state.Settings(
        "10.0.0.0/24",
        "10.0.0.254",
        ("10.0.0.200", "10.0.0.253"),
        True,
        "192.168.1.9",
        "eth1",
        "console=ttyS0,115200 quiet",
    )
    (root / state.SETTINGS).write_text(settings.text)
    assert state.load(root).settings == settings


@pytest.mark.parametrize(
    "line", ['service-address = "10.1.0.254"', 'service-address = "10.0.0.255"', 'service-address = "x"', "extra = 1"]
)
def test_settings_that_do_not_fit_are_refused_with_the_file(tmp_path: Path, line: str) -> None:
    root = tree(tmp_path)
    keys = {"interconnect": '"10.0.0.0/24"', "service-address": '"10.0.0.254"'}
    key, value = line.split(" = ")
    keys[key] = value
    (root / state.SETTINGS).write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
    with pytest.raises(Error, match=r"cluster\.toml"):
        state.load(root)


def test_the_role_is_what_the_initrd_noted(tmp_path: Path) -> None:
    assert state.is_init_node(tmp_path) and state.this_node(tmp_path) is None
    (tmp_path / "run/ssi").mkdir(parents=True)
    (tmp_path / "run/ssi/role").write_text("node\n")
    (tmp_path / "run/ssi/nodenum").write_text("7\n")
    assert not state.is_init_node(tmp_path)
    assert state.this_node(tmp_path) == 7
