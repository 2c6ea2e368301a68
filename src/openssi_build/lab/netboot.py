"""A boot server and one machine on a network of their own: dnsmasq and HTTP as nodes have them, in a namespace."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openssi import files
from openssi.netboot import dhcp
from openssi.netboot.network import Network, Node
from openssi.netboot.tree import templates
from openssi.qemu import Machine

TAP = "t0"
# The tap is the server's interface: what the machine sends arrives there, and nowhere else.
_SCRIPT = """
set -e
ip link set lo up
ip tuntap add dev "$TAP" mode tap
ip address add "$ADDRESS" dev "$TAP"
ip -6 address add "$ULA/64" dev "$TAP" nodad
ip link set "$TAP" up
[ -z "$HTTP" ] || busybox httpd -f -p "$HTTP" -c "$HTTPD" -h "$TREE" &
# -d: in a user namespace dnsmasq can't change its group
dnsmasq -d --conf-file="$CONFIGURATION" >"$LOG" 2>&1 &
exec "$@"
"""


@dataclass(frozen=True)
class Server:
    """What is served: ``tree`` to the machines of ``on``, whose interface must be ``t0``; files of ours in ``directory``."""

    on: Network
    tree: Path
    directory: Path

    @property
    def log(self) -> Path:
        """What dnsmasq says."""
        return self.directory / "dnsmasq.log"

    def prepare(self, nodes: Sequence[Node], *, bios: str = "", ipxe: bool = True) -> None:
        """Write dnsmasq's configuration and the nodes' entries."""
        self.directory.mkdir(parents=True, exist_ok=True)
        hosts = self.directory / "hosts"
        places = dhcp.Places(self.tree, hosts, self.directory / "leases")
        dhcp.write_hosts(hosts, nodes)
        text = dhcp.dnsmasq_config(self.on, places, bios=bios, ipxe=ipxe)
        files.write_if_changed(self.directory / "dnsmasq.conf", text + "no-ping\nlog-dhcp\n")

    def command(self, argv: Sequence[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
        """Return the command that runs ``argv`` (qemu with netdev()) beside the server, as root or anybody else."""
        known = {
            "TAP": TAP,
            "ADDRESS": f"{self.on.address}/{self.on.prefix}",
            "ULA": self.on.ula,
            "HTTP": f"{self.on.address}:80" if self.on.http else "",
            "HTTPD": str(templates() / "httpd.conf"),
            "TREE": str(self.tree),
            "CONFIGURATION": str(self.directory / "dnsmasq.conf"),
            "LOG": str(self.log),
        }
        words = [f"{name}={value}" for name, value in known.items()]
        return ["unshare", "--map-root-user", "--net", "env", *words, "sh", "-c", _SCRIPT, "server", *argv]

    def machine(self, name: str, argv: Sequence[str | os.PathLike[str]]) -> Machine:
        """Return the machine that boots from this server by the qemu command ``argv``."""
        return Machine(name, self.command(argv), self.directory)


def netdev() -> list[str]:
    """Return qemu's words for the cable to the server; the card has netdev=net."""
    return ["-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no"]
