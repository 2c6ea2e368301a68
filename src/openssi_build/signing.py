"""Signing by gpg: clearsigned InRelease and detached Release.gpg, by one key or, while keys rotate, by several.

Secret keys come from three places: a keyring of the user's (``[signing] keys``), armored text in an environment
variable (a CI secret), or a development key that is made on first use below ``out/keys``. The last two are imported
into a home directory of gpg that lives in memory where possible and is removed at the end.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from openssi import files
from openssi.errors import CommandError, Error
from openssi.run import output, status
from openssi_build.settings import Signing

_USER_ID = "openssi development key (do not trust) <development@openssi.invalid>"
# The development key is older than any date it will be asked to sign for.
_DEVELOPMENT_DATE = 1735689600  # 2025-01-01
_TIMEOUT = 120
# The passphrase comes on stdin, never in argv.
_LOOPBACK = ("--pinentry-mode", "loopback", "--passphrase-fd", "0")


@dataclass(frozen=True)
class Key:
    """A public key as gpg lists it: times are seconds since 1970; ``expires`` says when it can sign no more, None for never."""

    fingerprint: str
    user_id: str
    algorithm: str
    created: int
    expires: int | None
    secret: bool = False


class Home:
    """A home directory of gpg: the user's own, or a short-lived one that holds what is imported into it.

    The path of gpg-agent's socket may have 107 bytes, so a home of ours lies in /dev/shm or /tmp under a short name.
    """

    def __init__(self, own: Path | None = None, *, agent: bool = True) -> None:
        self._temporary = own is None
        self._agent = agent  # whether an agent of the user's own home may go on
        shm = Path("/dev/shm")  # noqa: S108 - made by mkdtemp, mode 0700; secrets never reach a disk there
        where = shm if os.access(shm, os.W_OK) else None
        self.path = own or Path(tempfile.mkdtemp(prefix="ossi-", dir=where))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the agent of a short-lived home and remove it with all keys; stop that of a lasting one where told so."""
        if self.path.exists() and (self._temporary or not self._agent):
            status(["gpgconf", "--homedir", self.path, "--kill", "all"], timeout=_TIMEOUT)
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def command(self, *words: str | Path) -> list[str | Path]:
        """Return a gpg command on this home that asks nobody anything."""
        return ["gpg", "--homedir", self.path, "--batch", "--no-tty", "--quiet", "--no-greeting", "--yes",
                "--trust-model", "always", *words]  # fmt: skip

    def receive(self, keys: bytes, where: str) -> list[str]:
        """Import armored or binary keys; return the fingerprints of their primary keys. ``where`` names them in errors."""
        argv = self.command("--status-fd", "1", "--import")
        code, said, err = status(argv, input=keys, timeout=_TIMEOUT)
        found = re.findall(rb"^\[GNUPG:\] IMPORT_OK \d+ ([0-9A-F]+)", said, re.MULTILINE)
        if code != 0 or not found:
            text = err.decode("utf-8", "replace").strip().splitlines()
            raise Error(f"{where}: no OpenPGP key in it{': ' + text[-1] if text else ''}")
        return list(dict.fromkeys(each.decode() for each in found))

    def listing(self, *, secret: bool = False) -> list[Key]:
        """Return the keys of this home, sorted by fingerprint."""
        kind = "--list-secret-keys" if secret else "--list-keys"
        listing = output(self.command("--with-colons", "--fixed-list-mode", kind), timeout=_TIMEOUT)
        return parse_listing(listing.decode("utf-8", "replace"))

    def export(self, fingerprints: Sequence[str], *, armor: bool = False) -> bytes:
        """Return the public keys ``fingerprints`` without third-party signatures."""
        argv = self.command(
            "--export-options", "export-minimal", *(["--armor"] if armor else []), "--export", *fingerprints
        )
        return output(argv, timeout=_TIMEOUT)

    def export_secret(self, fingerprint: str, *, passphrase: bytes = b"") -> bytes:
        """Return the secret key ``fingerprint``, armored and as protected as it is in this home."""
        argv = self.command(*_LOOPBACK, "--armor", "--export-secret-keys", fingerprint)
        return output(argv, input=passphrase + b"\n", timeout=_TIMEOUT)

    def generate(
        self,
        user_id: str,
        *,
        expires: str,
        date: int | None = None,
        algorithm: str = "ed25519",
        passphrase: bytes = b"",
    ) -> str:
        """Make a signing key; return its fingerprint. ``expires`` is gpg's form: ``3y``, ``0``. It may have no passphrase."""
        faked = ["--faked-system-time", f"{date}!"] if date else []
        argv = self.command(
            *faked, *_LOOPBACK, "--status-fd", "1", "--quick-generate-key", user_id, algorithm, "sign", expires
        )
        said = output(argv, input=passphrase + b"\n", timeout=_TIMEOUT)
        made = re.search(rb"KEY_CREATED \S ([0-9A-F]+)", said)
        if not made:
            raise Error(f"gpg made no key for {user_id!r}")
        return made[1].decode()


def parse_listing(text: str) -> list[Key]:
    """Return the primary keys of gpg's ``--with-colons`` listing (doc/DETAILS of GnuPG), sorted by fingerprint."""
    blocks: list[list[list[str]]] = []
    for line in text.splitlines():
        fields = line.split(":")
        if fields[0] in ("pub", "sec"):
            blocks.append([])
        if blocks:
            blocks[-1].append(fields)
    return sorted(map(_key, blocks), key=lambda key: key.fingerprint)


def _key(records: Sequence[Sequence[str]]) -> Key:
    """Return the key of a pub or sec record and those that follow it up to the next."""
    record = records[0]
    user_ids = (each[9] for each in records if each[0] == "uid")
    expiries = [int(record[6])] if record[6] else []
    # Field 12: a small ``s`` says that this very key signs. Where subkeys do, the last to expire counts.
    subkeys = [each[6] for each in records if each[0] in ("sub", "ssb") and "s" in each[11]]
    if subkeys and all(subkeys):
        expiries.append(max(map(int, subkeys)))
    return Key(
        fingerprint=next(each[9] for each in records if each[0] == "fpr"),
        user_id=next(user_ids, "").replace("\\x3a", ":"),
        algorithm=_algorithm(record),
        created=int(record[5]),
        expires=min(expiries, default=None),
        secret=record[0] == "sec",
    )


def _algorithm(record: Sequence[str]) -> str:
    """Return ``ed25519``, ``rsa4096`` … from a pub record (public key algorithms: RFC 9580, 9.1)."""
    number, bits = record[3], record[2]
    curve = record[16] if len(record) > 16 else ""
    if curve:
        return curve
    return {"1": "rsa", "17": "dsa", "16": "elg"}.get(number, f"algorithm-{number}-") + bits


class Signer:
    """Signs with every one of ``fingerprints``; close() (or a ``with`` block) removes what was imported."""

    def __init__(
        self, home: Home, fingerprints: Sequence[str], *, also: Sequence[bytes] = (), passphrase: bytes = b""
    ) -> None:
        self._home = home
        self._passphrase = passphrase
        self.fingerprints = tuple(fingerprints)
        # Keys that clients shall know already, or still, though they do not sign: the other side of a rotation.
        self.carried = tuple(each for keys in also for each in home.receive(keys, "[signing] carry"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget the secret keys."""
        self._home.close()

    def keys(self) -> list[Key]:
        """Return the keys that sign."""
        return [key for key in self._home.listing() if key.fingerprint in self.fingerprints]

    def every(self) -> list[Key]:
        """Return the keys that clients get: those that sign, and those that are carried."""
        return [key for key in self._home.listing() if key.fingerprint in {*self.fingerprints, *self.carried}]

    def secret_keys(self, fingerprints: Sequence[str] = ()) -> bytes:
        """Return the secret keys that sign (or some of them), armored and as protected as they are in their keyring."""
        wanted = fingerprints or self.fingerprints
        return b"".join(self._home.export_secret(each, passphrase=self._passphrase) for each in wanted)

    def public_keys(self, *, armor: bool = False) -> bytes:
        """Return the keyring that clients need: the signing keys and those that are carried."""
        return self._home.export(sorted({*self.fingerprints, *self.carried}), armor=armor)

    def public_key(self, fingerprint: str) -> bytes:
        """Return the binary public key ``fingerprint``."""
        return self._home.export([fingerprint])

    def clearsign(self, data: bytes, date: int) -> bytes:
        """Return ``data`` clearsigned at ``date`` (seconds since 1970): an InRelease."""
        return self._sign("--clearsign", data, date)

    def detach(self, data: bytes, date: int) -> bytes:
        """Return the armored detached signature of ``data`` made at ``date``: a Release.gpg."""
        return self._sign("--detach-sign", data, date)

    def _sign(self, how: str, data: bytes, date: int) -> bytes:
        # The date is that of Release: the same input gives the same bytes, for ed25519 and RSA alike.
        with tempfile.TemporaryDirectory(prefix="ossi-") as directory:
            path = Path(directory) / "data"
            path.write_bytes(data)
            users = [word for each in self.fingerprints for word in ("--local-user", each)]
            argv = self._home.command(
                *_LOOPBACK, "--faked-system-time", f"{date}!", "--digest-algo", "SHA512", "--no-emit-version", "--no-comments",
                *users, "--armor", "--output", "-", how, path,
            )  # fmt: skip
            try:
                return output(argv, input=self._passphrase + b"\n", timeout=_TIMEOUT)
            except CommandError as problem:
                raise Error(f"signing with {', '.join(self.fingerprints)}: {_last(problem)}") from None


def _last(problem: CommandError) -> str:
    lines = [line for line in problem.stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("gpg: ") if lines else problem.message


def signer(settings: Signing, root: Path) -> Signer:
    """Return the signer that ``[signing]`` of the tree ``root`` describes; Error when a key is missing or unfit.

    In order: the keys by fingerprint, the environment variable, the development key.
    """
    made = _signer(settings, root)
    try:
        for key in made.keys():  # noqa: SIM118 - it is no mapping
            if key.expires is not None and key.expires <= time.time():
                raise Error(f"{key.fingerprint}: the key expired on {day(key.expires)}", hint="inv keys rotate")
    except BaseException:
        made.close()
        raise
    return made


def day(when: int) -> str:
    """Return the day of ``when``, seconds since 1970, in UTC."""
    return time.strftime("%F", time.gmtime(when))


def _signer(settings: Signing, root: Path) -> Signer:
    also = [_carried(root, each) for each in settings.carry]
    passphrase = os.environ.get(settings.passphrase_variable, "").encode()
    if settings.keys:
        return _from_keyring(settings, root, also, passphrase)
    armored = os.environ.get(settings.key_variable, "")
    home = Home()
    try:
        if armored:
            fingerprints = home.receive(armored.encode(), f"${settings.key_variable}")
            _check_secret(home, fingerprints, f"${settings.key_variable}")
        else:
            fingerprints = home.receive(development_key(root), "development key")
        return Signer(home, fingerprints, also=also, passphrase=passphrase)
    except BaseException:
        home.close()
        raise


def is_development(settings: Signing) -> bool:
    """Return True when nothing is configured and the development key would sign."""
    return not settings.keys and not os.environ.get(settings.key_variable)


def home_of(settings: Signing, root: Path) -> Path:
    """Return the directory of the keyring that [signing] names, a relative one being below ``root``; by default gpg's own."""
    return root / (settings.home or Path(os.environ.get("GNUPGHOME") or Path.home() / ".gnupg")).expanduser()


def _carried(root: Path, name: str) -> bytes:
    try:
        return (root / name).read_bytes()
    except OSError as problem:
        raise Error(f"[signing] carry: {name}: {problem.strerror}") from None


def _from_keyring(settings: Signing, root: Path, also: Sequence[bytes], passphrase: bytes) -> Signer:
    own = home_of(settings, root)
    if not own.is_dir():
        raise Error(f"[signing] keys: no keyring at {own}", hint="set home, or unset keys to use a development key")
    # A keyring below out/ is ours, and so is the agent that gpg starts for it.
    home = Home(own, agent=not own.is_relative_to(root / "out"))
    _check_secret(home, settings.keys, str(own))
    return Signer(home, settings.keys, also=also, passphrase=passphrase)


def _check_secret(home: Home, fingerprints: Sequence[str], where: str) -> None:
    known = {key.fingerprint for key in home.listing(secret=True)}
    for each in fingerprints:
        if each not in known:
            raise Error(f"{where}: no secret key {each}", hint="inv keys lists what there is")


def development_key(root: Path) -> bytes:
    """Return the armored secret development key of the tree ``root``, made on first use in ``out/keys``."""
    path = root / "out" / "keys" / "development.asc"
    with files.lock(path.with_name("lock")):
        if not path.exists():
            with Home() as home:
                fingerprint = home.generate(_USER_ID, expires="0", date=_DEVELOPMENT_DATE)
                files.write(path, home.export_secret(fingerprint), mode=0o600)
        return path.read_bytes()


def public_keys(keyring: Path | None, root: Path, settings: Signing) -> bytes:
    """Return the public keys in ``keyring``, armored or not, as a binary keyring; without one those that ``settings`` name."""
    if keyring is None:
        with signer(settings, root) as ours:
            return ours.public_keys()
    try:
        content = keyring.read_bytes()
    except OSError as problem:
        raise Error(f"{keyring}: {problem.strerror}") from None
    with Home() as home:
        return home.export(home.receive(content, str(keyring)))


def check_signature(data: Path, keyring: Path, signature: Path | None = None, *, expired: bool = False) -> None:
    """Check ``data`` (clearsigned, or with a detached ``signature``) by gpgv with the public ``keyring`` only; Error if bad.

    As for apt, one good signature is enough: while keys rotate there are several. With ``expired`` the key may have expired since.
    """
    with tempfile.TemporaryDirectory(prefix="ossi-") as home:
        argv: list[str | Path] = ["gpgv", "--homedir", home, "--status-fd", "1", "--keyring", keyring.absolute()]
        code, said, err = status([*argv, *([signature] if signature else []), data], timeout=_TIMEOUT)
    kinds = {words[1] for words in map(bytes.split, said.splitlines()) if words[:1] == [b"[GNUPG:]"]}
    good = b"GOODSIG" in kinds or (expired and b"EXPKEYSIG" in kinds)
    if not good or b"BADSIG" in kinds:
        lines = err.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1].removeprefix("gpgv: ") if lines else f"gpgv: exit status {code}"
        raise Error(f"{signature or data}: {reason}")
