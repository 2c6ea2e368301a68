"""dnsmasq's configuration and the addresses it may give."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from openssi.errors import Error
from openssi.netboot import dhcp
from openssi.netboot.network import entry_name, network
from openssi_build import serve


@dataclass(frozen=True)
class Row:
    number: int
    ip: str
    mac: str
    protocol: str = "P"


ON = network("eth1", "10.1.0.1/24")


def test_the_pool_is_in_the_subnet_and_never_has_the_servers_address() -> None:
    for address in ("10.1.0.1/24", "10.1.0.254/24", "10.1.200.7/16", "192.168.1.6/29", "10.0.0.1/8"):
        on = network("eth1", address)
        first, last = (int(part.rsplit(".", 1)[1]) for part in (on.first, on.last))
        assert on.first != on.address != on.last
        assert on.subnet.supernet_of(on.subnet)
        if on.prefix >= 24:
            own = int(on.address.rsplit(".", 1)[1])
            assert first <= last
            assert not first <= own <= last


@pytest.mark.parametrize("address", ["10.1.0.1", "10.1.0.1/31", "fe80::1/64", "10.1.0.300/24", "x"])
def test_an_address_without_room_or_meaning_is_refused(address: str) -> None:
    with pytest.raises(Error, match="eth1"):
        network("eth1", address)


def test_machines_are_served_on_an_interface_that_has_an_address_and_is_not_the_loopback() -> None:
    links = [
        {"ifname": name, "link_type": kind, "addr_info": [{"family": "inet", "local": address, "prefixlen": 24}]}
        for name, kind, address in (("lo", "loopback", "127.0.0.1"), ("eth1", "ether", "10.1.0.1"))
    ]
    listing = json.dumps([*links, {"ifname": "eth2", "link_type": "ether", "addr_info": []}]).encode()
    assert serve.interconnect("eth1", listing).address == "10.1.0.1"
    for name in ("lo", "eth2", "eth3"):
        with pytest.raises(Error, match=f"{name}: no interface to other machines that has an IPv4 address"):
            serve.interconnect(name, listing)


def test_dnsmasq_is_bound_to_the_interconnect_and_answers_no_names() -> None:
    lines = dhcp.dnsmasq_config(ON).splitlines()
    assert "port=0" in lines
    assert [line for line in lines if line.startswith("interface=")] == ["interface=eth1"]
    assert "bind-dynamic" in lines


def test_each_kind_of_machine_gets_its_loader() -> None:
    lines = dhcp.dnsmasq_config(ON).splitlines()
    assert "dhcp-match=set:efi64,option:client-arch,9" in lines
    assert "dhcp-boot=tag:ipxe,ipxe/boot.ipxe" in lines
    assert "dhcp-boot=tag:bios,tag:!ipxe,pxelinux.0" in lines
    assert "dhcp-boot=tag:efi64,tag:etherboot,tag:!ipxe,snponly.efi" in lines
    assert "dhcp-boot=tag:http64,http://10.1.0.1/shimx64.efi" in lines


def test_http_loaders_are_not_offered_where_no_http_is_served() -> None:
    text = dhcp.dnsmasq_config(network("eth1", "10.1.0.1/24", http=False))
    assert "http://" not in text


def test_pxelinux_over_http_gets_its_path_prefix() -> None:
    lines = dhcp.dnsmasq_config(ON, bios="lpxelinux.0", ipxe=False).splitlines()
    assert "dhcp-option-force=tag:bios,210,http://10.1.0.1/" in lines
    assert "dhcp-boot=tag:bios,lpxelinux.0" in lines


def test_hosts_are_files_of_their_own_and_only_what_changed_is_written(tmp_path: Path) -> None:
    nodes = [Row(2, "10.1.0.2", "52:54:00:00:00:02"), Row(3, "10.1.0.3", "52:54:00:00:00:03", "E")]
    assert dhcp.write_hosts(tmp_path, nodes) == ["node2", "node3"]
    assert (tmp_path / "node2").read_text() == "52:54:00:00:00:02,set:node,10.1.0.2,infinite\n"
    assert (tmp_path / "node3").read_text() == "52:54:00:00:00:03,set:node,set:etherboot,10.1.0.3,infinite\n"
    assert dhcp.write_hosts(tmp_path, nodes) == []
    assert dhcp.write_hosts(tmp_path, nodes[:1]) == ["node3"]
    assert [path.name for path in tmp_path.iterdir()] == ["node2"]


def test_machines_that_wait_are_those_with_a_lease_and_no_entry(tmp_path: Path) -> None:
    path = tmp_path / dhcp.LEASES
    assert dhcp.waiting(tmp_path, []) == []
    path.parent.mkdir(parents=True)
    path.write_text(
        "1700000000 52:54:00:00:00:02 10.1.0.2 node2 01:52:54:00:00:00:02\n"
        "1700000060 52:54:00:00:00:77 10.1.0.200 * *\n"
        "duid 00:01:00:01\n"
    )
    found = dhcp.waiting(tmp_path, [Row(2, "10.1.0.2", "52:54:00:00:00:02")])
    assert [(lease.mac, lease.ip) for lease in found] == [("52:54:00:00:00:77", "10.1.0.200")]


@pytest.mark.parametrize(
    "text", ["52:54:00:00:00", "52:54:00:00:00:0g", "", "52:54:00:00:00:01\nx", "01:00:5e:00:00:07"]
)
def test_what_is_no_hardware_address_is_refused(text: str) -> None:
    with pytest.raises(Error, match="expected six bytes"):
        entry_name(text)
