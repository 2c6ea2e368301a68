"""A Debian in a chroot that has all that our packages need, to install them into."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from conftest import needs
from debian.deb822 import Deb822

from openssi_build import chroot
from openssi_build.chroot import Chroot

CARD = "eth1,52:54:00:00:00:01,10.0.0.1/24"  # in no machine: the chroot has no network
ANSWERS = {
    "node-number": "string 3",
    "interconnect": f"select {CARD}",
    "boot-protocol": "select Etherboot",
    "clustername": "string farm",
}
_UNWANTED = ("openssi-doc", "openssi-etherboot")


def dependencies(root: Path) -> list[str]:
    """Return the packages of Debian's that ours need, the first of alternatives."""
    names = {"python3"}
    with (root / "debian/control").open() as stream:
        for paragraph in Deb822.iter_paragraphs(stream):
            names |= {re.split(r"[\s|(]", each.strip())[0] for each in paragraph.get("Depends", "").split(",")}
    return sorted(name for name in names if name and not name.startswith(("openssi", "$")))


class Machine:
    """A Debian that has all but our packages, and those in /debs."""

    def __init__(self, session: Chroot) -> None:
        self.session = session
        self.tree = session.path
        self.debs = sorted(
            f"/debs/{path.name}" for path in (self.tree / "debs").iterdir() if not path.name.startswith(_UNWANTED)
        )
        self.before = self.picture()

    def apt(self, *words: str, before: str = "true") -> tuple[int, str]:
        """Run apt-get without a network and with nobody to ask; return its exit status and what it said.

        ``before`` is a shell line to run first, in the same namespaces.
        """
        argv = ["sh", "-c", f'{before}; exec "$@"', "sh", "apt-get", "--yes", "--no-install-recommends", *words]
        code, out, err = self.session.status(argv, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=900)
        return code, (out + err).decode(errors="replace")

    def answer(self, answers: Mapping[str, str]) -> None:
        """Answer beforehand, as an administrator would."""
        lines = "".join(f"openssi openssi/{name} {kind}\n" for name, kind in answers.items())
        self.session.run(["debconf-set-selections"], input=lines.encode())

    def picture(self) -> dict[str, bytes | str]:
        """Return what of the machine ssi-create changes: these files and links, with their content."""
        names = ("hosts", "hostname", "machine-id", "fstab", "nodename", "clustertab", "clustername", "nfs.conf.d")
        places = [self.tree / "etc" / name for name in names]
        places += [*(self.tree / "etc/exports.d").glob("*"), self.tree / "cluster", self.tree / "tftpboot"]
        found: dict[str, bytes | str] = {}
        for place in places:
            if place.is_symlink():
                found[place.name] = str(place.readlink())
            elif place.is_file():
                found[place.name] = place.read_bytes()
            elif place.exists():
                found[place.name] = ",".join(sorted(each.name for each in place.iterdir()))
        return found


@contextmanager
def machine(root: Path, cache: Path, repo: Path) -> Iterator[Machine]:
    """Yield a machine with the packages of the repository ``repo`` in /debs."""
    needs("mmdebstrap")
    with chroot.Chroot(chroot.base(cache, "trixie", dependencies(root))) as session:
        for package in repo.glob("pool/**/openssi*.deb"):
            session.copy_in(package, f"/debs/{package.name}")
        # no machine of a cluster is called localhost
        (session.path / "etc/hostname").write_text("sun\n")
        # a machine that was booted has an id
        (session.path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        yield Machine(session)
