"""`inv verify-repo`: a published tree judged by apt's own rules, then by real apt of each Debian that has clients."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openssi.errors import Error
from openssi_build import apt, archive, chroot, signing
from openssi_build.keys import expiring
from openssi_build.repository import control, plan, snapshots
from openssi_build.settings import Settings
from openssi_build.verify import clients, depends, images, kept, offered, release, signatures, trees, web
from openssi_build.verify.indexes import Digests, Indexes
from openssi_build.verify.release import Release
from openssi_build.verify.trees import Tree

# The Debian releases whose apt is tried: 2.6 and 3.0.
CLIENT_SUITES = ("bookworm", "trixie")
# More than this many packages of ours are not installed for real, only resolved.
_INSTALLED = 20

Stanzas = Mapping[tuple[str, str, str], bytes]


@dataclass
class Report:
    """What was found: what is wrong, and what was seen to be right."""

    faults: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    packages: dict[tuple[str, str, str], bytes] = field(default_factory=dict)  # stanzas by name, version, architecture
    architectures: list[str] = field(default_factory=list)
    digests: Digests = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)  # fingerprints in Signed-By


def check(tree: Tree, suite: str, keyring: bytes, *, now: float | None = None) -> Report:
    """Judge the trees of ``suite`` and of ``deb URL ./`` in ``tree`` by apt's rules with the binary ``keyring`` of public keys."""
    report = Report()
    now = time.time() if now is None else now
    with tempfile.NamedTemporaryFile(prefix="ossi-", suffix=".gpg") as stream:
        stream.write(keyring)
        stream.flush()
        for prefix in (f"dists/{suite}/", ""):
            found = _signed(tree, prefix, Path(stream.name), report)
            if found:
                _judge(tree, prefix, found, suite, now, report)
                listed = (f"{prefix}{name}" for name in found.indexes)
                report.faults += images.faults(tree, listed, Path(stream.name), report.digests)
    return report


def _signed(tree: Tree, prefix: str, keyring: Path, report: Report) -> Release | None:
    """Return the Release below ``prefix`` after its signatures are checked; None when there is none or it is not readable."""
    inline, plain, detached = (trees.read(tree, f"{prefix}{name}") for name in ("InRelease", "Release", "Release.gpg"))
    signed: dict[str, tuple[bytes, bytes]] = {}  # text and signature by the file that holds the signature
    if inline is not None:
        try:
            signed["InRelease"] = signatures.split(inline)
        except Error as problem:
            report.faults.append(f"{prefix}InRelease: {problem}")
    if plain is not None and detached is not None:
        signed["Release.gpg"] = plain, detached
    if prefix and inline is None and not signed:
        report.faults.append(f"{prefix}InRelease: not there, nor Release with Release.gpg")
    if len({text.rstrip(b"\n") for text, _ in signed.values()}) > 1:
        report.faults.append(f"{prefix}InRelease and {prefix}Release differ")
    found = None
    for name, (text, signature) in signed.items():
        verdict = signatures.check(text, signature, keyring)
        report.faults += [f"{prefix}{name}: {each}" for each in verdict.problems]
        try:
            found = release.parse(text)
        except Error as problem:
            report.faults.append(f"{prefix}{name}: {problem}")
            continue
        _signers(f"{prefix}{name}", found, verdict, report)
    return found


def _signers(name: str, found: Release, verdict: signatures.Verdict, report: Report) -> None:
    """Note who signed; the Signed-By of a Release binds the one that follows it."""
    bound = found.fields.get("Signed-By", "").replace(",", " ").split()
    report.bound |= set(bound)
    if verdict.signers:
        report.seen.append(f"{name}: signed by {', '.join(verdict.signers)}")
        if bound and not set(bound) & set(verdict.signers):
            report.faults.append(
                f"{name}: Signed-By names none of the keys that signed: clients refuse the next Release"
            )


def _judge(tree: Tree, prefix: str, found: Release, suite: str, now: float, report: Report) -> None:
    report.faults += [f"{prefix}Release: {each}" for each in release.faults(found, suite if prefix else "", now)]
    indexes = Indexes(tree, prefix, found, report.digests)
    report.faults += indexes.check()
    with contextlib.suppress(Error):  # a date that is none is a fault by now
        report.seen.append(
            f"{prefix or './'}: {len(indexes.packages)} packages, {indexes.files} files with their {found.strongest}, "
            + release.left(found, now)
        )
    report.packages |= indexes.packages
    if prefix:
        report.architectures = [each for each in found.words("Architectures") if each != "all"]


def newest(packages: Stanzas, architecture: str) -> dict[str, bytes]:
    """Return the stanza of the newest version of each package that installs on ``architecture``."""
    by_name: dict[str, list[bytes]] = {}
    for (name, _, its), stanza in packages.items():
        if its in ("all", architecture):
            by_name.setdefault(name, []).append(stanza)
    return {name: plan.by_version(stanzas)[-1] for name, stanzas in sorted(by_name.items())}


def leaf(stanzas: Mapping[str, bytes]) -> str | None:
    """Return a package that needs no other: the keyring's if there is one, else the smallest; None when there is none."""
    alone = [name for name, each in stanzas.items() if not _needs(each)]
    alone.sort(key=lambda name: (not name.endswith("-keyring"), int(control.value(stanzas[name], b"Size"))))
    return alone[0] if alone else None


def _needs(stanza: bytes) -> bool:
    return any(control.value(stanza, name) for name in (b"Depends", b"Pre-Depends"))


def verify(
    where: str,
    *,
    root: Path,
    cache: Path,
    settings: Settings,
    keyring: Path | None = None,
    with_clients: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Check the repository at ``where`` (a directory or a URL) and say what was seen; Error when anything is wrong.

    ``keyring`` has the public keys, armored or not; without it they are those of [signing].
    """
    repository = settings.repository
    tree = trees.tree(where)
    keys = signing.public_keys(keyring, root, settings.signing)
    report = check(tree, repository.suite, keys)
    for line in report.seen:
        say(line)
    report.faults = list(dict.fromkeys(report.faults))  # what both trees name was found twice
    _kept(tree, report, say)
    _beside(tree, report, root, settings)
    for warning in _expiring(keys, settings):
        say(f"warning: {warning}")
    if report.packages and not report.faults:
        _resolvable(report, cache, settings, say)
    if with_clients and report.packages and not report.faults:
        with _address(tree) as uri:
            for suite in dict.fromkeys((*CLIENT_SUITES, repository.suite)):
                _try(suite, uri, keys, root, cache, settings, report, say)
    if report.faults:
        for fault in report.faults:
            say(f"fault: {fault}")
        count = len(report.faults)
        raise Error(f"{where}: {count} fault{'s' if count > 1 else ''}")
    say(f"{where}: nothing wrong")


def _kept(tree: Tree, report: Report, say: Callable[[str], None]) -> None:
    known = kept.numbers(tree)
    if known is None:
        say(f"earlier snapshots: not checked: there is no {snapshots.LIST}, which inv build-repo writes")
        return
    told = {fault.partition(": ")[0] for fault in report.faults}
    faults = [each for each in kept.faults(tree, known, report.digests) if each.partition(": ")[0] not in told]
    report.faults += faults
    if known and not faults:
        say(f"snapshots {known[0]} to {known[-1]}: all that clients may still ask for is there")


def _beside(tree: trees.Directory | trees.Site, report: Report, root: Path, settings: Settings) -> None:
    """Look at what only ``inv build-repo`` writes: a tree without LIST has nothing of it."""
    known = kept.numbers(tree)
    if not known or trees.read(tree, snapshots.LIST) is None:
        return
    try:
        newest = kept.read(tree, known[-1])
    except Error:  # told by now
        return
    report.faults += offered.faults(tree, settings.repository, newest, report.bound)
    # What is held is noted in the checkout's own repository, and goes from there to where it is published.
    if isinstance(tree, trees.Site) or tree.top.resolve() == (root / "out/repo").resolve():
        report.faults += offered.kernel_faults(tree, root, settings, report.packages)


def _expiring(keys: bytes, settings: Settings) -> list[str]:
    with signing.Home() as home:
        home.receive(keys, "keyring")
        return expiring(home.listing(), settings.signing.warn_days)


def _resolvable(report: Report, cache: Path, settings: Settings, say: Callable[[str], None]) -> None:
    repository = settings.repository
    for architecture in report.architectures:
        wanted = {key: each for key, each in report.packages.items() if key[2] in ("all", architecture)}
        debian = apt.Apt(cache, repository.suite, architecture, apt.mirror(repository))
        faults = depends.unmet(debian, wanted)
        report.faults += faults
        if not faults:
            say(f"{architecture}: all dependencies are in Debian {repository.suite} or in the repository")


@contextlib.contextmanager
def _address(tree: trees.Directory | trees.Site) -> Iterator[str]:
    if isinstance(tree, trees.Site):
        yield tree.name
        return
    with web.serve(tree.top) as uri:
        yield uri


def _try(
    suite: str,
    uri: str,
    keys: bytes,
    root: Path,
    cache: Path,
    settings: Settings,
    report: Report,
    say: Callable[[str], None],
) -> None:
    """Let the apt of Debian ``suite`` have a go; Debian itself is a source only where it is the repository's own suite."""
    repository = settings.repository
    own = suite == repository.suite
    stanzas = newest(report.packages, "amd64")
    alone = leaf(stanzas)
    if alone is None:
        say(f"Debian {suite}: not tried: every package needs others")
        return
    versions = {name: control.value(each, b"Version").decode() for name, each in stanzas.items()}
    mirror = apt.mirror(repository)
    install = _ours(apt.Apt(cache, suite, mirror=mirror), versions) if own else []
    preferences = archive.preferences(repository)
    tarball = chroot.base(cache, suite, mirror=mirror)
    with chroot.Chroot(tarball) as session:
        client = clients.Client(session, debian=own)
        wanted = clients.Trial(uri, repository.suite, keys, preferences, versions, alone, install)
        faults, seen = clients.trial(client, wanted)
    report.faults += [f"Debian {suite}: {fault}" for fault in faults]
    for line in seen:
        say(f"Debian {suite}: {line}")


def _ours(debian: apt.Apt, versions: Mapping[str, str]) -> list[str]:
    """Return the packages that Debian does not have in the same version: all but those taken from it as they are."""
    if len(versions) > _INSTALLED:
        return []
    return [
        name for name, version in versions.items() if version not in {each.version for each in debian.versions(name)}
    ]
