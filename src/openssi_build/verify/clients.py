"""The real thing: a stock Debian in a chroot that has the repository as its clients have it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openssi.errors import Error
from openssi_build import archive
from openssi_build.chroot import Chroot

KEYRING = "/etc/apt/keyrings/repository.gpg"
_SOURCE = "etc/apt/sources.list.d/repository.sources"
_PREFERENCES = "etc/apt/preferences.d/repository.pref"
_TIMEOUT = 900
# Spelt out: an apt.conf of the host's making may have turned the checks of dates off.
_OPTIONS = (
    "Acquire::Check-Valid-Until=true",
    "Acquire::Check-Date=true",
    "Acquire::Retries=0",
    "Acquire::http::Proxy::127.0.0.1=DIRECT",
    "Dpkg::Options::=--force-confnew",
    "Dpkg::Use-Pty=false",
)


@dataclass(frozen=True)
class Outcome:
    """What an apt command ended with and said."""

    code: int
    text: str

    @property
    def complaints(self) -> list[str]:
        """The lines of apt's errors and warnings."""
        return [line for line in self.text.splitlines() if line.startswith(("E:", "W:", "Err:"))]


@dataclass(frozen=True)
class Candidate:
    """What `apt-cache policy` says of one package."""

    installed: str
    candidate: str
    priorities: Mapping[str, int]  # of the candidate's sources, by their URI


class Client:
    """A machine, in ``chroot``, that has one repository as a source besides Debian, or instead of it."""

    def __init__(self, chroot: Chroot, *, debian: bool = True) -> None:
        self.chroot = chroot
        if not debian:
            for path in (chroot.path / "etc/apt/sources.list.d").iterdir():
                path.unlink()

    def use(
        self,
        uri: str,
        suite: str,
        keyring: bytes,
        *,
        preferences: str = "",
        signed_by: str = KEYRING,
        deb_src: bool = True,
    ) -> None:
        """Make the repository at ``uri`` a source, trusted by ``keyring``, with apt ``preferences``."""
        kinds = "deb deb-src" if deb_src else "deb"
        components = "" if suite.endswith("/") else "Components: main\n"
        source = f"Types: {kinds}\nURIs: {uri}\nSuites: {suite}\n{components}Signed-By: {signed_by}\n"
        self.write(_SOURCE, source)
        self.write(KEYRING, keyring)
        self.write(_PREFERENCES, preferences)

    def write(self, path: str, content: bytes | str) -> None:
        """Write a file of the client's; its directory is made."""
        target = self.chroot.path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(0o644)

    def apt(self, *words: str, program: str = "apt-get") -> Outcome:
        """Run apt-get (or ``program``) with the checks of dates on, asking nobody."""
        options = [word for each in _OPTIONS for word in ("-o", each)]
        code, out, err = self.chroot.status(
            [program, *options, "--quiet", *words],
            env={"DEBIAN_FRONTEND": "noninteractive"},
            network=True,
            timeout=_TIMEOUT,
        )
        return Outcome(code, (out + err).decode("utf-8", "replace"))

    def version(self) -> str:
        """Return the version of apt."""
        return self.chroot.output(["apt-get", "--version"]).decode().split()[1]

    def update(self, *options: str) -> Outcome:
        """Run `apt-get update`."""
        return self.apt("update", *options)

    def policy(self, package: str, *options: str) -> Candidate:
        """Return the candidate of ``package``, with its sources' priorities."""
        return parse_policy(self.apt("policy", *options, package, program="apt-cache").text)

    def installed(self, package: str) -> str:
        """Return the installed version of ``package``, or nothing."""
        argv = ["dpkg-query", "--show", "--showformat=${Version} ${db:Status-Status}", package]
        code, out, _ = self.chroot.status(argv)
        version, _, state = out.decode().partition(" ")
        return version if code == 0 and state == "installed" else ""

    def plant(self, package: str, version: str, architecture: str = "all") -> None:
        """Install an empty package of this name and version, as if another source had brought it."""
        control = (
            f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n"
            "Maintainer: Nobody <nobody@example.org>\nDescription: planted\n"
        )
        self.write("/planted/DEBIAN/control", control)
        for path in ("planted", "planted/DEBIAN"):
            (self.chroot.path / path).chmod(0o755)
        self.chroot.run(["dpkg-deb", "--root-owner-group", "--build", "/planted", "/planted.deb"])
        self.chroot.run(["dpkg", "--force-all", "--install", "/planted.deb"])


def parse_policy(text: str) -> Candidate:
    """Return what the output of `apt-cache policy` of one package says."""
    installed, candidate = (re.search(rf"^  {name}: (\S+)", text, re.M) for name in ("Installed", "Candidate"))
    if not installed or not candidate:
        raise Error("apt-cache policy: the package is not known to apt")
    table = re.search(rf"^ (?:\*\*\*|   ) {re.escape(candidate[1])} .*\n((?: {{6,}}-?\d+ .*\n?)*)", text, re.M)
    priorities = {line.split()[1]: int(line.split()[0]) for line in (table[1] if table else "").splitlines()}
    none = {"(none)": ""}
    return Candidate(none.get(installed[1], installed[1]), none.get(candidate[1], candidate[1]), priorities)


@dataclass(frozen=True)
class Trial:
    """What is tried on a client: the repository's address, and which of its packages."""

    uri: str
    suite: str
    keyring: bytes
    preferences: str
    versions: Mapping[str, str]  # the newest version by package, of those that the client's architecture has
    leaf: str  # a package that needs no other
    install: Sequence[str]  # what is installed for real


def trial(client: Client, wanted: Trial) -> tuple[list[str], list[str]]:
    """Update, look at the pin, downgrade a planted newer version and install; return faults and what was seen."""
    who = f"apt {client.version()}"
    client.use(wanted.uri, wanted.suite, wanted.keyring, preferences=wanted.preferences)
    updated = client.update()
    if updated.code != 0 or updated.complaints:
        return [f"{who}: update: {line}" for line in updated.complaints or [f"exit status {updated.code}"]], []
    found = [f"{who}: updates without a complaint"]
    faults: list[str] = []
    for act in (_pinned, _downgraded, _installed, _handed_over):
        problem, seen = act(client, wanted)
        faults += [f"{who}: {problem}"] if problem else []
        found += [f"{who}: {seen}"] if seen else []
    return faults, found


def _pinned(client: Client, wanted: Trial) -> tuple[str, str]:
    policy = client.policy(wanted.leaf)
    priority = _priority(policy, wanted.uri)
    if priority != 1001:
        return f"{wanted.leaf}: the repository has priority {priority}, expected 1001 by its preferences", ""
    return "", f"{wanted.leaf} {policy.candidate} has priority 1001"


def _downgraded(client: Client, wanted: Trial) -> tuple[str, str]:
    ours = wanted.versions[wanted.leaf]
    planted = f"{ours}+planted1"
    client.plant(wanted.leaf, planted)
    upgraded = client.apt("dist-upgrade", "--yes", "--allow-downgrades", "--no-install-recommends")
    now = client.installed(wanted.leaf)
    if upgraded.code != 0 or now != ours:
        said = "; ".join(upgraded.complaints) or f"exit status {upgraded.code}"
        return f"dist-upgrade: {wanted.leaf} {planted} became {now or 'nothing'}, expected {ours}: {said}", ""
    return "", f"dist-upgrade took {wanted.leaf} from {planted} back to {ours}"


def _installed(client: Client, wanted: Trial) -> tuple[str, str]:
    names = wanted.install or [wanted.leaf]
    result = client.apt("install", "--yes", "--allow-downgrades", "--no-install-recommends", *names)
    if result.code != 0:
        lines = [line.strip() for line in result.text.splitlines() if re.match(r"E:|\s+\S+ : ", line)]
        return f"install {' '.join(names)}: {'; '.join(lines[:4]) or f'exit status {result.code}'}", ""
    wrong = [name for name in names if client.installed(name) != wanted.versions[name]]
    if wrong:
        return f"install: {', '.join(wrong)}: not the repository's version was installed", ""
    return "", f"installed {len(names)} of the repository's packages"


def _handed_over(client: Client, wanted: Trial) -> tuple[str, str]:
    """Let the client go on with what the repository's own keyring package has brought, and with nothing of ours."""
    brought = client.chroot.path / archive.KEYRING.lstrip("/")
    if not brought.is_file():
        return "", ""
    client.use(wanted.uri, wanted.suite, b"", signed_by=archive.KEYRING)
    alone = ("-o", f"Dir::Etc::SourceList=/{_SOURCE}", "-o", "Dir::Etc::SourceParts=/dev/null")
    updated = client.update(*alone)
    if updated.code != 0 or updated.complaints:
        said = "; ".join(updated.complaints) or f"exit status {updated.code}"
        return f"update with the installed {archive.KEYRING}: {said}", ""
    policy = client.policy(wanted.leaf, *alone)
    if _priority(policy, wanted.uri) != 1001:
        return (
            f"the installed preferences give {wanted.leaf} priority {_priority(policy, wanted.uri)}, expected 1001",
            "",
        )
    return "", "goes on with the key and the preferences of the installed package"


def _priority(policy: Candidate, uri: str) -> int | None:
    return max((each for source, each in policy.priorities.items() if source.startswith(uri)), default=None)
