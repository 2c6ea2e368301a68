"""`inv netboot-images`: the tftp tree and the boot media, with a signed manifest, below out/netboot."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from openssi import files
from openssi.cluster import table
from openssi.errors import Error
from openssi.netboot import loaders, media, sync, tree
from openssi.netboot.images import digest, served
from openssi.netboot.network import Network, Node
from openssi.run import run
from openssi_build import apt, deb, images, kernels, manifest, repository, signing
from openssi_build.settings import Initrd, Settings

TREE = "tftpboot"
ARGUMENTS = "console=ttyS0,115200 console=tty0"  # a shell is offered on the last one: the screen


@dataclass(frozen=True)
class Loaders:
    """The packages that loaders come from: unpacked into one ``tree``, and what they are."""

    tree: Path
    packages: tuple[apt.Package, ...]


@dataclass(frozen=True)
class Made:
    """What lies in ``directory``: the manifest's paths, in its order, what this run changed, and which keys sign it."""

    directory: Path
    paths: tuple[str, ...]
    changed: tuple[str, ...]
    signers: tuple[str, ...]


def fetch(cache: Path, suite: str, architecture: str, mirror: apt.Mirror) -> Loaders:
    """Return the loaders of ``suite``: Debian's packages, checked by apt, unpacked into one tree in the cache."""
    table = loaders.LOADERS.get(architecture)
    if table is None:
        raise Error(f"{architecture}: no boot loaders known (known: {', '.join(loaders.LOADERS)})")
    names = sorted({each.package for each in (*table, *media.PARTS)})
    source = apt.Apt(cache, suite, architecture, mirror)
    debs = source.download(names)
    packages = tuple(source.show(names).values())
    return Loaders(_unpack(cache, [debs[name] for name in names], packages), packages)


def _key(packages: Sequence[apt.Package]) -> str:
    return sha256("".join(sorted(each.sha256 for each in packages)).encode()).hexdigest()[:16]


def _unpack(cache: Path, debs: Sequence[Path], packages: Sequence[apt.Package]) -> Path:
    key = _key(packages)
    place = cache.absolute() / "loaders" / key
    with files.lock(place.with_suffix(".lock")):
        if not place.exists():
            temporary = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=place.parent))
            try:
                for deb in debs:
                    run(["dpkg-deb", "--extract", deb, temporary], timeout=300)
                temporary.chmod(0o755)
                temporary.rename(place)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
    return place


def make(
    root: Path,
    cache: Path,
    settings: Settings,
    signer: signing.Signer,
    *,
    out: Path | None = None,
    on: Network | None = None,
    nodes: Sequence[Node] = (),
    say: Callable[[str], None] = print,
) -> Made:
    """Bring ``out`` (out/netboot) up to date: tree, media, page, SBOM, manifest and its signature; old files stay on error.

    What has not changed is not written. With a network and nodes the tree has their entries too.
    """
    out = out or root / "out" / "netboot"
    out.mkdir(parents=True, exist_ok=True)
    # Beside the default directory, so that runs for other places do not meet.
    initrds = root / "out" / "initrd" if out == root / "out" / "netboot" else out / ".initrd"
    made = images.build_all(root, cache, settings, out=initrds, say=say)
    architecture = settings.repository.architectures[0]
    found = fetch(cache, settings.repository.suite, architecture, apt.mirror(settings.repository))
    installed = loaders.installed(found.tree, architecture)
    wanted = tree.plan(on, nodes, [each.netboot for each in made], installed, arguments=ARGUMENTS)
    with files.lock(out / ".lock"):
        changed = sync.sync(out / TREE, wanted).lines()
        changed += [f"written  {name}" for name in _media(out, media.parts(found.tree))]
        paths = [f"{TREE}/{name}" for name in (*wanted.images, *wanted.loaders, *wanted.entries)]
        described = manifest.Described(
            settings.repository, architecture, deb.version(root), _made_of(root, cache, settings, found, made)
        )
        written = manifest.write(out, sorted([*paths, *media.KINDS]), described, signer)
        changed += [f"written  {name}" for name in written]
    return Made(out, tuple(manifest.digests(out)), tuple(changed), signer.fingerprints)


def _made_of(
    root: Path, cache: Path, settings: Settings, found: Loaders, made: Sequence[images.Made]
) -> dict[str, list[apt.Package]]:
    """Return the Debian packages that are in each file: loaders, media, kernels, initrds. What is not named is all ours."""
    by_name = {each.name: each for each in found.packages}
    packages_of = {part.name: by_name[part.package] for part in media.PARTS}
    architecture = settings.repository.architectures[0]
    result = {f"{TREE}/{each.name}": [by_name[each.package]] for each in loaders.LOADERS[architecture]}
    result |= {kind: list(dict.fromkeys(packages_of[part] for part in media.HOLDS[kind])) for kind in media.KINDS}
    for wanted, image in zip(settings.initrd, made, strict=True):
        kernel, *others = _packages(root, cache, settings, wanted, image.package)
        names = served(image.netboot)
        result[f"{TREE}/{names.kernel}"] = [kernel]
        result[f"{TREE}/{names.initrd}"] = [kernel, *others]
    return result


def _packages(root: Path, cache: Path, settings: Settings, wanted: Initrd, image: Path) -> list[apt.Package]:
    """Return the Debian packages that a boot image is made of, that of the kernel, ``image``, first."""
    described = kernels.describe(root, wanted.kernel)
    held = kernels.held(root, wanted.kernel)
    assert held  # since the image was made
    packages = [apt.packed(image, held.files[image.name])]
    mirror = apt.mirror(settings.repository)
    source = apt.Apt(cache, described.suite, described.architecture, mirror, component="main non-free-firmware")
    for name in ("busybox-static", *wanted.firmware):
        with contextlib.suppress(apt.UnknownPackageError):  # what the mirror lacks is not in the image either
            packages.append(source.show([name])[name])
    return packages


def _media(out: Path, sources: dict[str, Path]) -> list[str]:
    """Make the media unless those that are there were made of the same; return the names of those written."""
    stamp = out / ".media"
    before = {kind: digest(out / kind) if (out / kind).exists() else "" for kind in media.KINDS}
    key = media.key(sources)
    if stamp.exists() and stamp.read_text() == f"{key} {' '.join(before.values())}\n":
        return []
    media.make(out, sources)
    after = {kind: digest(out / kind) for kind in media.KINDS}
    files.write(stamp, f"{key} {' '.join(after.values())}\n")
    return [kind for kind in media.KINDS if after[kind] != before[kind]]


def published(root: Path, made: Made, architecture: str) -> repository.Images:
    """Return what is published of ``made``: all that the manifest names, under a version that changes with it and its keys."""
    content = "".join([digest(made.directory / manifest.SUMS), *sorted(made.signers)])
    version = f"{deb.version(root).version}.{sha256(content.encode()).hexdigest()[:12]}"
    return repository.Images(made.directory, (*made.paths, manifest.SUMS, manifest.SIGNATURE), architecture, version)


def verify(root: Path, settings: Settings, directory: Path, keyring: Path | None) -> int:
    """Check ``directory`` by the public keys in ``keyring``, or those of [signing]; return the number of files."""
    with tempfile.NamedTemporaryFile(prefix="ossi-", suffix=".gpg") as keys:
        keys.write(signing.public_keys(keyring, root, settings.signing))
        keys.flush()
        return manifest.check(directory, Path(keys.name))


def make_all(root: Path, cache: Path, settings: Settings, say: Callable[[str], None]) -> Made:
    """Make everything and say what changed and what is there."""
    with signing.signer(settings.signing, root) as signer:
        made = make(root, cache, settings, signer, say=say)
    for line in made.changed or ("nothing changed",):
        say(f"  {line}")
    total = sum((made.directory / name).stat().st_size for name in made.paths)
    say(f"{made.directory}: {len(made.paths)} files, {total:,} bytes, signed; inv serve-netboot serves them")
    return made


@dataclass(frozen=True)
class Wanted:
    """A medium for one machine: a node of ``table``, or ``mac`` and ``ip``."""

    node: int = 0
    mac: str = ""
    ip: str = ""
    server: str = ""
    table: Path | None = None
    kind: str = ""

    def identity(self) -> media.Identity:
        """Return who the machine is; Error says what is lacking or too much."""
        if bool(self.node) == bool(self.mac) or (self.mac and not (self.ip and self.server)):
            raise Error("boot medium: expected either --node and --table, or --mac, --ip and --server")
        if not self.node:
            return media.Identity(self.mac, self.ip, self.server)
        if self.table is None:
            raise Error(
                f"boot medium: node {self.node}: which cluster?", hint="--table /etc/clustertab of its init node"
            )
        rows = {row.number: row for row in table.read(self.table)}
        row = rows.get(self.node)
        if row is None:
            raise Error(f"{self.table}: no node {self.node} (there are: {', '.join(map(str, rows))})")
        servers = [each.ip for each in rows.values() if each.initnode and each.number != self.node]
        if not self.server and not servers:
            raise Error(f"{self.table}: no init node but node {self.node}", hint="--server ADDRESS")
        ip = self.ip or f"{row.ip}/24"
        if ip.partition("/")[0] != row.ip:
            raise Error(f"boot medium: --ip {ip}: node {row.number} has {row.ip} in {self.table}")
        return media.Identity(row.mac, ip, self.server or servers[0], number=row.number)


def boot_medium(root: Path, cache: Path, settings: Settings, wanted: Wanted) -> list[Path]:
    """Make the media that ``wanted`` describes in out/media/<hardware address> and return them."""
    identity = wanted.identity()
    if wanted.kind and wanted.kind not in media.KINDS:
        raise Error(f"boot medium: --kind {wanted.kind}: expected one of {', '.join(media.KINDS)}")
    wants = settings.repository
    found = fetch(cache, wants.suite, wants.architectures[0], apt.mirror(wants))
    directory = root / "out" / "media" / identity.entry
    directory.mkdir(parents=True, exist_ok=True)
    kinds = (wanted.kind,) if wanted.kind else media.KINDS
    return media.make(directory, media.parts(found.tree), identity, kinds=kinds)
