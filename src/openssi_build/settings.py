"""openssi.toml: what to build. Each table is a dataclass; its defaults make an empty file work."""

from __future__ import annotations

import re
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
    component: str = "main"
    compress: tuple[str, ...] = ("xz",)  # forms of each index: xz, gz, zst
    valid_for_days: int = 30  # Valid-Until; 0: none
    keep: int = 3  # versions of a package
    snapshots: int = 10  # kept at least; those that a client may still have cached are kept too
    by_hash_generations: int = 5  # old indexes kept at least, beside those replaced within the last day

    def __post_init__(self) -> None:
        for key, least in (("keep", 1), ("snapshots", 1), ("by-hash-generations", 3), ("valid-for-days", 0)):
            if getattr(self, key.replace("-", "_")) < least:
                raise ValueError(f"key '{key}': expected at least {least}")
        unknown = sorted(set(self.compress) - {"xz", "gz", "zst"})
        if unknown or not self.compress:
            raise ValueError(f"key 'compress': expected some of xz, gz, zst, got {', '.join(unknown) or 'none'}")
        if not self.architectures or {"all", "source"} & set(self.architectures):
            raise ValueError("key 'architectures': expected Debian architectures; 'all' and sources are always there")


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
class Initrd:
    """[[initrd]]: one boot image, a kernel with a set of drivers."""

    name: str = "default"  # its directory below out/initrd
    kernel: str = "trixie-amd64"  # of kernels/NAME.toml
    drivers: tuple[str, ...] | None = None  # lines as in /etc/mkinitrd/modules; by default initrd/modules.default
    firmware: tuple[str, ...] = ("firmware-bnx2", "firmware-misc-nonfree", "firmware-realtek")  # Debian packages
    compress: str = "zstd"  # zstd, gzip, xz, lz4 or none
    microcode: tuple[Path, ...] = ()  # uncompressed archives that go first
    overlays: tuple[Path, ...] = ()  # archives that are appended
    strict: bool = False  # missing firmware is an error

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.name):
            raise ValueError(f"key 'name': expected small letters, digits, '.', '+', '-', got '{self.name}'")
        if self.compress not in ("zstd", "gzip", "xz", "lz4", "none"):
            raise ValueError(f"key 'compress': expected zstd, gzip, xz, lz4 or none, got '{self.compress}'")


@dataclass(frozen=True)
class Publish:
    """[[publish]]: a place where the repository is published."""

    name: str
    to: str  # a directory, [USER@]HOST:/DIRECTORY, ssh://[USER@]HOST[:PORT]/DIRECTORY or s3://BUCKET/PREFIX
    endpoint: str | None = None  # of object storage other than Amazon's
    region: str | None = None
    identity: Path | None = None  # file with the secret key of ssh; by default as ssh_config says
    known_hosts: Path | None = None
    uploads: int = 8  # at a time, to object storage
    wait_s: int = 600  # for another publisher

    def __post_init__(self) -> None:
        if not self.name or not self.to:
            raise ValueError("keys 'name' and 'to': expected text")
        if self.uploads < 1 or self.wait_s < 0:
            raise ValueError("keys 'uploads', 'wait-s': expected at least 1 and 0")


@dataclass(frozen=True)
class Settings:
    """The whole file."""

    repository: Repository = field(default_factory=Repository)
    signing: Signing = field(default_factory=Signing)
    initrd: tuple[Initrd, ...] = (Initrd(),)
    publish: tuple[Publish, ...] = ()


def load(root: Path) -> Settings:
    """Read ``openssi.toml`` of the tree ``root``; Error names what is wrong in it."""
    return config.load(root / "openssi.toml", Settings)
