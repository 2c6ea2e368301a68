"""The boot server's trees that the boots over the network share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import needs
from netboots import CARDS, NODES, Made

from openssi.netboot import media
from openssi.netboot.network import Network, network
from openssi_build import apt, netboot, settings, signing
from openssi_build.lab.netboot import TAP, Server
from openssi_build.settings import Signing


@pytest.fixture(scope="session")
def make_netboot(root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Return the maker of netboot directories: drivers for every card, entries for NODES."""
    needs("qemu-system-x86_64", "gpg", "mcopy", "xorriso")
    with_drivers = tuple(dict.fromkeys(CARDS.values()))
    wanted = settings.load(root)
    wanted = replace(wanted, initrd=(replace(wanted.initrd[0], drivers=with_drivers),))

    def make(on: Network) -> Made:
        out = tmp_path_factory.mktemp("netboot")
        with signing.signer(Signing(key_variable="OPENSSI_NO_SUCH_KEY"), cache / "trial") as signer:
            netboot.make(root, cache, wanted, signer, out=out, on=on, nodes=list(NODES.values()))
            keyring = out / "keyring.gpg"
            keyring.write_bytes(signer.public_keys())
        mirror = apt.mirror(wanted.repository)
        loaders = netboot.fetch(cache, wanted.repository.suite, "amd64", mirror)
        return Made(out, on, keyring, media.parts(loaders.tree))

    return make


@pytest.fixture(scope="session")
def served(make_netboot: Callable[..., Made]) -> Made:
    """The tree for a real dnsmasq, with HTTP."""
    needs("dnsmasq", "ip", "unshare", "busybox")
    return make_netboot(network(TAP, "10.9.0.1/24", arguments="console=ttyS0,115200"))


@pytest.fixture(scope="session")
def slirp(make_netboot: Callable[..., Made]) -> Made:
    """The tree for qemu's own server, which has no HTTP."""
    return make_netboot(network("eth0", "10.9.0.1/24", arguments="console=ttyS0,115200", http=False))


@pytest.fixture
def server(served: Made, tmp_path: Path) -> Server:
    """dnsmasq and HTTP as a node has them, for one machine."""
    made = Server(served.on, served.tree, tmp_path)
    made.prepare(list(NODES.values()))
    return made
