"""The first node: from the answers to the list of steps that make a machine the init node of a new cluster."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from openssi import files, run
from openssi.cluster import cdsl, derive, fstab, state, table
from openssi.cluster.answers import Complete, hostname
from openssi.cluster.journal import Journal
from openssi.cluster.state import Cluster, Settings
from openssi.cluster.steps import Copy, Directory, File, Link, Run, Step, apply
from openssi.cluster.table import Node
from openssi.errors import Error
from openssi.netboot import dhcp

# What every node has for itself as a file: a link through the mount that the initrd makes.
CHRONY = "etc/chrony/conf.d/openssi.conf"
CDSLS = ("etc/nodename", "etc/hostname", "etc/machine-id", "etc/network/interfaces", CHRONY)
# On the root's own filesystem: the nodes' directories are bound before another one is mounted, and hide or are hidden.
ON_ROOT = ("/etc", "/usr", "/cluster/self", *(f"/{path}" for path in state.OWN_DIRECTORIES))
LOCK = "var/lib/openssi/create.lock"
TREE_LOCK = ".tftpboot.lock"  # beside the tree, as openssi.netboot.sync has it
UNITS = "usr/lib/systemd/system"
# Debian enables these on installation; serf runs under our unit, the others are NFS versions that are not spoken.
MASKED = ("serf.service",)
MASKED_V3 = ("rpcbind.service", "rpcbind.socket", "rpc-statd.service", "rpc-statd-notify.service", "nfs-blkmap.service")
_PERNODE_TEXT = (
    "# Directories that every node has for itself: /cluster/node<N>/PATH is mounted on PATH before all else.\n"
)
_NOTICE = "# Written by ssi-create; changes are lost.\n"


def plan(root: Path, given: Complete, journal: Journal) -> list[Step]:
    """Return the steps that make the tree ``root`` the first node of a cluster; Error when it can't be one.

    Nothing is written. What exists from an earlier run (names, keys, other nodes) stays.
    """
    number = given.number
    _check(root, given)
    names = {number: _nodename(root, journal, number, given)}
    cluster = Cluster(root, given.clustername, _nodes(root, given), settings(given))
    names |= {node.number: cluster.name_of(node.number) for node in cluster.nodes if node.number != number}
    fresh = journal.original("etc/fstab") or b""
    return [
        *_ground(root, number),
        *_node_files(root, journal, cluster, number, names[number]),
        *_settings_files(root, cluster, number),
        Directory("etc/chrony/conf.d"),
        *_service_files(cluster, nfs3=_uses_nfs3(fresh)),
        *_links(root, journal, number),
        *_fstab(root, journal, number),
        *derive.steps(cluster, names),
        *_enabled(root),
        # Last: with it the tree is a cluster's.
        File(state.TABLE, _table(root, given)),
        *_programs(),
    ]


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock of making and undoing, and the cluster's own once there is one, during the block."""
    with files.lock(root / LOCK, timeout=60), ExitStack() as stack:
        if state.exists(root):
            stack.enter_context(state.locked(root))
        yield


def make(root: Path, given: Complete, say: Callable[[str], None]) -> list[str]:
    """Make the tree ``root`` the first node of a cluster; return what programs failed, and how.

    Killed at any step, the machine still boots as it did; the next call goes on, undo() goes back.
    """
    with locked(root):
        journal = Journal(root)
        return apply(root, plan(root, given, journal), journal, say)


def undo(root: Path, say: Callable[[str], None]) -> None:
    """Give the machine back as it was before make(); nothing to do when there was none."""
    with locked(root):
        if root == Path("/"):
            _stop(say)
        journal = Journal(root)
        _share(root, journal, say)
        journal.undo(say)


def _share(root: Path, journal: Journal, say: Callable[[str], None]) -> None:
    """Put the init node's own in the place of each link that mklocalfile made: /cluster goes, and the copies with it."""
    try:
        number = int((root / state.INITNODE).read_text())
    except (FileNotFoundError, ValueError):
        return
    if not state.directory(root, number).is_dir():
        return
    cdsl.recover(root)
    for path in cdsl.of_node(root, number):
        if not journal.knows(path.as_posix().lstrip("/")):
            cdsl.share(root, path, number)
            say(f"restored {path}")


def _stop(say: Callable[[str], None]) -> None:
    """End what runs from the cluster's directories on the live system, and unmount them."""
    commands = [["systemctl", "stop", "openssi-*"]] if Path("/run/systemd/system").is_dir() else []
    commands += [["umount", "--lazy", point] for point in mounted(Path("/proc/self/mountinfo").read_text())]
    for argv in commands:
        try:
            run.run(argv, timeout=120)
            say(run.pasteable(argv))
        except Error as problem:
            say(f"warning: {problem}")


def mounted(mountinfo: str) -> list[str]:
    """Return the mount points, the last mounted first, that show a directory of /cluster/node<N> (proc(5), mountinfo)."""
    lines = [line.split() for line in mountinfo.splitlines()]
    return [words[4] for words in reversed(lines) if re.match(r"/cluster/node[0-9]+(/|$)", words[3])]


def settings(given: Complete) -> Settings:
    """Return the cluster's settings that follow from the answers."""
    return Settings(
        interconnect=str(given.nic.network),
        service_address=given.service_address,
        pool=given.pool,
        root_failover=given.failover,
        cvip=given.cvip,
        interface=given.nic.name,
        kernel_arguments=given.kernel_arguments,
    )


def _nodename(root: Path, journal: Journal, number: int, given: Complete) -> str:
    own = state.directory(root, number) / "etc/nodename"
    raw = own.read_bytes() if own.exists() else journal.original("etc/hostname") or b""
    name = raw.decode(errors="replace").strip()
    try:
        hostname(name)
    except ValueError as problem:
        raise Error(f"/etc/hostname: {problem}", hint="hostnamectl set-hostname NAME, then again") from None
    if name.lower() == given.clustername.lower():
        raise Error(f"clustername {given.clustername}: this machine is called so; expected another name")
    return name


def _nodes(root: Path, given: Complete) -> tuple[Node, ...]:
    return tuple(table.parse(_table(root, given)))


def _table(root: Path, given: Complete) -> str:
    """Return the table with the first node in it, beside nodes that were added before."""
    path = root / state.TABLE
    text = path.read_text() if path.exists() else table.HEADER
    old = {node.number: node for node in table.parse(text, str(path))}
    if old and given.number not in old:
        raise Error(
            f"node {given.number}: this tree is a cluster already, its init node has another number",
            hint="ssi-create --undo first",
        )
    bootdev = old[given.number].bootdev if old else None
    node = Node(given.number, given.nic.ip, given.nic.mac, given.protocol, initnode=True, bootdev=bootdev)
    text = table.put(text, node)
    table.parse(text, f"/{state.TABLE}")
    return text


def _check(root: Path, given: Complete) -> None:
    """Raise Error when the answers take from another node what is that node's."""
    if not (root / state.TABLE).exists():
        return
    # Settings that were damaged are no hindrance: they are written anew.
    before = Cluster(root, given.clustername, tuple(table.read(root / state.TABLE)), settings(given))
    for node in before.nodes:
        if node.number == given.number or node == before.init_node:
            continue
        whose = f"node {node.number} ({before.name_of(node.number)})"
        if IPv4Address(node.ip) not in given.nic.network:
            raise Error(
                f"card {given.nic}: {whose} has {node.ip}, which is not in {given.nic.network}",
                hint=f"ssi-rmnode {node.number} first, and ssi-addnode it again",
            )
        own = {"service address": given.service_address, "CVIP": given.cvip, f"card {given.nic.name}": given.nic.ip}
        for what, address in own.items():
            if address == node.ip:
                raise Error(f"{what} {address}: {whose} has it; expected one that no node has")
        if given.clustername.lower() in (before.name_of(node.number).lower(), f"node{node.number}"):
            raise Error(f"clustername {given.clustername}: {whose} is called so; expected another name")


def _ground(root: Path, number: int) -> list[Step]:
    home = f"cluster/node{number}"
    return [
        Directory("cluster", tree=True),
        Directory("tftpboot", tree=True),
        Directory("cluster/etc"),
        Directory("cluster/self"),
        Directory("cluster/nfsd-state", mode=0o700),
        Directory(str(dhcp.HOSTS)),
        Directory(home),
        Directory(f"{home}/etc"),
        Directory(f"{home}/etc/network"),
        # Under the mount: as long as nothing is mounted (a rescue boot, the time up to the first reboot), the
        # CDSLs lead to the init node's own files.
        Link("cluster/self/etc", f"../node{number}/etc"),
        Link("cluster/self/var", f"../node{number}/var"),
    ]


def _node_files(root: Path, journal: Journal, cluster: Cluster, number: int, name: str) -> list[Step]:
    home = f"cluster/node{number}"
    machine_id = _own(root, journal, number, "etc/machine-id").decode(errors="replace").strip()
    if machine_id in ("", "uninitialized"):
        machine_id = secrets.token_hex(16)
    result: list[Step] = [
        File(f"{home}/etc/nodename", f"{name}\n"),
        File(f"{home}/etc/hostname", _own(root, journal, number, "etc/hostname")),
        File(f"{home}/etc/machine-id", f"{machine_id}\n", mode=0o444),
        File(f"{home}/{CHRONY}", _chrony_server_text(str(cluster.interconnect), cluster.service_address)),
    ]
    interfaces = _own(root, journal, number, "etc/network/interfaces")
    if interfaces or (root / "etc/network").is_dir():
        result.append(File(f"{home}/etc/network/interfaces", interfaces))
    result += [Copy(path, f"{home}/{path}") for path in state.OWN_DIRECTORIES]
    return result


def _own(root: Path, journal: Journal, number: int, path: str) -> bytes:
    """Return the node's own content of a CDSL: from its directory, or from the file that becomes one."""
    own = state.directory(root, number) / path
    return own.read_bytes() if own.exists() else journal.original(path) or b""


def _settings_files(root: Path, cluster: Cluster, number: int) -> list[Step]:
    key = root / state.SERF_KEY
    secret = key.read_bytes() if key.exists() else base64.b64encode(secrets.token_bytes(32)) + b"\n"
    own = _PERNODE_TEXT + "".join(f"/{path}\n" for path in state.OWN_DIRECTORIES)
    # Never replaced: a lock is its file's inode, and the administrator adds to the list.
    kept = [File(path, text) for path, text in ((state.LOCK, ""), (TREE_LOCK, ""), (state.PERNODE, own))]
    return [
        *(each for each in kept if not (root / each.path).exists()),
        File(state.SERF_KEY, secret, mode=0o600),
        File(state.SETTINGS, cluster.settings.text),
        File(state.NAME, f"{cluster.name}\n"),
        File(state.INITNODE, f"{number}\n"),
    ]


def _service_files(cluster: Cluster, *, nfs3: bool) -> list[Step]:
    masked = MASKED if nfs3 else MASKED + MASKED_V3
    return [
        File("etc/nfs.conf.d/openssi.conf", _nfs_text(cluster.service_address)),
        File("etc/ssh/sshd_config.d/openssi.conf", _sshd_text(str(cluster.interconnect))),
        *(Link(f"etc/systemd/system/{unit}", "/dev/null") for unit in masked),
    ]


def _nfs_text(service: str) -> str:
    # One scope and one state directory, both with the root: clients take back their locks when the address moves.
    # Without the words on versions 2 and 3 rpc.mountd listens for them on every interface.
    return _NOTICE + (
        f"[nfsd]\nhost={service}\nvers2=n\nvers3=n\nvers4=y\nvers4.1=y\nvers4.2=y\nthreads=16\n"
        "grace-time=15\nlease-time=10\nscope=openssi\n"
        "[nfsdcld]\nstoragedir=/cluster/nfsd-state\n"
    )


def _sshd_text(network: str) -> str:
    return _NOTICE + (
        "UseDNS no\n"
        # the environment of onnode's caller; added to what Debian's sshd_config accepts, where a Match would replace it
        "AcceptEnv OPENSSI_ENVIRONMENT\n"
        f"Match Address {network}\n"
        "  HostbasedAuthentication yes\n"
        "  HostbasedUsesNameFromPacketOnly no\n"
        "  IgnoreRhosts no\n"
        "  PermitRootLogin prohibit-password\n"
        "Match All\n"
    )


def _chrony_server_text(network: str, service: str) -> str:
    return _NOTICE + f"bindaddress {service}\nallow {network}\nlocal stratum 10\n"


def chrony_node_text(service: str) -> str:
    """Return what chronyd of every other node reads beside /etc/chrony/chrony.conf: the init node is its clock."""
    return _NOTICE + f"server {service} iburst prefer minpoll 3 maxpoll 6\n"


def _uses_nfs3(text: bytes) -> bool:
    """Return True when fstab mounts NFS of a version that needs rpcbind and statd."""
    lines = fstab.entries(text.decode(errors="replace"))
    old = ("vers=3", "nfsvers=3", "vers=2", "nfsvers=2")
    return any(each.kind == "nfs" and any(option in old for option in each.options) for each in lines)


def _links(root: Path, journal: Journal, number: int) -> list[Step]:
    made = []
    for path in CDSLS:
        if path == "etc/network/interfaces" and not (root / "etc/network").is_dir():
            continue
        made.append(Link(path, f"/cluster/self/{path}", cdsl=True, node=number))
    return [*made]


def _enabled(root: Path) -> list[Step]:
    """Return the links by which systemd starts our units, as each unit's [Install] section says."""
    found = []
    for unit in sorted((root / UNITS).glob("openssi-*.*")):
        for wanted in re.findall(r"(?m)^WantedBy=(\S+)$", unit.read_text()):
            found.append(Link(f"etc/systemd/system/{wanted}.wants/{unit.name}", f"/{UNITS}/{unit.name}"))
    return [*found]


def _fstab(root: Path, journal: Journal, number: int) -> list[Step]:
    path = root / "etc/fstab"
    if not path.exists():
        return []
    text = path.read_bytes().decode(errors="surrogateescape")
    for point in fstab.apart(text, number, ON_ROOT):
        raise Error(
            f"/etc/fstab: {point} is a filesystem of its own; expected it on the root's, where every node needs it",
            hint="move it there or install with another layout; /home, /srv and the like may be apart",
        )
    return [File("etc/fstab", fstab.mark(text, number), kind="fstab", node=number)]


def _programs() -> list[Step]:
    return [
        Run(("systemctl", "daemon-reload"), "new units and masks"),
        Run(("update-initramfs", "-u", "-k", "all"), "this node mounts its own directories when it boots"),
        Run(("ssi-ksync", "--build"), "the nodes' boot images and the tftp tree"),
    ]


FIREWALL = (
    ("udp 67, 69", "DHCP and TFTP"),
    ("tcp 80", "boot images by HTTP"),
    ("tcp 2049", "the shared root (NFS)"),
    ("tcp 22", "onnode, onall (ssh)"),
    ("udp 123", "time (NTP)"),
    ("tcp and udp 7946", "membership (serf)"),
    ("udp 799", "load figures"),
)


def firewall(nic: str) -> list[str]:
    """Return what to tell of the firewall: trust the interconnect's card, or open these on it."""
    lines = [f"Firewall: trust {nic}, or open on it:"]
    return lines + [f"  {ports:18} {what}" for ports, what in FIREWALL]


def summary(given: Complete) -> list[str]:
    """Return the answers as lines to confirm."""
    return [
        f"node {given.number} on {given.nic}, network boot {given.protocol}",
        f"cluster {given.clustername}" + (f", CVIP {given.cvip}" if given.cvip else ", no CVIP"),
        f"root served at {given.service_address}, failover {'yes' if given.failover else 'no'}",
        f"waiting machines get {given.pool[0]} to {given.pool[1]}",
    ]
