"""openssi.toml: what to build. Each table is a dataclass; its defaults make an empty file work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from openssi import config


@dataclass(frozen=True)
class Repository:
    """[repository]: the identity that apt sees, and what is kept."""

    origin: str = "OpenSSI"
    label: str = "OpenSSI"
    description: str = "OpenSSI clusters on Debian"
    suite: str = "trixie"
    architectures: tuple[str, ...] = ("amd64",)
    uri: str | None = None  # where clients find the repository; without it the .sources is a disabled example
    mirror: str | None = None  # Debian's archive; by default what the host's apt uses
    security_mirror: str | None = None


@dataclass(frozen=True)
class Signing:
    """[signing]: whose keys sign the repository."""

    keys: tuple[str, ...] = ()  # fingerprints in the keyring ``home``; all of them sign
    home: Path | None = None  # GNUPGHOME of those keys; by default gpg's own
    key_variable: str = "OPENSSI_SIGNING_KEY"
    passphrase_variable: str = "OPENSSI_SIGNING_PASSPHRASE"  # noqa: S105 - a variable's name
    carry: tuple[str, ...] = ()  # files with public keys that clients get as well
    warn_days: int = 90  # before a key expires


@dataclass(frozen=True)
class Settings:
    """The whole file."""

    repository: Repository = field(default_factory=Repository)
    signing: Signing = field(default_factory=Signing)


def load(root: Path) -> Settings:
    """Read ``openssi.toml`` of the tree ``root``; Error names what is wrong in it."""
    return config.load(root / "openssi.toml", Settings)
