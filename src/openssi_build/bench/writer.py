"""Our side of `inv bench repo`, as a process of its own: index a pool, or publish."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def found(pool: Path) -> list[str]:
    """Return the .debs below ``pool``, sorted."""
    names: list[str] = []
    directories = [str(pool)]
    while directories:
        with os.scandir(directories.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(".deb"):
                    names.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
    return sorted(names)


def index(pool: Path, output: Path) -> None:
    """Write the stanzas of Packages of all .debs below ``pool``, sorted, to ``output``."""
    from openssi_build.repository.pool import read_deb, uncollected

    top = f"{pool.absolute().parent}/"
    with uncollected():
        packages = [read_deb(path, top, "main", contents=False) for path in found(pool.absolute())]
    packages.sort(key=lambda package: package.identity)
    output.write_bytes(b"".join(package.stanza for package in packages))


def publish(repo: Path, cache: Path, home: Path, fingerprint: str, new: Sequence[str]) -> None:
    """Publish ``new`` in ``repo``, or without any all .debs of its pool, with Contents, as .xz and .gz, signed."""
    from openssi_build import repository, signing
    from openssi_build.settings import Repository, Signing

    settings = Repository(architectures=("amd64", "arm64"), compress=("xz", "gz"))
    with signing.signer(Signing(keys=(fingerprint,), home=home), repo) as signer:
        paths = [Path(each) for each in new or found(repo.absolute() / "pool")]
        snapshot = repository.publish(repo, paths, settings=settings, cache=cache, signer=signer)
    print(f"snapshot {snapshot.number}: {snapshot.packages} packages{'' if snapshot.new else ', as it was'}")  # noqa: T201


def main(argv: Sequence[str]) -> None:
    """Do what ``argv`` says: ``index POOL OUTPUT`` or ``publish REPO CACHE GNUPGHOME FINGERPRINT [DEB…]``."""
    what, *words = argv
    if what == "index":
        index(Path(words[0]), Path(words[1]))
    else:
        publish(Path(words[0]), Path(words[1]), Path(words[2]), words[3], words[4:])


if __name__ == "__main__":
    main(sys.argv[1:])
