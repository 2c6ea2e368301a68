"""Signatures as apt checks them: with the public keys only, by gpgv (apt 2.6) and by sqv (apt 3)."""

from __future__ import annotations

import re
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

from openssi.errors import Error
from openssi.run import find, status

_TIMEOUT = 120
_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----\n"
_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----\n"
_END = b"-----END PGP SIGNATURE-----"
# Status lines of gpgv (doc/DETAILS of GnuPG), the most telling first.
_PROBLEMS = {
    "BADSIG": "the signature is of another text",
    "EXPKEYSIG": "the key has expired",
    "EXPSIG": "the signature has expired",
    "REVKEYSIG": "the key is revoked",
    "NO_PUBKEY": "signed by a key that is not in the keyring",
    "ERRSIG": "the signature can't be checked",
}


def split(inrelease: bytes) -> tuple[bytes, bytes]:
    """Return what is signed in a clearsigned message, and the armored signature; Error when it is not exactly that.

    As apt does: nothing may stand before or behind (RFC 9580, section 7, says how the text is escaped).
    """
    if not inrelease.startswith(_BEGIN):
        raise Error("does not begin with a signed message")
    head, gap, rest = inrelease.partition(b"\n\n")
    text, mark, armor = rest.partition(b"\n" + _SIGNATURE)
    if not gap or not mark or _END not in armor:
        raise Error("the signature is cut off")
    armor, end, behind = armor.partition(_END)
    if behind.strip():
        raise Error("there is something behind the signature")
    if any(not line.startswith(b"Hash: ") for line in head.splitlines()[1:]):
        raise Error("an unknown header stands before the signed text")
    return re.sub(rb"^- ", b"", text, flags=re.M), _SIGNATURE + armor + end + b"\n"


@dataclass(frozen=True)
class Verdict:
    """What gpgv and sqv make of a signature: who signed, and what each finds wrong; nothing when all is well."""

    signers: tuple[str, ...] = ()  # fingerprints of the primary keys whose signatures are good
    problems: tuple[str, ...] = ()


def check(data: bytes, signature: bytes, keyring: Path) -> Verdict:
    """Judge the detached ``signature`` of ``data``: as for apt, one good one by a key of the binary ``keyring`` is enough."""
    with tempfile.TemporaryDirectory(prefix="ossi-") as name:
        directory = Path(name)
        (directory / "data").write_bytes(data)
        (directory / "signature").write_bytes(signature)
        signers, problems = _gpgv(directory, keyring.absolute())
        return Verdict(tuple(signers), (*problems, *_sqv(directory, keyring.absolute())))


def _gpgv(directory: Path, keyring: Path) -> tuple[list[str], list[str]]:
    argv: list[str | Path] = ["gpgv", "--homedir", directory, "--status-fd", "1", "--keyring", keyring]
    _, said, _ = status([*argv, directory / "signature", directory / "data"], timeout=_TIMEOUT)
    words = [line.split()[1:] for line in said.decode("utf-8", "replace").splitlines() if line.startswith("[GNUPG:]")]
    kinds = {each[0] for each in words}
    valid = [each for each in words if each[0] == "VALIDSIG"]
    # Digests that apt 2.6 refuses whatever gpgv says of them (RFC 9580, section 9.5): MD5, SHA1, RIPEMD-160.
    if any(each[8] in ("1", "2", "3") for each in valid):
        return [], ["gpgv: the signature has a weak digest (MD5, SHA1 or RIPEMD-160)"]
    if "GOODSIG" in kinds and "BADSIG" not in kinds:
        return [each[-1] for each in valid], []
    return [], [f"gpgv: {next((text for kind, text in _PROBLEMS.items() if kind in kinds), 'no signature')}"]


def _sqv(directory: Path, keyring: Path) -> list[str]:
    if find("sqv") is None:
        return []
    argv: list[str | Path] = ["sqv", "--keyring", keyring, directory / "signature", directory / "data"]
    code, _, err = status(argv, timeout=_TIMEOUT)
    if code == 0:
        return []
    # The first line says what was done, the ones behind it why that failed.
    said = textwrap.shorten(err.decode("utf-8", "replace"), 200, placeholder=" …")
    return [f"sqv: {said or f'exit status {code}'}"]
