"""`inv serve-netboot`: DHCP, TFTP and HTTP for out/netboot on one interface, with the configuration that nodes have."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

from openssi import files, run
from openssi.cluster import table
from openssi.errors import Error
from openssi.netboot import dhcp
from openssi.netboot.network import Network, network
from openssi.netboot.tree import templates
from openssi_build import netboot, signing
from openssi_build.settings import Settings


def interconnect(interface: str, listing: bytes) -> Network:
    """Return the network of ``interface`` by what ``ip -json address`` says; Error when it has no IPv4 address."""
    for link in json.loads(listing or b"[]"):
        if link.get("ifname") != interface or link.get("link_type") == "loopback":
            continue
        for each in link.get("addr_info", []):
            if each.get("family") == "inet":
                return network(interface, f"{each['local']}/{each['prefixlen']}", arguments=netboot.ARGUMENTS)
    raise Error(
        f"{interface}: no interface to other machines that has an IPv4 address",
        hint=f"ip address add 10.1.0.1/24 dev {interface}",
    )


def commands(on: Network, tree: Path, configuration: Path) -> list[list[str | Path]]:
    """Return the commands of the two servers."""
    return [
        [
            "dnsmasq",
            "--keep-in-foreground",
            "--log-facility=-",
            "--user=root",
            f"--conf-file={configuration}",
            "--pid-file=",
        ],
        ["busybox", "httpd", "-f", "-p", f"{on.address}:80", "-c", templates() / "httpd.conf", "-h", tree],
    ]


def serve(
    root: Path, cache: Path, settings: Settings, interface: str, nodes: Path | None, say: Callable[[str], None]
) -> None:
    """Make out/served for the machines on ``interface`` and serve it until interrupted; ends what it started."""
    if os.geteuid() != 0:
        raise Error("inv serve-netboot: DHCP and TFTP have ports that only root may open", hint="run it as root")
    listing = run.output(["ip", "-json", "address"], timeout=20)
    on = interconnect(interface, listing)
    rows = table.read(nodes) if nodes else []
    for row in rows:
        if IPv4Address(row.ip) not in on.subnet:
            raise Error(
                f"{nodes}: node {row.number} has {row.ip}: expected an address in {on.subnet}, as {interface} has"
            )
    out = root / "out" / "served"
    with signing.signer(settings.signing, root) as signer:
        netboot.make(root, cache, settings, signer, out=out, on=on, nodes=rows, say=say)
    places = dhcp.Places(out / netboot.TREE, out / "hosts", out / "leases")
    dhcp.write_hosts(places.hosts, rows)
    configuration = out / "dnsmasq.conf"
    files.write_if_changed(configuration, dhcp.dnsmasq_config(on, places))
    running: list[tuple[str, run.Process]] = []
    with run.interrupted_by_signals():
        try:
            with _router(on, listing):
                for argv in commands(on, places.tree, configuration):
                    running.append((Path(argv[0]).name, run.start(argv, log_to=out / f"{Path(argv[0]).name}.log")))
                say(
                    f"{interface} {on.address}: DHCP ({on.first} to {on.last}), TFTP and HTTP; {len(rows)} nodes; "
                    "Ctrl-C ends it"
                )
                _watch(out, running)
        finally:
            for _, process in running:
                run.stop(process)


@contextlib.contextmanager
def _router(on: Network, listing: bytes) -> Iterator[None]:
    """Let the interface have the IPv6 address that dnsmasq advertises, for the time of the block."""
    words = [f"{on.ula}/64", "dev", on.interface]
    with contextlib.suppress(Error):  # without IPv6 iPXE waits for a router advertisement, no more
        run.run(["ip", "-6", "address", "replace", *words], timeout=20)
    try:
        yield
    finally:
        if on.ula.encode() not in listing:
            with contextlib.suppress(Error):
                run.run(["ip", "-6", "address", "delete", *words], timeout=20)


def _watch(out: Path, running: list[tuple[str, run.Process]]) -> None:
    while True:
        for name, process in running:
            if process.poll() is not None:
                log = out / f"{name}.log"
                said = log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
                raise Error(f"{name}: ended with status {process.returncode}: {said}", hint=f"see {log}")
        time.sleep(1)
