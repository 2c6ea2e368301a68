"""The other indexers of `inv bench repo`: apt-ftparchive, reprepro and aptly, each in a directory of its own.

They make what we make, as far as each can: Packages and Contents as .gz and .xz (aptly, which knows no .xz: Packages as .gz
and .bz2, Contents as .gz), for amd64 and arm64, with SHA256, Release and its two signatures; apt-ftparchive by-hash too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openssi import run
from openssi_build.bench.measure import Sample, once

PROGRAMS = ("apt-ftparchive", "reprepro", "aptly")
_SHA256_ONLY = tuple(
    word for name in ("MD5", "SHA1", "SHA512") for word in ("-o", f"APT::FTPArchive::Packages::{name}=false")
)
_RELEASE = (
    *("-o", "APT::FTPArchive::DoByHash=true", "-o", "APT::FTPArchive::Release::Suite=trixie"),
    *(word for name in ("MD5", "SHA1", "SHA512") for word in ("-o", f"APT::FTPArchive::{name}=false")),
)
_GENERATE = """\
Dir {{ ArchiveDir "{0}"; CacheDir "{0}/cache"; }};
Default {{ Packages::Compress ". gzip xz"; Contents::Compress "gzip xz"; }};
TreeDefault {{ BinCacheDB "$(ARCH).db"; }};
Tree "dists/trixie" {{ Sections "main"; Architectures "amd64 arm64"; Directory "pool/$(SECTION)"; }};
"""
_DISTRIBUTIONS = """\
Codename: trixie
Architectures: amd64 arm64
Components: main
DebIndices: Packages Release . .gz .xz
Contents: .gz .xz
SignWith: {}
"""


def total(*samples: Sample) -> Sample:
    """Return what several runs cost together."""
    return Sample(
        sum(each.cpu_s for each in samples),
        sum(each.wall_s for each in samples),
        max(each.peak_mib for each in samples),
    )


@dataclass(frozen=True)
class FtpArchive:
    """apt-ftparchive over a pool that lies in ``base``/pool; gpg signs for it."""

    base: Path
    home: Path  # GNUPGHOME
    fingerprint: str

    def prepare(self) -> None:
        """Write the configuration and make the directories that apt-ftparchive expects."""
        for each in ("cache", "dists/trixie/main/binary-amd64", "dists/trixie/main/binary-arm64"):
            (self.base / each).mkdir(parents=True)
        (self.base / "generate.conf").write_text(_GENERATE.format(self.base))

    def index(self) -> Sample:
        """Write the stanzas of the whole pool, without a database."""
        return once(["apt-ftparchive", *_SHA256_ONLY, "packages", "pool"], cwd=self.base)

    def publish(self) -> Sample:
        """Write all indexes, Release and its signatures; what the database knows is not read again."""
        suite = self.base / "dists/trixie"
        release = self.base / "Release"
        made = [
            once(["apt-ftparchive", *_SHA256_ONLY, "generate", self.base / "generate.conf"], cwd=self.base),
            once(["apt-ftparchive", *_RELEASE, "release", suite], cwd=self.base, output=release),
        ]
        release.replace(suite / "Release")
        for how, name in (("--clearsign", "InRelease"), ("--detach-sign", "Release.gpg")):
            argv = ["gpg", "--batch", "--yes", "--armor", "--local-user", self.fingerprint, "--output"]
            made.append(once([*argv, suite / name, how, suite / "Release"], env={"GNUPGHOME": str(self.home)}))
        return total(*made)

    def add(self, deb: Path) -> Sample:
        """Put one more package into the pool and write all indexes."""
        place = self.base / "pool/main/extra"
        place.mkdir(exist_ok=True)
        os.link(deb, place / deb.name)
        return self.publish()


@dataclass(frozen=True)
class Reprepro:
    """reprepro with its repository in ``base``."""

    base: Path
    home: Path  # GNUPGHOME
    fingerprint: str

    def prepare(self) -> None:
        """Write the configuration."""
        (self.base / "conf").mkdir(parents=True)
        (self.base / "conf/distributions").write_text(_DISTRIBUTIONS.format(self.fingerprint))

    def _once(self, *words: str | Path) -> Sample:
        return once(["reprepro", "--basedir", self.base, *words], env={"GNUPGHOME": str(self.home)})

    def include(self, debs: Sequence[Path]) -> Sample:
        """Take in packages without writing an index."""
        return self._once("--export=never", "includedeb", "trixie", *debs)

    def export(self) -> Sample:
        """Write all indexes."""
        return self._once("export")

    def add(self, deb: Path) -> Sample:
        """Take in one more package and write the indexes of its architectures."""
        return self._once("includedeb", "trixie", deb)


@dataclass(frozen=True)
class Aptly:
    """aptly with its database and what it publishes in ``base``."""

    base: Path
    home: Path  # GNUPGHOME
    fingerprint: str

    def prepare(self) -> None:
        """Write the configuration and make the local repository."""
        self.base.mkdir(parents=True)
        said = {"rootDir": str(self.base), "architectures": ["amd64", "arm64"], "gpgProvider": "gpg"}
        (self.base / "aptly.conf").write_text(json.dumps(said))
        run.run(["aptly", f"-config={self.base / 'aptly.conf'}", "repo", "create", "-component=main", "bench"])

    def _once(self, *words: str | Path) -> Sample:
        config = f"-config={self.base / 'aptly.conf'}"
        return once(["aptly", config, *words], env={"GNUPGHOME": str(self.home)})

    def everything(self, pool: Path) -> Sample:
        """Take in the whole pool and publish it."""
        added = self._once("repo", "add", "bench", pool)
        key = f"-gpg-key={self.fingerprint}"
        return total(added, self._once("publish", "repo", "-batch", "-distribution=trixie", key, "bench"))

    def add(self, deb: Path) -> Sample:
        """Take in one more package and publish again."""
        added = self._once("repo", "add", "bench", deb)
        key = f"-gpg-key={self.fingerprint}"
        return total(added, self._once("publish", "update", "-batch", key, "trixie"))
