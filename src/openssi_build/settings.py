"""openssi.toml: what to build. Each table is a dataclass; its defaults make an empty file work."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from openssi import config

_LINE = r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?", "one line of text"
_ORIGIN = _LINE[0].replace("[^", "[^,"), "one line of text without a comma, for a pin"
_NAME = r"[a-z0-9][a-z0-9.+-]*", "small letters, digits, '.', '+', '-'"
_URL = r"[a-z][a-z0-9+.-]*:/\S+", "a URL"
_ARCHITECTURE = (
    r"(?!(?:all|source)$)[a-z0-9]+(?:-[a-z0-9]+)*",
    "Debian architectures; 'all' and sources are always there",
)
_FINGERPRINT = r"[0-9A-F]{40}|[0-9A-F]{64}", "a fingerprint, 40 or 64 hexadecimal digits in capitals"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable"


def _check(table: object, key: str, form: tuple[str, str]) -> None:
    """Raise ValueError unless the text that ``table`` has for ``key``, or each of its texts, is of the form, and no two are one."""
    value = getattr(table, key.replace("-", "_"))
    texts = value if isinstance(value, tuple) else () if value is None else (value,)
    pattern, expected = form
    for each in texts:
        if not re.fullmatch(pattern, each):
            raise ValueError(f"key '{key}': expected {expected}, got {each!r}")
        if texts.count(each) > 1:
            raise ValueError(f"key '{key}': {each!r} is there twice")


def _at_least(table: object, **least: int) -> None:
    for name, number in least.items():
        if getattr(table, name) < number:
            raise ValueError(f"key '{name.replace('_', '-')}': expected at least {number}, got {getattr(table, name)}")


def _distinct(table: str, names: list[str]) -> None:
    """Raise ValueError when two of the tables called ``table`` have one name."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{table}: two are called '{name}'")


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
        _at_least(self, keep=1, snapshots=1, by_hash_generations=3, valid_for_days=0)
        _check(self, "origin", _ORIGIN)
        for key in ("label", "description"):
            _check(self, key, _LINE)
        for key in ("suite", "component"):
            _check(self, key, _NAME)
        for key in ("uri", "mirror", "security-mirror"):
            _check(self, key, _URL)
        _check(self, "architectures", _ARCHITECTURE)
        _check(self, "compress", ("xz|gz|zst", "some of xz, gz, zst"))
        for key in ("architectures", "compress"):
            if not getattr(self, key):
                raise ValueError(f"key '{key}': expected at least one")


@dataclass(frozen=True)
class Signing:
    """[signing]: whose keys sign the repository."""

    keys: tuple[str, ...] = ()  # fingerprints in the keyring ``home``; all of them sign
    home: Path | None = None  # GNUPGHOME of those keys; by default gpg's own
    key_variable: str = "OPENSSI_SIGNING_KEY"
    passphrase_variable: str = "OPENSSI_SIGNING_PASSPHRASE"  # noqa: S105 - a variable's name
    carry: tuple[str, ...] = ()  # files with public keys that clients get as well
    warn_days: int = 90  # before a key expires

    def __post_init__(self) -> None:
        _at_least(self, warn_days=0)
        _check(self, "keys", _FINGERPRINT)
        for key in ("key-variable", "passphrase-variable"):
            _check(self, key, _VARIABLE)


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
        for key in ("name", "kernel", "firmware"):
            _check(self, key, _NAME)
        _check(self, "compress", ("zstd|gzip|xz|lz4|none", "zstd, gzip, xz, lz4 or none"))


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
        _at_least(self, uploads=1, wait_s=0)
        for key in ("name", "to"):
            _check(self, key, _LINE)
        _check(self, "endpoint", _URL)


@dataclass(frozen=True)
class Settings:
    """The whole file."""

    repository: Repository = field(default_factory=Repository)
    signing: Signing = field(default_factory=Signing)
    initrd: tuple[Initrd, ...] = (Initrd(),)
    publish: tuple[Publish, ...] = ()

    def __post_init__(self) -> None:
        if not self.initrd:
            raise ValueError("initrd: expected at least one table")
        _distinct("initrd", [each.name for each in self.initrd])  # directories in out/initrd
        _distinct("publish", [each.name for each in self.publish])


def load(root: Path) -> Settings:
    """Read ``openssi.toml`` of the tree ``root``; Error names what is wrong in it."""
    return config.load(root / "openssi.toml", Settings)
