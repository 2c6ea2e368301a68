"""Boot media: who a machine is, and what the scripts on the medium say."""

import pytest

from openssi.errors import Error
from openssi.netboot import media
from openssi.netboot.media import Identity

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
    [("10.1.0.2", "10.1.0.1"), ("10.1.0.2/24", "10.2.0.1"), ("10.1.0.2/24", "10.1.0.2"), ("x", "10.1.0.1")],
)
def test_an_address_that_does_not_reach_the_server_is_refused(ip: str, server: str) -> None:
    with pytest.raises(Error, match="boot medium"):
        Identity("52:54:00:00:00:02", ip, server)


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
