"""A private apt for a suite: Debian's own signature chain, the host's mirror, nothing of the host changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from debian.debian_support import Version

from openssi import files
from openssi.errors import CommandError, Error
from openssi.run import output, run, status
from openssi_build.settings import Repository

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MAX_AGE = 24 * 3600
_TIMEOUT = 900
_unreachable: set[Path] = set()  # the apts of this run whose mirror did not answer


class UnknownPackageError(Error):
    """The mirror was reached, and has no such package."""


@dataclass(frozen=True)
class Mirror:
    """Where Debian is: the URI of the archive and, if there is one, of its security archive."""

    archive: str
    security: str | None = None

    def sources(self, suite: str, *, deb_src: bool = False, component: str = "main") -> str:
        """Return ``component`` of ``suite`` with its updates as deb822 .sources text."""
        stanzas = [(self.archive, f"{suite} {suite}-updates")]
        if self.security:
            stanzas.append((self.security, f"{suite}-security"))
        kinds = "deb deb-src" if deb_src else "deb"
        return "\n".join(
            f"Types: {kinds}\nURIs: {uri}\nSuites: {suites}\nComponents: {component}\nSigned-By: {KEYRING}\n"
            for uri, suites in stanzas
        )


@cache
def host_mirror() -> Mirror:
    """Return the Debian mirror that this machine's own apt uses; raise Error when it has none."""
    # What an update would fetch: sorted out by apt itself, in a twentieth of the time of `apt-get indextargets`.
    listing = output(["apt-get", "--print-uris", "update"], timeout=60).decode()
    codename = _host_codename()
    found: dict[str, str] = {}
    targets = re.findall(r"^'(\S+)/dists/(\S+?)/main/binary-\S+/Packages", listing, re.MULTILINE)
    # Before its first update apt knows the suites only.
    for uri, release in targets or re.findall(r"^'(\S+)/dists/(\S+)/InRelease'", listing, re.MULTILINE):
        if release in (codename, "stable", "oldstable", "testing"):
            found.setdefault("archive", uri)
        elif release.endswith("-security"):
            found.setdefault("security", uri)
    if "archive" not in found:
        raise Error(
            f"/etc/apt: no source for Debian {codename}",
            hint="add one, or set repository mirror in openssi.toml",
        )
    return Mirror(found["archive"], found.get("security"))


def mirror(repository: Repository) -> Mirror:
    """Return the mirror that openssi.toml names, else the one that this machine's own apt uses."""
    if repository.mirror:
        return Mirror(repository.mirror.rstrip("/"), repository.security_mirror)
    return host_mirror()


def _host_codename() -> str:
    release = Path("/etc/os-release").read_text()
    match = re.search(r"^VERSION_CODENAME=(\S+)", release, re.MULTILINE)
    return match[1] if match else "stable"


@cache
def host_acquire_options() -> str:
    """Return the host's proxy and certificate settings as apt.conf lines."""
    dump = output(["apt-config", "dump", "Acquire"], timeout=60).decode()
    wanted = re.compile(r"Acquire::(http|https|ftp|Retries|ForceIPv4|ForceIPv6)\b.*;$", re.IGNORECASE)
    return "".join(line + "\n" for line in dump.splitlines() if wanted.match(line))


@dataclass(frozen=True)
class Package:
    """One version of a binary package as the archive has it."""

    name: str
    version: str
    architecture: str
    filename: str  # last part of its path in the pool
    sha256: str
    source: str
    source_version: str
    built_using: str  # as the field of that name: sources besides its own that are in it

    @property
    def sources(self) -> list[tuple[str, str]]:
        """The source packages that its programs come from, its own first, with their versions."""
        others = re.findall(r"(\S+) \(= (\S+)\)", self.built_using)
        return [(self.source, self.source_version), *others]


@dataclass(frozen=True)
class Source:
    """One version of a source package as the archive has it."""

    name: str
    version: str
    dsc: str  # name of the .dsc
    files: dict[str, str]  # SHA256 by name, the .dsc among them
    format: str
    build_depends: str  # Build-Depends, -Arch and -Indep, as in the .dsc

    @property
    def sha256(self) -> str:
        """The SHA256 of the .dsc, which fixes all other files."""
        return self.files[self.dsc]


class Apt:
    """apt for ``suite`` and ``architecture`` with lists and downloads of its own below ``cache``.

    Packages are kept by content in ``cache/debs/<sha256>/``, so that what was once fetched is not asked for again.
    """

    def __init__(
        self,
        cache: Path,
        suite: str,
        architecture: str = "amd64",
        mirror: Mirror | None = None,
        *,
        component: str = "main",
    ) -> None:
        self.cache = cache.absolute()
        self.suite = suite
        self.architecture = architecture
        self.mirror = mirror or host_mirror()
        self.component = component
        self.root = self.cache / "apt" / "-".join([suite, architecture, *([component] if component != "main" else [])])

    @property
    def lists(self) -> str:
        """A word that changes whenever the package lists are fetched anew, and with the mirror."""
        stamp = self.root / "updated"
        return f"{self.mirror.archive} {stamp.stat().st_mtime_ns if stamp.exists() else 0}"

    @property
    def _env(self) -> dict[str, str]:
        return {"APT_CONFIG": str(self.root / "apt.conf")}

    def _configure(self) -> None:
        for directory in (
            "lists/partial",
            "archives/partial",
            "etc/trusted.gpg.d",
            "etc/apt.conf.d",
            "etc/preferences.d",
        ):
            (self.root / directory).mkdir(parents=True, exist_ok=True)
        if not (self.root / "status").exists():
            (self.root / "status").touch()  # a newer one would make apt read all its lists again
        changed = files.write_if_changed(
            self.root / "etc/sources.sources", self.mirror.sources(self.suite, deb_src=True, component=self.component)
        )
        lines = [
            f'APT::Architecture "{self.architecture}";',
            f'APT::Architectures {{ "{self.architecture}"; }};',
            f'Dir::Etc "{self.root}/etc";',
            'Dir::Etc::SourceList "/dev/null";',
            f'Dir::Etc::SourceParts "{self.root}/etc";',
            'Dir::Etc::Main "/dev/null";',
            f'Dir::Etc::Parts "{self.root}/etc/apt.conf.d";',
            'Dir::Etc::Preferences "/dev/null";',
            f'Dir::Etc::PreferencesParts "{self.root}/etc/preferences.d";',
            f'Dir::Etc::TrustedParts "{self.root}/etc/trusted.gpg.d";',
            f'Dir::State "{self.root}";',
            f'Dir::State::Lists "{self.root}/lists";',
            f'Dir::State::status "{self.root}/status";',
            f'Dir::Cache "{self.root}";',
            f'Dir::Cache::Archives "{self.root}/archives";',
            'Acquire::Languages "none";',
            'Acquire::Retries "3";',
            'APT::Get::List-Cleanup "true";',
            'APT::Update::Error-Mode "any";',  # else a list that can't be had is a warning, and the status 0
            'APT::Sandbox::User "root";' if os.geteuid() == 0 else "",
        ]
        files.write_if_changed(self.root / "apt.conf", host_acquire_options() + "\n".join(lines) + "\n")
        if changed:
            (self.root / "updated").unlink(missing_ok=True)

    def update(self, *, max_age: float = _MAX_AGE) -> None:
        """Bring the package lists up to date unless they are younger than ``max_age`` seconds.

        Old lists serve on when the mirror can't be reached, which is tried once a run; without any, Error.
        """
        with files.lock(self.root / "lock"):
            self._configure()
            stamp = self.root / "updated"
            if stamp.exists() and (time.time() - stamp.stat().st_mtime < max_age or self.root in _unreachable):
                return
            try:
                run(["apt-get", "-q", "update"], env=self._env, log_to=self.root / "update.log", timeout=_TIMEOUT)
            except CommandError as problem:
                if not stamp.exists():
                    raise Error(
                        f"{self.suite}: apt-get update: {problem}", hint=f"mirror {self.mirror.archive}"
                    ) from None
                _unreachable.add(self.root)
            else:
                stamp.touch()

    def show(self, names: Iterable[str]) -> dict[str, Package]:
        """Return the candidate of each package by name (``name`` or ``name=version``); Error names what is not there."""
        self.update()
        wanted = list(dict.fromkeys(names))
        known = self._shown()
        found = {word: known[word] for word in wanted if word in known}
        for word in wanted:
            if word in found:
                continue
            code, out, _ = status(["apt-cache", "show", "--no-all-versions", word], env=self._env, timeout=60)
            stanza = out.decode().split("\n\n", 1)[0]
            if code != 0 or not stanza.strip():
                raise UnknownPackageError(
                    f"{word}: not in Debian {self.suite} ({self.architecture})",
                    hint="a version may have left the mirror",
                )
            found[word] = _package(stanza)
        if found.keys() - known.keys():
            noted = {"lists": self.lists, "packages": {word: asdict(each) for word, each in (known | found).items()}}
            files.write(self.root / "shown.json", json.dumps(noted), durable=False)
        return {word: found[word] for word in wanted}

    def _shown(self) -> dict[str, Package]:
        """Return what apt said before of the same lists: to ask it again takes half a second a package."""
        try:
            noted = json.loads((self.root / "shown.json").read_bytes())
            if noted["lists"] == self.lists:
                return {word: Package(**each) for word, each in noted["packages"].items()}
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return {}

    def depends(self, name: str) -> str:
        """Return the Depends field of ``name`` (or ``name=version``), empty when it has none."""
        self.update()
        stanza = output(["apt-cache", "show", "--no-all-versions", name], env=self._env, timeout=60).decode()
        found = re.search(r"^Depends: (.*)$", stanza, re.MULTILINE)
        return found[1] if found else ""

    def versions(self, name: str) -> list[Package]:
        """Return every version of ``name`` that the mirror has, newest first as apt lists them."""
        self.update()
        code, out, _ = status(["apt-cache", "show", name], env=self._env, timeout=60)
        return [_package(each) for each in out.decode().split("\n\n") if each.strip()] if code == 0 else []

    def download(self, names: Sequence[str]) -> dict[str, Path]:
        """Return the .deb of each package by name, fetched where the cache lacks it and checked by apt against the signed lists."""
        packages = self.show(names)
        where = {word: self.cache / "debs" / package.sha256 / package.filename for word, package in packages.items()}
        lacking = [word for word, path in where.items() if not path.exists()]
        if lacking:
            self._fetch([packages[word] for word in lacking])
        return where

    def _fetch(self, packages: Sequence[Package]) -> None:
        with files.lock(self.root / "lock"):
            run(
                ["apt-get", "-q", "download", *(f"{each.name}={each.version}" for each in packages)],
                cwd=self.root / "archives/partial",
                env=self._env,
                log_to=self.root / "download.log",
                timeout=_TIMEOUT,
            )
            for each in packages:
                name = f"{each.name}_{each.version.replace(':', '%3a')}_{each.architecture}.deb"
                target = self.cache / "debs" / each.sha256 / each.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                (self.root / "archives/partial" / name).replace(target)

    def show_source(self, name: str) -> Source:
        """Return the newest source package ``name`` (or ``name=version``) of the suite; Error when the mirror has none."""
        self.update()
        name, _, version = name.partition("=")
        argv = ["apt-cache", "showsrc", "--only-source", name]
        code, out, _ = status(argv, env=self._env, timeout=60)
        stanzas = [each for each in out.decode().split("\n\n") if each.strip()] if code == 0 else []
        found = [source for source in map(_source, stanzas) if version in ("", source.version)]
        if not found:
            wanted = f"{name} {version}" if version else name
            raise Error(f"{wanted}: no such source package in Debian {self.suite}")
        return max(found, key=lambda source: Version(source.version))

    def fetch_source(self, source: Source) -> Path:
        """Return the .dsc of ``source`` beside its files, in ``cache/sources/<sha256 of the .dsc>/``, checked by apt.

        Fetched where the cache lacks it; Error says what the mirror answered.
        """
        directory = self.cache / "sources" / source.sha256
        if directory.is_dir():
            return directory / source.dsc
        with files.lock(self.root / "lock"), tempfile.TemporaryDirectory(dir=self.root) as name:
            fetched = Path(name) / "files"
            fetched.mkdir()
            argv = ["apt-get", "-q", "source", "--download-only", "--only-source", f"{source.name}={source.version}"]
            code, _, err = status(argv, cwd=fetched, env=self._env, timeout=_TIMEOUT)
            if code != 0:
                text = err.decode("utf-8", "replace").strip().splitlines()
                reason = next((line for line in text if line.startswith("E:")), text[-1] if text else "apt-get failed")
                raise Error(
                    f"{source.name} {source.version}: source can't be fetched from Debian {self.suite}: "
                    + reason.removeprefix("E: ")
                )
            _check_files(fetched, source)
            directory.parent.mkdir(parents=True, exist_ok=True)
            try:
                fetched.rename(directory)
            except OSError:
                # The apt of another suite may have been quicker.
                if not directory.is_dir():
                    raise
        return directory / source.dsc


def _fields(stanza: str) -> dict[str, str]:
    """Return the fields of ``stanza`` by lower-case name; continuation lines are kept, one a line."""
    fields: dict[str, str] = {}
    key = ""
    for line in stanza.splitlines():
        if line[:1].isspace():
            fields[key] = f"{fields.get(key, '')}\n{line.strip()}"
            continue
        key, _, value = line.partition(":")
        key = key.lower()
        fields[key] = value.strip()
    return fields


def _source(stanza: str) -> Source:
    fields = _fields(stanza)
    sums = (line.split() for line in fields["checksums-sha256"].splitlines() if line)
    listed = {name: sha256 for sha256, _, name in sums}
    depends = (fields.get(key, "") for key in ("build-depends", "build-depends-arch", "build-depends-indep"))
    return Source(
        name=fields["package"],
        version=fields["version"],
        dsc=next(name for name in listed if name.endswith(".dsc")),
        files=listed,
        format=fields["format"],
        build_depends=", ".join(each for each in depends if each),
    )


def _check_files(directory: Path, source: Source) -> None:
    """Raise Error unless ``directory`` holds the files of ``source`` with the hashes of the signed index."""
    for name, sha256 in source.files.items():
        path = directory / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise Error(f"{source.name} {source.version}: {name} is not what Debian's signed index names")


def packed(deb: Path, sha256: str) -> Package:
    """Return what the package ``deb``, whose SHA256 is known, says of itself."""
    stanza = output(["dpkg-deb", "--field", deb], timeout=60).decode()
    return _package(f"{stanza.rstrip()}\nFilename: {deb.name}\nSHA256: {sha256}\n")


def _package(stanza: str) -> Package:
    fields = _fields(stanza)
    source, _, bracket = fields.get("source", fields["package"]).partition(" ")
    return Package(
        name=fields["package"],
        version=fields["version"],
        architecture=fields["architecture"],
        filename=fields["filename"].rsplit("/", 1)[-1],
        sha256=fields["sha256"],
        source=source,
        source_version=bracket.strip("()") or fields["version"],
        built_using=fields.get("built-using", ""),
    )
