"""Boot media: who a machine is, and what the scripts on the medium say."""

from pathlib import Path

import pytest

from openssi.errors import Error
from openssi.netboot import media
from openssi.netboot.media import Identity
from openssi_build.netboot import Wanted

NODE = Identity("52:54:00:00:00:02", "10.1.0.2/24", "10.1.0.1", number=2)


def test_a_medium_with_an_identity_asks_no_dhcp() -> None:
    script = media._scripts(NODE)["boot.ipx"]
    assert "ifconf" not in script
    assert "set net${card}/ip 10.1.0.2\nset net${card}/netmask 255.255.255.0\n" in script
    assert "tftp://10.1.0.1/ipxe/01-52-54-00-00-00-02.ipxe" in script
    assert "ssi.node=2 ssi.ip=10.1.0.2/24 ssi.server=10.1.0.1 BOOTIF=01-52-54-00-00-00-02" in script


def test_a_machine_that_is_no_node_yet_gets_an_address_and_no_number() -> None:
    assert Identity("52:54:00:00:00:07", "10.1.0.7/24", "10.1.0.1").arguments == (
        "ssi.ip=10.1.0.7/24 ssi.server=10.1.0.1 BOOTIF=01-52-54-00-00-00-07"
    )


def test_the_root_may_be_served_from_another_address_than_the_boot_files() -> None:
    assert "ssi.server=10.1.0.254" in Identity("52:54:00:00:00:02", "10.1.0.2/24", "10.1.0.1", "10.1.0.254").arguments


@pytest.mark.parametrize(
    ("ip", "server"),
    [("10.1.0.2/24", "10.2.0.1"), ("10.1.0.2/24", "10.1.0.2"), ("x", "10.1.0.1")],
)
def test_an_address_that_does_not_reach_the_server_is_refused(ip: str, server: str) -> None:
    with pytest.raises(Error, match="boot medium"):
        Identity("52:54:00:00:00:02", ip, server)


@pytest.mark.parametrize("ip", ["10.1.0.2", "10.1.0.0/24", "10.1.0.255/24"])
def test_an_address_without_prefix_or_of_no_machine_is_refused(ip: str) -> None:
    with pytest.raises(Error, match="expected a machine's address with its prefix"):
        Identity("52:54:00:00:00:02", ip, "10.1.0.1")


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(node=2, mac="52:54:00:00:00:02"),
        Wanted(mac="52:54:00:00:00:02", server="10.1.0.1"),
        Wanted(mac="52:54:00:00:00:02", ip="10.1.0.2/24"),
    ],
)
def test_half_a_description_of_the_machine_is_refused(wanted: Wanted) -> None:
    with pytest.raises(Error, match="expected either --node and --table, or --mac, --ip and --server"):
        wanted.identity()


def test_a_node_is_what_its_table_says_and_no_other_address(tmp_path: Path) -> None:
    table = tmp_path / "clustertab"
    table.write_text("1 10.1.0.1 52:54:00:00:00:01 P 1 -\n2 10.1.0.2 52:54:00:00:00:02 E 0 -\n")
    assert Wanted(node=2, table=table).identity() == NODE
    assert Wanted(node=2, table=table, ip="10.1.0.2/16").identity().ip == "10.1.0.2/16"
    with pytest.raises(Error, match=r"--ip 10\.1\.0\.9/24: node 2 has 10\.1\.0\.2"):
        Wanted(node=2, table=table, ip="10.1.0.9/24").identity()


def test_every_medium_tries_again_by_itself() -> None:
    for identity in (None, NODE):
        script = media._scripts(identity)["boot.ipx"]
        assert script.startswith("#!ipxe\n")
        assert script.endswith("sleep 3\ngoto retry\n")


def test_grub_hands_the_script_over_as_one_word() -> None:
    for identity in (None, NODE):
        scripts = media._scripts(identity)
        assert f"chainloader /ipxe.efi ipxe '{scripts['boot.ipx']}'; then" in scripts["grub.cfg"]
        assert "'" not in scripts["boot.ipx"]
