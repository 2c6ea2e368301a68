"""dnsmasq's configuration: DHCP, TFTP and router advertisement on the interconnect, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from openssi import files
from openssi.netboot import loaders
from openssi.netboot.network import Network, Node, mac

CONFIGURATION = Path("cluster/etc/dnsmasq.conf")
ENVIRONMENT = Path("cluster/etc/netboot.env")
HOSTS = Path("cluster/etc/dhcp-hosts")
TREE = Path("tftpboot")
LEASES = Path("var/lib/openssi/dnsmasq.leases")


@dataclass(frozen=True)
class Places:
    """The directories and files that dnsmasq uses; on a node below ``/``."""

    tree: Path = Path("/") / TREE
    hosts: Path = Path("/") / HOSTS
    leases: Path = Path("/") / LEASES


@dataclass(frozen=True)
class Lease:
    """One line of the lease file: a machine that got an address."""

    expires: int  # seconds since 1970; 0: never
    mac: str
    ip: str
    name: str


def dnsmasq_config(on: Network, places: Places | None = None, *, bios: str = "", ipxe: bool = True) -> str:
    """Return dnsmasq's configuration file for the tree and the interconnect.

    ``bios`` is the loader for BIOS machines (default: pxelinux.0; lpxelinux.0 takes all by HTTP); without ``ipxe`` an iPXE in a
    NIC's ROM gets that loader like any other ROM, not our script.
    """
    places = places or Places()
    lines = [
        "# Written by OpenSSI; changes are lost. Nothing but DHCP, TFTP and router advertisement, on the interconnect only.",
        "port=0",
        f"interface={on.interface}",
        "except-interface=lo",
        "bind-dynamic",
        f"dhcp-range={on.first},{on.last},{on.subnet.netmask},10m",
        "dhcp-authoritative",
        f"dhcp-hostsdir={places.hosts}",
        f"dhcp-leasefile={places.leases}",
        # The interconnect leads nowhere: neither router nor name server.
        "dhcp-option=3",
        "dhcp-option=6",
        "",
        "enable-tftp",
        f"tftp-root={places.tree}",
        # 125 nodes may start at once; the default is 50 transfers.
        "tftp-max=600",
        "tftp-no-fail",
        "",
        "# iPXE waits 13 s for a router advertisement that never comes. Lifetime 0: a prefix, but no default route.",
        "enable-ra",
        "quiet-ra",
        f"dhcp-range={on.ula.removesuffix('1')},ra-only",
        f"ra-param={on.interface},0,0",
        "",
        "# Who asks: option 175 is iPXE, option 93 the client's architecture (RFC 4578 and IANA's list).",
        "dhcp-match=set:ipxe,175",
        *_selection(on, bios or loaders.BIOS, ipxe),
    ]
    return "\n".join(lines) + "\n"


def _selection(on: Network, bios: str, ipxe: bool) -> list[str]:
    lines = [f"dhcp-match=set:{kind.tag},option:client-arch,{kind.number}" for kind in loaders.CLIENTS]
    plain = "tag:!ipxe," if ipxe else ""
    if ipxe:
        # By TFTP, which is always there; the script itself takes the kernel by HTTP where it can.
        lines.append(f"dhcp-boot=tag:ipxe,{loaders.IPXE_SCRIPT}")
    for kind in loaders.CLIENTS:
        if kind.http and not on.http:
            continue
        if kind.http:
            # A UEFI HTTP client takes an offer only if it carries its own vendor class back.
            lines.append(f"dhcp-option-force=tag:{kind.tag},60,HTTPClient")
            lines.append(f"dhcp-boot=tag:{kind.tag},http://{on.address}/{kind.loader}")
        elif kind.etherboot:
            lines.append(f"dhcp-boot=tag:{kind.tag},tag:etherboot,{plain}{kind.etherboot}")
            lines.append(f"dhcp-boot=tag:{kind.tag},tag:!etherboot,{plain}{kind.loader}")
        else:
            lines.append(f"dhcp-boot=tag:{kind.tag},{plain}{bios}")
            if bios == loaders.BIOS_HTTP:
                # The path prefix of RFC 5071: all that follows the loader comes by HTTP.
                lines.append(f"dhcp-option-force=tag:{kind.tag},210,http://{on.address}/")
    # A ROM that does not say what it is is an old BIOS one.
    silent = "".join(f"tag:!{kind.tag}," for kind in loaders.CLIENTS)
    lines.append(f"dhcp-boot={plain}{silent}{bios}")
    return list(dict.fromkeys(lines))


def environment(on: Network) -> str:
    """Return what the units of the boot server must know, as shell assignments."""
    return f"INTERFACE={on.interface}\nADDRESS={on.address}\nULA={on.ula}\n"


def host_entry(node: Node) -> str:
    """Return the line of ``dhcp-hostsdir`` by which ``node`` always gets its own address."""
    tags = "set:node,set:etherboot" if node.protocol == "E" else "set:node"
    return f"{mac(node.mac)},{tags},{node.ip},infinite\n"


def write_hosts(directory: Path, nodes: Iterable[Node]) -> list[str]:
    """Make ``directory`` hold one file a node; return the names that changed.

    dnsmasq sees a new or changed file by itself. What is *removed* it forgets when it gets SIGHUP
    (``systemctl reload openssi-dnsmasq``).
    """
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {f"node{node.number}": host_entry(node) for node in nodes}
    changed = [name for name, line in wanted.items() if files.write_if_changed(directory / name, line)]
    for path in sorted(directory.glob("node*")):
        if path.name not in wanted:
            path.unlink()
            changed.append(path.name)
    return changed


def leases(path: Path) -> list[Lease]:
    """Return the leases that dnsmasq has given; none when there is no such file.

    A line is: expiry, hardware address, address, name or ``*``, client id (dnsmasq(8), --dhcp-leasefile).
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and words[0].isdigit() and "." in words[2]:
            found.append(Lease(int(words[0]), words[1].lower(), words[2], "" if words[3] == "*" else words[3]))
    return found


def waiting(root: Path, nodes: Iterable[Node]) -> list[Lease]:
    """Return the leases of machines that are in no node's entry: what ssi-addnode offers."""
    known = {mac(node.mac) for node in nodes}
    return [lease for lease in leases(root / LEASES) if lease.mac not in known]
