"""The source package openssi and its binary packages, built in a clean chroot from what git tracks."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from debian.changelog import Changelog
from debian.deb822 import Deb822, PkgRelation

from openssi import files
from openssi.errors import CommandError, Error
from openssi.run import output
from openssi_build import chroot
from openssi_build.apt import Mirror

# Part of the key of every cached build: raise it when build() makes something else of the same tree.
_RECIPE = 1
_BUILD_TIMEOUT = 1800
# What no package is made of: the toolchain and its tests. A name that starts with a dot is left out too.
_NOT_SHIPPED = (
    "kernels/", "packaging/", "src/openssi_build/", "tests/",
    "inv", "openssi.toml", "pyproject.toml", "requirements.lock", "tasks.py",
)  # fmt: skip
_MAKE_STOPS = re.compile(r"make(?:\[\d+\])?: \*\*\* ")
_TOOLS = ("build-essential", "faketime", "locales")


@dataclass(frozen=True)
class Version:
    """The newest entry of debian/changelog: ``upstream`` is the version without the revision, ``epoch`` its date."""

    source: str
    version: str
    upstream: str
    epoch: int


@dataclass(frozen=True)
class Surroundings:
    """What must not show in the packages: where, by whom, when and under which settings they are built."""

    directory: str = "/build"
    umask: str = "022"
    locale: str = "C.UTF-8"
    timezone: str = "UTC"
    user: int = 1000
    jobs: int = 2
    clock: str = ""  # for faketime, such as "+400 days"; empty: the time it is


def version(root: Path) -> Version:
    """Return what the newest entry of ``debian/changelog`` below ``root`` says."""
    with (root / "debian/changelog").open(encoding="utf-8") as stream:
        entry = Changelog(stream, max_blocks=1)
    argv: list[str | Path] = ["dpkg-parsechangelog", "--file", root / "debian/changelog", "--show-field", "Timestamp"]
    return Version(entry.package, str(entry.version), entry.upstream_version, int(output(argv)))


def build_dependencies(root: Path) -> list[str]:
    """Return the names of the packages that ``debian/control`` below ``root`` needs for a build, sorted."""
    with (root / "debian/control").open(encoding="utf-8") as stream:
        source = Deb822(stream)
    relations = PkgRelation.parse_relations(f"{source['Build-Depends']}".rstrip().rstrip(","))
    # Of alternatives the first; a version is checked by dpkg-buildpackage.
    names = {relation[0]["name"] for relation in relations}
    # debhelper-compat is a virtual package, which debhelper provides.
    return sorted("debhelper" if name == "debhelper-compat" else name for name in names)


def environment(root: Path, cache: Path, suite: str, mirror: Mirror | None = None) -> Path:
    """Return the tarball of the chroot of ``suite`` that has what a build of the tree ``root`` needs."""
    return chroot.base(cache, suite, [*_TOOLS, *build_dependencies(root)], mirror=mirror)


def shipped(root: Path) -> list[str]:
    """Return the tracked files below ``root`` that go into the source package, sorted."""
    try:
        listing = output(["git", "ls-files", "-z", "--cached"], cwd=root)
    except CommandError as problem:
        raise Error(f"{root}: not a git checkout: {problem}") from None
    names = (os.fsdecode(name) for name in listing.split(b"\0") if name)
    return sorted(name for name in names if not name.startswith((".", *_NOT_SHIPPED)) and os.path.lexists(root / name))


def _describe(path: Path) -> tuple[str, bytes]:
    """Return the mode that ``path`` gets in the source package (``l`` for a link) and its content."""
    if path.is_symlink():
        return "l", os.fsencode(path.readlink())
    return "755" if path.stat().st_mode & 0o100 else "644", path.read_bytes()


def key(root: Path, generated: Mapping[str, bytes], base: str, surroundings: Surroundings) -> str:
    """Return the name of the build's content: equal when every file that goes into it and the chroot are equal."""
    digest = hashlib.sha256(json.dumps([_RECIPE, base, surroundings.__dict__]).encode())
    entries = [(name, *_describe(root / name)) for name in shipped(root)]
    for name, mode, content in [*entries, *((name, "644", content) for name, content in sorted(generated.items()))]:
        digest.update(f"{name}\0{mode}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:24]


def export(root: Path, directory: Path, generated: Mapping[str, bytes], epoch: int) -> None:
    """Write the tree of the source package to ``directory``, which must not exist: modes 755 and 644, times ``epoch``."""
    for name in shipped(root):
        _put(directory / name, *_describe(root / name))
    for name, content in generated.items():
        _put(directory / name, "644", content)
    for path in [directory, *directory.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _put(path: Path, mode: str, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "l":
        path.symlink_to(os.fsdecode(content))
    else:
        path.write_bytes(content)
        path.chmod(int(mode, 8))


def build(
    root: Path,
    cache: Path,
    suite: str,
    generated: Mapping[str, bytes],
    log: Path,
    *,
    mirror: Mirror | None = None,
    surroundings: Surroundings | None = None,
) -> list[Path]:
    """Return the source package's files and the .debs of the tree ``root``, sorted, in the cache.

    ``generated`` holds the files that are not in git, by path. An unchanged tree is not built again.
    Error names what failed and ``log``.
    """
    surroundings = surroundings or Surroundings()
    base = environment(root, cache, suite, mirror)
    results = cache.absolute() / "builds" / f"openssi-{key(root, generated, base.name, surroundings)}"
    if not results.is_dir():
        with files.lock(results.with_suffix(".lock")):
            if not results.is_dir():
                _build(root, base, generated, surroundings, log, results)
    return sorted(path for path in results.iterdir() if path.suffix in (".deb", ".dsc", ".xz"))


def _build(
    root: Path, base: Path, generated: Mapping[str, bytes], surroundings: Surroundings, log: Path, results: Path
) -> None:
    what = version(root)
    top = f"{what.source}-{what.upstream}"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".openssi-", dir=results.parent))
    try:
        with chroot.Chroot(base) as session:
            place = session.path / surroundings.directory.lstrip("/")
            export(root, place / top, generated, what.epoch)
            owner = f"{surroundings.user}:{surroundings.user}"
            session.run(["chown", "--recursive", "--no-dereference", owner, surroundings.directory])
            argv, env = build_command(what, surroundings)
            _make_locale(session, surroundings.locale)
            try:
                session.run(argv, cwd=surroundings.directory, env=env, user=owner, log_to=log, timeout=_BUILD_TIMEOUT)
            except CommandError as problem:
                raise Error(
                    f"{what.source} {what.version}: does not build: {reason(log)}", hint=f"see {log}"
                ) from problem
            for path in sorted(place.iterdir()):
                if path.is_file():
                    session.copy_out(f"{surroundings.directory}/{path.name}", temporary)
        temporary.chmod(0o755)
        temporary.replace(results)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def _make_locale(session: chroot.Chroot, locale: str) -> None:
    """Make ``locale`` in the chroot: a name that the C library does not know is taken for C without a word."""
    language, _, charmap = locale.partition(".")
    if language != "C":
        session.run(["localedef", f"--inputfile={language}", f"--charmap={charmap}", locale], timeout=300)
    env = {"LC_ALL": locale}
    if session.output(["locale", "charmap"], env=env).decode().strip() != charmap:
        raise Error(f"{locale}: the chroot has no such locale")


def reason(log: Path) -> str:
    """Return what a build's log says most with: the first error, or where make stopped and what was said just before."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()] or ["no output"]
    stop = next((at for at, line in enumerate(lines) if _MAKE_STOPS.match(line)), len(lines) - 1)
    errors = [line for line in lines[:stop] if "error:" in line.lower()]
    return errors[0] if errors else "; ".join(lines[max(0, stop - 1) : stop + 1])


def lint(cache: Path, suite: str, changes: Path, log: Path) -> None:
    """Run lintian of ``suite`` over the packages that the .changes file names; raise CommandError when it has anything to say."""
    base = chroot.base(cache, suite, ["lintian"])
    with chroot.Chroot(base) as session:
        for path in changes.parent.iterdir():
            session.copy_in(path, f"/lint/{path.name}")
        log.unlink(missing_ok=True)
        # fmt: off
        session.run([
            "lintian", "--allow-root", "--fail-on=error,warning", "--tag-display-limit=0", "--info",
            f"/lint/{changes.name}",
        ], log_to=log, timeout=600)
        # fmt: on


def build_command(what: Version, surroundings: Surroundings) -> tuple[Sequence[str], dict[str, str]]:
    """Return the command, run in the directory that holds the exported tree, and its environment.

    The first tarball is packed there too, by the suite's own tar and xz, so that it does not depend on the host.
    """
    top = f"{what.source}-{what.upstream}"
    script = f"""set -eu
umask {surroundings.umask}
tar --create --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \\
    --mtime=@{what.epoch} --exclude={top}/debian {top} | xz >{what.source}_{what.upstream}.orig.tar.xz
cd {top}
exec dpkg-buildpackage --build=full --no-sign
"""
    clock = ["faketime", "-f", surroundings.clock] if surroundings.clock else []
    environment = {
        "HOME": surroundings.directory,
        "LC_ALL": surroundings.locale,
        "TZ": surroundings.timezone,
        "SOURCE_DATE_EPOCH": str(what.epoch),
        "DEB_BUILD_OPTIONS": f"parallel={surroundings.jobs}",
        "NO_FAKE_STAT": "1",  # to faketime: a wrong clock does not change when a package's files were made
    }
    return [*clock, "sh", "-c", script], environment
