"""What follows from the table and the settings: /etc/hosts, the export of the root, trust between the nodes.

Every file here is made anew from the truth (see state), so that a command that was killed between two of them
leaves nothing that the next one does not put right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from openssi.cluster import blocks, fstab
from openssi.cluster.journal import Journal
from openssi.cluster.state import SETTINGS, Cluster
from openssi.cluster.steps import File, Step, apply
from openssi.errors import Error
from openssi.netboot import dhcp
from openssi.netboot.network import Network

HOSTS = "etc/hosts"
EXPORTS = "etc/exports.d/openssi.exports"
KNOWN_HOSTS = "etc/ssh/ssh_known_hosts"
EQUIVALENT = "etc/ssh/shosts.equiv"
ROOT_SHOSTS = "root/.shosts"
CLIENT = "etc/ssh/ssh_config.d/openssi.conf"
Names = Mapping[int, str]
_KEYS = "ssh_host_*_key.pub"
_NOTICE = "# Written by OpenSSI from /etc/clustertab; changes are lost.\n"
_EXPORT = "rw,no_root_squash,no_subtree_check,sec=sys,sync"


def hosts_lines(cluster: Cluster, names: Names, hosts: str) -> list[str]:
    """Return our lines of /etc/hosts; ``hosts`` is the present file, whose parked line may know a full name."""
    service = cluster.service_address
    lines = []
    if cluster.settings.cvip:
        lines.append(f"{cluster.settings.cvip}\t{cluster.name}")
        lines.append(f"{service}\t{cluster.name}-root")
    else:
        lines.append(f"{service}\t{cluster.name} {cluster.name}-root")
    for node in cluster.nodes:
        name = names[node.number]
        known = dict.fromkeys([*blocks.aliases(hosts, name), f"node{node.number}"])
        lines.append(f"{node.ip}\t{' '.join(known)}")
    return lines


def exports_text(cluster: Cluster, points: Sequence[str]) -> str:
    """Return the exports: ``/`` and ``points`` to every node that is in the table, and to nobody else."""
    clients = [node.ip for node in cluster.nodes]
    lines = []
    for point in ("/", *points):
        # fsid=0: the root of NFSv4's name space, so that nodes mount server:/
        options = _EXPORT + (",fsid=0" if point == "/" else "")
        lines.append(" ".join([_quoted(point), *(f"{client}({options})" for client in clients)]) + "\n")
    return _NOTICE + "".join(lines)


def _quoted(point: str) -> str:
    # fstab writes a blank as \040, and so does exports(5).
    return f'"{point}"' if "#" in point else point


def known_hosts_lines(cluster: Cluster, names: Names, keys: Sequence[str]) -> list[str]:
    """Return one line a host key: all nodes' addresses and names have the same keys, since /etc is shared."""
    patterns = [cluster.service_address]
    for node in cluster.nodes:
        patterns += dict.fromkeys([node.ip, names[node.number], f"node{node.number}"])
    return [f"{','.join(patterns)} {' '.join(key.split()[:2])}" for key in keys]


def ssh_client_text(cluster: Cluster, names: Names) -> str:
    """Return the settings of ssh towards nodes: the machine vouches for the user, the keys are known."""
    hosts = [
        each for node in cluster.nodes for each in dict.fromkeys([node.ip, names[node.number], f"node{node.number}"])
    ]
    lines = [
        "EnableSSHKeysign yes",
        f"Host {' '.join(hosts)}",
        "  HostbasedAuthentication yes",
        "  PreferredAuthentications hostbased,publickey,keyboard-interactive,password",
        "  GSSAPIAuthentication no",
        "  StrictHostKeyChecking yes",
        "  UpdateHostKeys no",
    ]
    return _NOTICE + "\n".join(lines) + "\n"


def shosts_lines(cluster: Cluster) -> list[str]:
    """Return the addresses from which a user is taken for the user of the same name."""
    return [node.ip for node in cluster.nodes]


def host_keys(root: Path) -> list[str]:
    """Return the public host keys of the tree, one line each, sorted by file."""
    return [path.read_text().strip() for path in sorted((root / "etc/ssh").glob(_KEYS))]


def steps(cluster: Cluster, names: Names | None = None) -> list[Step]:
    """Return the files that follow from ``cluster``, as they should be now; ``names`` when they are not on the disk yet."""
    names = cluster.names if names is None else names
    root = cluster.root
    hosts = text_of(root / HOSTS)
    for name in names.values():
        hosts = blocks.park(hosts, name)
    points = fstab.exported(text_of(root / "etc/fstab"), cluster.init_node.number)
    shosts = shosts_lines(cluster)
    return [
        File(HOSTS, blocks.put(hosts, hosts_lines(cluster, names, hosts), f"/{HOSTS}"), kind="hosts"),
        File(EXPORTS, exports_text(cluster, points)),
        _block(root, KNOWN_HOSTS, known_hosts_lines(cluster, names, host_keys(root))),
        _block(root, EQUIVALENT, shosts),
        _block(root, ROOT_SHOSTS, shosts, mode=0o600),
        File(CLIENT, ssh_client_text(cluster, names)),
        *_dhcp(cluster),
    ]


def network(cluster: Cluster) -> Network:
    """Return the interconnect as the boot server on the init node sees it."""
    settings = cluster.settings
    if not settings.interface or not settings.pool:
        raise Error(f"/{SETTINGS}: expected interface and pool", hint="ssi-create writes them")
    return Network(
        interface=settings.interface,
        address=cluster.init_node.ip,
        prefix=cluster.interconnect.prefixlen,
        service=cluster.service_address,
        first=settings.pool[0],
        last=settings.pool[1],
        arguments=settings.kernel_arguments,
    )


def _dhcp(cluster: Cluster) -> list[Step]:
    """Return dnsmasq's files. The init node has a static address: what asks for it by DHCP gets none."""
    server = network(cluster)
    return [
        File(str(dhcp.CONFIGURATION), dhcp.dnsmasq_config(server)),
        File(str(dhcp.ENVIRONMENT), dhcp.environment(server)),
        *(File(f"{dhcp.HOSTS}/node{node.number}", dhcp.host_entry(node)) for node in cluster.nodes),
    ]


def _block(root: Path, path: str, lines: Sequence[str], mode: int = 0o644) -> File:
    return File(path, blocks.put(text_of(root / path), lines, f"/{path}"), mode, "block")


def text_of(path: Path) -> str:
    """Return the text of a file, bytes that are none kept as surrogates; nothing when there is no file."""
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return ""


def refresh(cluster: Cluster, journal: Journal | None = None) -> list[str]:
    """Bring every derived file up to date, under the lock; return the paths that changed."""
    journal = journal or Journal(cluster.root)
    changed: list[str] = []
    apply(cluster.root, steps(cluster), journal, changed.append)
    return changed + _forget(cluster)


def _forget(cluster: Cluster) -> list[str]:
    """Remove the DHCP entries of nodes that are gone."""
    known = {f"node{node.number}" for node in cluster.nodes}
    gone = [path for path in sorted((cluster.root / dhcp.HOSTS).glob("node*")) if path.name not in known]
    for path in gone:
        path.unlink()
    return [f"removed /{path.relative_to(cluster.root)}" for path in gone]


def check_names(cluster: Cluster) -> None:
    """Raise Error when two nodes have one name: /etc/hosts would lead to the wrong one."""
    seen: dict[str, int] = {}
    for number, name in cluster.names.items():
        if name in seen:
            raise Error(
                f"nodes {seen[name]} and {number} are both called {name}", hint=f"see /cluster/node{number}/etc"
            )
        seen[name] = number
