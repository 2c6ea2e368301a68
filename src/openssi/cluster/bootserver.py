"""What the init node serves to booting machines, made from the cluster's state."""

from __future__ import annotations

from pathlib import Path

from openssi import run
from openssi.cluster import derive, state
from openssi.cluster.state import Cluster
from openssi.errors import Error
from openssi.netboot import dhcp, images, loaders, tree
from openssi.netboot.sync import Changes
from openssi.netboot.sync import check as compare
from openssi.netboot.sync import sync as put
from openssi.netboot.tree import Plan


def sync(cluster: Cluster) -> Changes:
    """Bring the tftp tree up to date with the table, the kernels and the initrds; Error when there is none to serve."""
    return put(cluster.root / dhcp.TREE, _plan(cluster))


def check(cluster: Cluster) -> Changes:
    """Return what sync() would do; nothing is written."""
    return compare(cluster.root / dhcp.TREE, _plan(cluster))


def _plan(cluster: Cluster) -> Plan:
    root = cluster.root
    return tree.plan(derive.network(cluster), cluster.nodes, images.installed(root), loaders.installed(root))


def activate(root: Path) -> None:
    """Make the running servers of the init node know what changed.

    On another node there is nothing to do: the init node watches the table (openssi-refresh.path).
    """
    if root != Path("/") or not state.is_init_node(root) or not Path("/run/systemd/system").is_dir():
        return
    for argv in (["exportfs", "-ra"], ["systemctl", "reload", "openssi-dnsmasq.service"]):
        try:
            run.run(argv, timeout=30)
        except Error:
            # Not started yet: it will read all of this when it is.
            continue
