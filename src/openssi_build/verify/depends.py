"""Dependencies of a repository's packages, looked for in Debian's suite and in the repository itself by apt."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from openssi.run import output
from openssi_build.apt import Apt


def unmet(apt: Apt, packages: Mapping[tuple[str, str, str], bytes]) -> list[str]:
    """Return what is unmet of Depends and Pre-Depends of ``packages`` (stanzas by name, version and architecture).

    ``apt`` has the suite's lists; it looks through those and through ``packages``.
    """
    apt.update()
    with tempfile.TemporaryDirectory(prefix="ossi-") as name:
        index = Path(name) / "Packages"
        index.write_bytes(b"".join(stanza.strip(b"\n") + b"\n\n" for stanza in packages.values()))
        argv: list[str | Path] = ["apt-cache", "unmet", "--important", "--with-source", index]
        # A cache of its own: the one beside the lists does not know this source.
        env = {"APT_CONFIG": str(apt.root / "apt.conf")}
        options = ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
        said = output([*argv, *options], env=env, timeout=300).decode("utf-8", "replace")
    return list(_of(said, {(package, version) for package, version, _ in packages}))


def _of(said: str, wanted: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Yield a line for each unmet dependency of ``wanted`` (packages and versions) in what `apt-cache unmet` said."""
    known = set(wanted)
    for block in re.split(r"^Package ", said, flags=re.M)[1:]:
        head, _, body = block.partition("\n")
        match = re.fullmatch(r"(\S+?)(?::\S+)? version (\S+) has an unmet dep:", head)
        if match and (match[1], match[2]) in known:
            for line in body.splitlines():
                if line.strip():
                    yield f"{match[1]} {match[2]}: {line.strip()}: not in Debian and not in the repository"
