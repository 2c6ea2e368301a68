"""`inv build-repo`: from the tree to the signed repository, as one list of steps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from openssi import files
from openssi.errors import Error
from openssi_build import apt, archive, deb, derived, images, kernels, keys, netboot, repository, signing, site
from openssi_build.repository import Snapshot
from openssi_build.revision import revised
from openssi_build.settings import Settings, Signing
from openssi_build.site import size


@dataclass
class Build:
    """One run: what goes in, and what the steps have made so far."""

    root: Path
    cache: Path
    repo: Path  # where the repository is published
    settings: Settings
    signer: signing.Signer
    strict: bool = False
    fresh: bool = False  # forget what is published
    say: Callable[[str], None] = print  # what a step has to tell while it runs
    packages: list[Path] = field(default_factory=list)  # .deb and .dsc files to be published
    problems: list[str] = field(default_factory=list)
    netboot: Path | None = None  # where boot images are made; by default out/netboot
    images: list[repository.Images] = field(default_factory=list)  # boot images to be published
    snapshot: Snapshot | None = None

    @property
    def log(self) -> Path:
        """Where the logs of child programs lie."""
        return self.root / "out" / "log"

    @property
    def mirror(self) -> apt.Mirror:
        """Debian's mirror."""
        return apt.mirror(self.settings.repository)


@dataclass(frozen=True)
class Step:
    """One step: ``act`` does it and returns what came of it, in a few words."""

    name: str
    usual: str  # how long it takes on two cores when nothing is cached
    act: Callable[[Build], str]


def _environment(build: Build) -> str:
    """Make the chroot that the packages are built in."""
    suite = build.settings.repository.suite
    tarball = deb.environment(build.root, build.cache, suite, build.mirror)
    return f"Debian {suite}, {size(tarball.stat().st_size)}"


def _keys(build: Build) -> str:
    """Ask apt's signature policy about the keys that sign."""
    build.problems.extend(keys.check(build.signer, build.settings, build.cache))
    count = len(build.signer.fingerprints)
    return f"{count} sign{'s' if count == 1 else ''}; apt takes {'it' if count == 1 else 'them'} for a year to come"


def _own(build: Build) -> str:
    """Build our own source package."""
    repository = build.settings.repository
    generated = archive.generated(repository, build.signer.public_keys())
    if not build.fresh:
        generated = revised(build.root, build.repo / "pool", generated)
    log = build.log / "openssi.log"
    made = deb.build(build.root, build.cache, repository.suite, generated, log, mirror=build.mirror)
    return _take(build, made)


def _derived(build: Build) -> str:
    """Build Debian's packages that we patch."""
    made = derived.build_all(
        build.root, build.cache,
        suite=build.settings.repository.suite, mirror=build.mirror, strict=build.strict, say=build.say,
    )  # fmt: skip
    build.problems.extend(made.problems)
    return _take(build, made.files)


def _kernel(build: Build) -> str:
    """Fetch from Debian the kernels that the boot images are made for."""
    names = images.kernels_of(build.root, build.settings)
    found = [kernels.qualified(build.root, build.cache, name, mirror=build.mirror) for name in names]
    if not build.fresh:
        kernels.check_newest(build.root, build.repo, names)
    _take(build, list(dict.fromkeys(deb for kernel in found for deb in kernel.debs)))
    return ", ".join(dict.fromkeys(kernel.abi for kernel in found))


def _netboot(build: Build) -> str:
    """Make the tftp tree and the boot media."""
    made = netboot.make(build.root, build.cache, build.settings, build.signer, out=build.netboot, say=build.say)
    build.images.append(netboot.published(build.root, made, build.settings.repository.architectures[0]))
    return f"{len(made.paths)} files"


def _publish(build: Build) -> str:
    """Index, sign and publish everything."""
    repo = build.settings.repository

    def waiting(holder: str) -> None:
        build.say(f"waiting for {holder}")

    if build.fresh:
        repository.start_anew(build.repo, waiting=waiting)
    snapshot = repository.publish(
        build.repo, build.packages,
        settings=repo, cache=build.cache, signer=build.signer, boot_images=build.images, waiting=waiting,
    )  # fmt: skip
    build.snapshot = snapshot
    site.write(build.repo, snapshot, repo, build.signer.public_keys())
    return f"snapshot {snapshot.number}" + ("" if snapshot.new else ", as it was")


STEPS = (
    Step("build environment", "2 min", _environment),
    Step("signing keys", "30 s", _keys),
    Step("openssi packages", "1 min", _own),
    Step("derived packages", "6 min", _derived),
    Step("qualified kernels", "1 min", _kernel),
    Step("network boot images", "20 s", _netboot),
    Step("publish", "10 s", _publish),
)


def run(build: Build, steps: Sequence[Step], console: Console) -> None:
    """Carry out ``steps`` one after the other, showing each with its time; the first Error ends it."""
    build.say = lambda line: console.print(f"      {line}", highlight=False)
    for number, step in enumerate(steps, 1):
        label = f"[{number}/{len(steps)}] {step.name}"
        start = time.monotonic()
        with _shown(f"{label} (about {step.usual} when nothing is cached)", console):
            result = step.act(build)
        took = time.monotonic() - start
        console.print(f"{label}: {result}" + (f" ({took:.0f} s)" if took >= 1 else ""), highlight=False, markup=False)


def _shown(text: str, console: Console) -> Progress:
    """Return the line with the running clock, which is gone when the step is over; nothing where there is no terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task(text)
    return progress


def build_repository(root: Path, cache: Path, settings: Settings, *, strict: bool = False, fresh: bool = False) -> None:
    """Build and publish everything into ``out/repo`` and say what is there and how to use it.

    With ``strict`` a derived package that can't be built is an Error; else it is left out and named at the end. With
    ``fresh`` what is published is forgotten; Error, with nothing built, unless the development key has signed it.
    """
    console = Console()
    repo = root / "out" / "repo"
    images.kernels_of(root, settings)  # what can't be served is refused before anything is built
    with signing.signer(settings.signing, root) as signer:
        if fresh:
            _check_without_clients(repo, settings, signer)
        build = Build(root, cache, repo, settings, signer, strict, fresh)
        run(build, STEPS, console)
        _summary(build, console)


def _check_without_clients(repo: Path, settings: Settings, signer: signing.Signer) -> None:
    """Raise Error unless the development key, which no client trusts, signs ``repo`` and has signed what it is."""
    hint = "clients may know its versions; raise them instead"
    if not signing.is_development(settings.signing):
        raise Error(f"--fresh: the keys of [signing] sign {repo}", hint=hint)
    for signed in (repo / "InRelease", *repo.glob("dists/*/InRelease")):
        if not signed.exists():
            continue
        with tempfile.NamedTemporaryFile(prefix="ossi-", suffix=".gpg") as keyring:
            keyring.write(signer.public_keys())
            keyring.flush()
            try:
                signing.check_signature(signed, Path(keyring.name))
            except Error:
                raise Error(f"--fresh: {signed}: not signed by the development key", hint=hint) from None


def repository_by_content(root: Path, cache: Path, settings: Settings, console: Console | None = None) -> Path:
    """Return a repository of everything that the tree ``root`` makes, in the cache under the name of its content.

    For tests and trial clusters: it is signed by a key of the cache and never expires. Safe for processes side by side.
    The steps are shown on ``console``.
    """
    settings = replace(settings, repository=replace(settings.repository, valid_for_days=0), signing=Signing())
    with signing.signer(Signing(key_variable="OPENSSI_NO_SUCH_KEY"), cache / "trial") as signer:
        build = Build(root, cache, Path(), settings, signer, strict=True)
        console = console or Console(quiet=True)
        run(build, [step for step in STEPS if step.act not in (_publish, _netboot)], console)
        # Everything lies in the cache under its own content's name.
        content = json.dumps([sorted(map(str, build.packages)), repr(settings), signer.fingerprints])
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        build.repo = cache / "repositories" / key
        with files.lock(cache / "repositories" / f"{key}.lock"), tempfile.TemporaryDirectory(prefix="ossi-") as name:
            build.netboot = Path(name)
            there = any(build.repo.glob("dists/*/*/netboot-*/current"))
            run(
                build, [step for step in STEPS if step.act is _publish or (step.act is _netboot and not there)], console
            )
            _forget(build.repo.parent, build.repo)
    return build.repo


def _forget(directory: Path, used: Path) -> None:
    """Remove the repositories in ``directory`` that nobody has used for two days."""
    os.utime(used)
    for repo in directory.iterdir():
        if repo.is_dir() and time.time() - repo.stat().st_mtime > 2 * 86400:
            shutil.rmtree(repo, ignore_errors=True)


def _take(build: Build, made: Sequence[Path]) -> str:
    wanted = [path for path in made if path.suffix in (".deb", ".dsc")]
    build.packages.extend(wanted)
    binaries = sum(path.suffix == ".deb" for path in wanted)
    return f"{binaries} packages, {len(wanted) - binaries} source"


def _summary(build: Build, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("package")
    table.add_column("version")
    table.add_column("size", justify="right")
    for path in sorted(build.packages, key=lambda each: each.name):
        if path.suffix == ".deb":
            name, version, _ = path.stem.split("_")
            table.add_row(name, version.replace("%3a", ":"), size(path.stat().st_size))
    console.print()
    console.print(table)
    assert build.snapshot
    signers = build.signer.keys()
    lines = [
        "",
        f"repository  {build.repo} (snapshot {build.snapshot.number}, {build.snapshot.packages} packages)",
        *(f"key         {key.fingerprint} {key.user_id}" for key in signers),
        f"address     {build.settings.repository.uri or 'none yet: set repository uri in openssi.toml'}",
        "serve it    python3 -m http.server --directory out/repo 8000",
        "client      README.md, 'On a client'",
    ]
    if signing.is_development(build.settings.signing):
        lines.append("warning: signed by the development key of this checkout: see [signing] in openssi.toml")
    lines += [f"warning: {problem}" for problem in build.problems]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
