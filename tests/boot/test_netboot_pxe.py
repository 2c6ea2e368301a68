"""BIOS machines boot over the network: each card, by a real dnsmasq and by qemu's own server."""

from pathlib import Path

import pytest
from netboots import CARDS, NODES, TIMEOUT, Made, card, machine, up

from openssi.qemu import Machine
from openssi_build.lab.netboot import Server, netdev

pytestmark = pytest.mark.boot
# tulip has no ROM in Debian: see the floppy.
ROMS = [name for name in CARDS if name != "tulip"]


@pytest.mark.parametrize("name", ROMS)
def test_a_node_boots_by_pxe_from_dnsmasq(name: str, server: Server) -> None:
    row = NODES[name]
    argv = machine(name, "-boot", "n", *netdev(), *card(name, row.mac))
    with server.machine(name, argv) as node:
        node.wait(up(row), TIMEOUT)


@pytest.mark.parametrize("name", ROMS)
def test_a_node_boots_by_pxe_from_qemus_own_server(name: str, slirp: Made, tmp_path: Path) -> None:
    row = NODES[name]
    net = ["-netdev", f"user,id=net,restrict=on,tftp={slirp.tree},bootfile=pxelinux.0"]
    argv = machine("slirp", "-boot", "n", *net, *card(name, row.mac))
    with Machine("slirp", argv, tmp_path) as node:
        node.wait(up(row), TIMEOUT)


def test_lpxelinux_takes_all_by_http(served: Made, tmp_path: Path) -> None:
    server = Server(served.on, served.tree, tmp_path)
    server.prepare(list(NODES.values()), bios="lpxelinux.0", ipxe=False)
    row = NODES["e1000"]
    with server.machine("http", machine("http", "-boot", "n", *netdev(), *card("e1000", row.mac))) as node:
        node.wait(up(row), TIMEOUT)
    assert "vmlinuz" not in server.log.read_text()


def test_a_machine_without_entry_says_its_address_and_goes_on_when_it_is_added(served: Made, server: Server) -> None:
    mac = "52:54:00:09:00:77"
    entry = served.tree / "ssi/01-52-54-00-09-00-77"
    with server.machine("new", machine("new", "-boot", "n", *netdev(), *card("e1000", mac))) as node:
        node.wait(rf"ssi: this machine: {mac}", TIMEOUT)
        node.wait("ssi: waiting to be added: run ssi-addnode", TIMEOUT)
        entry.write_text("ssi.node=77 ssi.ip=10.9.0.77/24 ssi.server=10.9.0.1\n")
        try:
            node.wait("ssi: added as node 77", TIMEOUT)
        finally:
            entry.unlink()
