"""onnode with a real sshd: two nodes on one root, in network namespaces; who may be whom, and what users may read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import installing
import pytest
from conftest import ROOT
from installing import ANSWERS, Machine

pytestmark = pytest.mark.integration

SECRETS = ("cluster/etc/serf-key", "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_rsa_key")


@pytest.fixture(scope="module")
def machine(root: Path, cache: Path, built_repo: Path) -> Iterator[Machine]:
    """The first node of a cluster of two."""
    with installing.machine(root, cache, built_repo) as found:
        found.answer(ANSWERS)
        code, said = found.apt("install", *found.debs)
        assert code == 0, said
        # no kernel in the chroot: the boot entries are not written, and the node is in
        argv = ["ssi-addnode", "--node-number", "2", "--mac", "52:54:00:00:00:02", "--ip", "10.0.0.2", "--yes"]
        found.session.run(argv, timeout=120)
        yield found


@pytest.fixture(scope="module")
def told(machine: Machine) -> dict[str, tuple[int, str]]:
    """What each question of the script was answered with: exit status and output."""
    machine.session.copy_in(ROOT / "tests/two_nodes.sh", "/two_nodes.sh")
    code, out, err = machine.session.status(["sh", "/two_nodes.sh"], timeout=300)
    log = machine.tree / "tmp/sshd.log"
    assert code == 0, (out + err).decode() + (log.read_text() if log.exists() else "")
    answers = {}
    for name, status, text in re.findall(r"(?m)^([\w.-]+)=(\d+):(.*)$", out.decode()):
        answers[name] = (int(status), text)
    return answers


@pytest.mark.parametrize("who", ["root", "alice"])
def test_a_call_keeps_what_the_caller_has(told: dict[str, tuple[int, str]], who: str) -> None:
    assert told["namespace"] == (0, "1")
    assert told[who] == (0, who)
    assert told[f"{who}_directory"] == (0, "/var/tmp")
    assert told[f"{who}_environment"] == (0, "two/lines 'quoted' $x;/of/mine;C.UTF-8;120000/")
    assert told[f"{who}_input"] == (0, "through and out")
    assert told[f"{who}_status"] == (7, "")
    assert told[f"{who}_terminal"] == (0, "vt100")
    assert told[f"{who}_signal"] == (42, "got it")


@pytest.mark.parametrize("who", ["root", "alice"])
def test_the_environment_is_in_no_command_line_of_either_node(told: dict[str, tuple[int, str]], who: str) -> None:
    assert told[f"{who}_secret"] == (0, "words-of-it between-us")
    # onnode and ssh here, a shell there and the command
    assert int(told[f"{who}_words_seen"][1]) >= 4
    assert told[f"{who}_secret_seen"] == (1, "0")


def test_a_signal_reaches_the_caller_s_processes_alone(told: dict[str, tuple[int, str]]) -> None:
    assert told["signal_past_decoys"] == (42, "got it")
    assert told["decoy_of_bob_lives"] == (0, "")


def test_a_user_is_himself_without_onnode_too(told: dict[str, tuple[int, str]]) -> None:
    assert told["bare_root"] == told["bare_again"] == (0, "root")
    assert told["bare_alice"] == (0, "alice")


@pytest.mark.parametrize("who", ["alice_as_bob", "alice_as_root", "root_as_bob", "outside", "outside_alice"])
def test_nobody_is_another_and_nobody_is_known_from_outside(told: dict[str, tuple[int, str]], who: str) -> None:
    status, text = told[who]
    assert status == 255
    assert "Permission denied (" in text


def test_users_read_no_secret_and_no_foreign_connection(told: dict[str, tuple[int, str]]) -> None:
    for path in SECRETS:
        assert told[f"reads_{Path(path).name}"] == (1, "")
    assert told["alice_keysign"][0] != 0
    assert told["steals_connection"][0] != 0


def test_a_planted_directory_is_not_used(told: dict[str, tuple[int, str]]) -> None:
    assert told["bob"] == (0, "bob")
    assert told["trap"] == (0, "")


def test_packages_are_installed_on_the_init_node_wherever_it_is_said(told: dict[str, tuple[int, str]]) -> None:
    # Debian's dpkg itself, past our link: refused before anything is changed
    assert told["dpkg_refused"][0] != 0
    assert told["nothing_ran"] == (1, "")
    assert told["dpkg_question"] == (1, "")
    assert told["dpkg"][0] == 0
    assert told["ran_on"] == (0, "init")
    assert told["apt"][0] == 0
    assert told["ran_again_on"] == (0, "init")


def test_no_secret_is_served(machine: Machine) -> None:
    tree = machine.tree
    secrets = [(tree / path).read_bytes().strip() for path in SECRETS]
    served = [path for path in (tree / "tftpboot").rglob("*") if path.is_file()]
    for path in served:
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path
        assert path.resolve().is_relative_to((tree / "tftpboot").resolve()), path


def test_services_listen_on_the_interconnect_only(machine: Machine) -> None:
    dnsmasq = (machine.tree / "cluster/etc/dnsmasq.conf").read_text()
    assert "bind-dynamic" in dnsmasq
    assert "interface=eth1" in dnsmasq
    exports = (machine.tree / "etc/exports.d/openssi.exports").read_text()
    assert "*(" not in exports
    assert "10.0.0.2(rw," in exports
    # NFS, time and membership are bound to addresses of the interconnect
    assert _listens(machine) == "10.0.0.254"
    assert "bindaddress 10.0.0.254" in (machine.tree / "cluster/node3/etc/chrony/conf.d/openssi.conf").read_text()
    assert '"bind": "$address:7946"' in (machine.tree / "usr/lib/openssi/membership").read_text()


def test_the_file_of_readme_nfs_server_lets_nfs_listen_outside_too(machine: Machine) -> None:
    text = (ROOT / "docs/README.nfs-server.md").read_text()
    [block] = re.findall(r"(?m)^ *\[nfsd\]\n.*\n", text)
    [name] = re.findall(r"`(\w+\.conf)`, with the service address", text.replace("\n", " "))
    path = machine.tree / "etc/nfs.conf.d" / name
    path.write_text(block)
    assert _listens(machine) == "10.0.0.254,192.0.2.1"
    path.unlink()


def _listens(machine: Machine) -> str:
    return machine.session.output(["nfsconf", "--get", "nfsd", "host"]).decode().strip()
