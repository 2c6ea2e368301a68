"""Derived packages: a Debian source package with our patches, versioned to sort below Debian's own.

``packaging/derived/<source>/`` holds ``recipe.toml`` (class Recipe), ``patches/`` with a quilt ``series``, and
``debian.patch`` where debian/, which a series may not touch, shall change too.
Source and binaries are built in a clean chroot of the suite and kept by content in ``cache/derived/<key>/``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

from debian.changelog import Changelog
from debian.deb822 import Deb822, PkgRelation

from openssi import config, files
from openssi.errors import CommandError, Error
from openssi_build.apt import Apt, Mirror, Source
from openssi_build.chroot import Chroot, base

# Part of the key of every build: raise it when what _build() does changes.
_RECIPE = 1
_TIMEOUT = 7200
_USER = "builder"
_TOOLS = ("build-essential", "fakeroot")


@dataclass(frozen=True)
class Recipe:
    """recipe.toml: how a source package of Debian becomes ours."""

    revision: int  # the version is Debian's with ~openssi<revision>
    change: str  # for debian/changelog: what the patches do
    version: str | None = None  # of Debian's source; by default the newest of the suite
    build_profiles: tuple[str, ...] = ()  # nocheck and the like: say why beside it
    build_options: tuple[str, ...] = ()  # more for DEB_BUILD_OPTIONS

    def __post_init__(self) -> None:
        if self.revision < 1:
            raise ValueError(f"key 'revision': expected 1 or more, got {self.revision}")
        if not self.change.strip() or "\n" in self.change.strip():
            raise ValueError("key 'change': expected one line of text")


@dataclass(frozen=True)
class Derivation:
    """One recipe as it lies in the tree, read and checked."""

    name: str  # of the source package
    recipe: Recipe
    patches: tuple[Path, ...]  # in the order of the series
    debian: Path | None  # the patch of debian/

    @property
    def every_patch(self) -> list[Path]:
        """The patches of the series and the one of debian/."""
        return [*self.patches, *([self.debian] if self.debian else [])]


@dataclass(frozen=True)
class Built:
    """What build_all() made, and what it could not make."""

    files: list[Path] = field(default_factory=list)  # .deb, .dsc and the files of the .dsc, sorted
    problems: list[str] = field(default_factory=list)  # one line each


def derivations(root: Path) -> list[Derivation]:
    """Return the recipes of the tree ``root``, sorted by name; Error names what is wrong in one."""
    found = sorted((root / "packaging" / "derived").glob("*/recipe.toml"))
    return [_derivation(path.parent) for path in found]


def _derivation(directory: Path) -> Derivation:
    recipe = config.load(directory / "recipe.toml", Recipe)
    series = directory / "patches" / "series"
    if not series.is_file():
        raise Error(f"{series}: no such file: it lists the patches, one a line")
    names = [line.split("#")[0].strip() for line in series.read_text().splitlines()]
    patches = tuple(series.parent / name for name in names if name)
    for patch in patches:
        if not patch.is_file():
            raise Error(f"{series}: {patch.name}: no such patch")
    if not patches:
        raise Error(f"{series}: names no patch: Debian's own package would do")
    debian = directory / "debian.patch"
    return Derivation(directory.name, recipe, patches, debian if debian.is_file() else None)


def build_all(
    root: Path,
    cache: Path,
    *,
    suite: str,
    architecture: str = "amd64",
    mirror: Mirror | None = None,
    strict: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Built:
    """Build every derived package of the tree that the cache lacks; return files and problems.

    A source that the mirror does not have, a patch that does not apply or a build that fails becomes a problem,
    and the others are built; with ``strict`` it is raised as Error. ``say`` is told what is being built.
    """
    made = Built()
    for derivation in derivations(root):
        try:
            made.files.extend(build(root, cache, derivation, suite, architecture, mirror, say))
        except Error as problem:
            if strict:
                raise
            made.problems.append(f"derived package {derivation.name} is left out: {problem}")
    made.files.sort()
    return made


def build(
    root: Path,
    cache: Path,
    derivation: Derivation,
    suite: str,
    architecture: str = "amd64",
    mirror: Mirror | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Return source and binary files of one derived package, built where the cache lacks it; Error says what failed."""
    apt = Apt(cache, suite, architecture, mirror)
    recipe = derivation.recipe
    source = apt.show_source(f"{derivation.name}={recipe.version}" if recipe.version else derivation.name)
    if source.format != "3.0 (quilt)":
        raise Error(f"{source.name} {source.version}: source format {source.format}: only 3.0 (quilt) takes patches")
    maintainer = _maintainer(root)
    packages = [*_TOOLS, *build_dependencies(source.build_depends, architecture, recipe.build_profiles)]
    directory = cache.absolute() / "derived" / _key(derivation, source, suite, architecture, packages, maintainer)
    if not directory.is_dir():
        with files.lock(directory.with_suffix(".lock")):
            if not directory.is_dir():
                say(f"{source.name} {source.version}: building with {len(derivation.every_patch)} patch(es) of ours")
                dsc = apt.fetch_source(source)
                tarball = base(cache, suite, packages, architecture=architecture, mirror=mirror)
                log = root / "out" / "log" / f"derived-{source.name}.log"
                log.unlink(missing_ok=True)

                def attempt() -> None:
                    with Chroot(tarball) as chroot:
                        _build(chroot, dsc, source, derivation, maintainer, directory, log)

                try:
                    attempt()
                except _BuildError as problem:
                    # Test suites measure time: what fails on a loaded machine is tried once more.
                    say(f"{problem.message}; once more")
                    log.rename(log.with_suffix(".first.log"))
                    attempt()
    return sorted(directory.iterdir())


def derived_version(version: str, revision: int) -> str:
    """Return the version of a derived package: it sorts below Debian's ``version``, so that only the pin installs it."""
    return f"{version}~openssi{revision}"


def build_dependencies(relations: str, architecture: str, profiles: Iterable[str] = ()) -> list[str]:
    """Return the package names that a Build-Depends field asks for on ``architecture`` with ``profiles``.

    Of alternatives the first that fits counts (as Debian's own builders do); versions are left to dpkg-checkbuilddeps.
    """
    names: list[str] = []
    active = set(profiles)
    for group in PkgRelation.parse_relations(relations) if relations else []:
        fitting = (each for each in group if _wanted(each, architecture, active))
        if first := next(fitting, None):
            # A virtual package that mmdebstrap's list can't name.
            names.append("debhelper" if first["name"] == "debhelper-compat" else first["name"])
    return sorted(set(names))


def _wanted(relation: Mapping[str, Any], architecture: str, active: set[str]) -> bool:
    """True if a parsed relation applies, by its [architectures] and its <profiles> (Debian Policy § 7.1)."""
    arches = relation["arch"] or []
    names = {"any", "linux-any", architecture, f"any-{architecture}", f"linux-{architecture}"}
    if arches:
        hit = any(each.arch in names for each in arches)
        if hit != arches[0].enabled:
            return False
    formulas = relation["restrictions"] or []
    return not formulas or any(
        all((term.profile in active) == term.enabled for term in formula) for formula in formulas
    )


def _key(
    derivation: Derivation, source: Source, suite: str, architecture: str, packages: Sequence[str], maintainer: str
) -> str:
    """Return the name of the build in the cache: source package, recipe, patches, chroot and this code."""
    recipe = derivation.recipe
    content = json.dumps([
        _RECIPE, source.sha256, suite, architecture, sorted(packages), maintainer,
        [recipe.revision, recipe.change, recipe.build_profiles, recipe.build_options],
        [(patch.name, hashlib.sha256(patch.read_bytes()).hexdigest()) for patch in derivation.every_patch],
    ])  # fmt: skip
    return f"{source.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


class _BuildError(Error):
    """dpkg-buildpackage failed."""


def _build(
    chroot: Chroot, dsc: Path, source: Source, derivation: Derivation, maintainer: str, directory: Path, log: Path
) -> None:
    """Build the package in ``chroot`` and move what comes out to ``directory``, all at once."""
    for name in source.files:
        chroot.copy_in(dsc.parent / name, f"build/{name}")
    # apt has checked the files against the signed index.
    argv = ["dpkg-source", "--no-check", "--skip-patches", "--extract", source.dsc, "source"]
    chroot.run(argv, cwd="/build", log_to=log, timeout=600)
    tree = chroot.path / "build" / "source"
    _apply(chroot, tree, derivation, log)
    version = _add_changelog(tree / "debian" / "changelog", derivation.recipe, maintainer)
    # Test suites ask for the name and the home of who runs them.
    _append(chroot.path / "etc/passwd", f"{_USER}:x:1000:1000::/build:/bin/sh\n")
    _append(chroot.path / "etc/group", f"{_USER}:x:1000:\n")
    chroot.run(["chown", "--recursive", f"{_USER}:{_USER}", "/build"], timeout=600)
    # A session of its own: ours has no number in the chroot's pid namespace, and test suites look for theirs.
    argv = ["setsid", "--wait", "dpkg-buildpackage", "--no-sign", "--build=full", "--root-command=fakeroot"]
    try:
        chroot.run(
            argv, cwd="/build/source", env=_environment(derivation.recipe), user=_USER, log_to=log, timeout=_TIMEOUT
        )
    except CommandError as problem:
        raise _BuildError(f"{version}: does not build: exit status {problem.status}", hint=f"see {log}") from None
    # Root inside is who we are outside.
    chroot.run(["chown", "--recursive", "0:0", "/build"], timeout=600)
    _collect(chroot.path / "build", source.name, version, directory)


def _environment(recipe: Recipe) -> dict[str, str]:
    """Return the variables of dpkg-buildpackage; a profile such as nocheck is an option too."""
    options = [f"parallel={os.cpu_count() or 1}", "noautodbgsym", *recipe.build_profiles, *recipe.build_options]
    return {
        "HOME": "/build",
        "USER": _USER,
        "DEB_BUILD_OPTIONS": " ".join(options),
        "DEB_BUILD_PROFILES": " ".join(recipe.build_profiles),
    }


def _append(path: Path, line: str) -> None:
    with path.open("a") as stream:
        stream.write(line)


def _apply(chroot: Chroot, tree: Path, derivation: Derivation, log: Path) -> None:
    """Apply Debian's series, then ours patch by patch, so that the one that does not apply can be named."""
    series = tree / "debian" / "patches" / "series"
    series.parent.mkdir(exist_ok=True)
    chroot.run(["dpkg-source", "--before-build", "source"], cwd="/build", log_to=log, timeout=600)
    for patch in derivation.patches:
        shutil.copyfile(patch, series.parent / patch.name)
        before = series.read_text() if series.exists() else ""
        series.write_text(f"{before.rstrip()}\n{patch.name}\n".lstrip())
        # dpkg-source is silent about a patch that does not fit, and leaves it out.
        _patch(chroot, f"debian/patches/{patch.name}", derivation.name, log, "--dry-run")
        chroot.run(["dpkg-source", "--before-build", "source"], cwd="/build", log_to=log, timeout=600)
    if derivation.debian:
        chroot.copy_in(derivation.debian, f"build/{derivation.debian.name}")
        _patch(chroot, f"../{derivation.debian.name}", derivation.name, log)


def _patch(chroot: Chroot, patch: str, source: str, log: Path, *options: str) -> None:
    """Apply ``patch``, a path as seen from the source; Error when it does not fit to the line."""
    argv = [
        "patch",
        "--batch",
        "--forward",
        "--no-backup-if-mismatch",
        "--strip=1",
        "--fuzz=0",
        f"--input={patch}",
        *options,
    ]
    try:
        chroot.run(argv, cwd="/build/source", log_to=log, timeout=600)
    except CommandError:
        raise Error(
            f"{Path(patch).name}: no longer applies to Debian's {source}", hint=f"refresh it; see {log}"
        ) from None


def _maintainer(root: Path) -> str:
    """Return the maintainer of our own source package, who answers for the derived ones too."""
    with (root / "debian" / "control").open(encoding="utf-8") as stream:
        return str(Deb822(stream)["Maintainer"])


def _add_changelog(path: Path, recipe: Recipe, maintainer: str) -> str:
    """Put our entry on top of Debian's changelog, dated a minute a revision after Debian's; return the version."""
    changelog = Changelog(path.read_text("utf-8"), strict=False)
    last = changelog[0]
    version = derived_version(str(last.version), recipe.revision)
    date: datetime = parsedate_to_datetime(last.date or "") + timedelta(minutes=recipe.revision)
    changelog.new_block(
        package=changelog.package,
        version=version,
        distributions=last.distributions,
        urgency="medium",
        author=maintainer,
        date=format_datetime(date),
        changes=["", f"  * {recipe.change.strip()}", ""],
    )
    path.write_text(str(changelog), "utf-8")
    return version


def _collect(build: Path, name: str, version: str, directory: Path) -> None:
    """Move .dsc, its files and the .debs from ``build`` into ``directory``, which appears at once."""
    upstream = version.partition(":")[2] or version
    dsc = build / f"{name}_{upstream}.dsc"
    listed = re.findall(r"^ [0-9a-f]{64} \d+ (\S+)$", dsc.read_text(), re.MULTILINE)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        for path in [dsc, *(build / each for each in listed), *build.glob("*.deb")]:
            shutil.copyfile(path, made / path.name)
        made.rename(directory)
