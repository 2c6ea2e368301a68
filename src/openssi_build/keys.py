"""`inv keys`: the keys that sign the repository: which there are, making, exporting and rotating them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from openssi import config, files
from openssi.errors import Error
from openssi_build import apt, policy, signing
from openssi_build.archive import KEYRING
from openssi_build.settings import Settings, Signing
from openssi_build.signing import Home, Key, Signer

# What apt's policy takes for years to come, and gpg makes.
ALGORITHMS = ("ed25519", "nistp256", "nistp384", "nistp521", "rsa3072", "rsa4096")
_HOME = Path("out/keys/gnupg")
_DAY = 86400

Say = Callable[[str], None]


def expiring(keys: Sequence[Key], warn_days: int, now: float | None = None) -> list[str]:
    """Return a warning for each key that can't sign in ``warn_days`` from now any more."""
    now = time.time() if now is None else now
    return [
        f"{key.fingerprint} expires on {signing.day(key.expires)}, in {(key.expires - now) / _DAY:.0f} days: inv keys rotate"
        for key in keys
        if key.expires is not None and key.expires < now + warn_days * _DAY
    ]


def check(signer: Signer, settings: Settings, cache: Path) -> list[str]:
    """Return warnings about the keys of ``signer``; Error when apt refuses one of them, now or within a year."""
    for fingerprint, reason in policy.refusals(signer, cache, apt.mirror(settings.repository)).items():
        raise Error(f"{fingerprint}: {reason}", hint="inv keys make, or inv keys rotate, makes a key that it takes")
    return expiring(signer.keys(), settings.signing.warn_days)


def show(root: Path, cache: Path, settings: Settings, say: Say = print) -> None:
    """Print the keys that sign and those that clients get besides, what apt thinks of them, and when they expire."""
    with signing.signer(settings.signing, root) as signer:
        refused = policy.refusals(signer, cache, apt.mirror(settings.repository))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("key", "of", "algorithm", "made", "expires", "use", "apt"):
            table.add_column(column, no_wrap=column == "key")
        for key in signer.every():
            signs = key.fingerprint in signer.fingerprints
            table.add_row(
                key.fingerprint, key.user_id, key.algorithm, signing.day(key.created),
                signing.day(key.expires) if key.expires else "never", "signs" if signs else "carried",
                refused.get(key.fingerprint, "takes it") if signs else "",
            )  # fmt: skip
        Console(width=max(Console().width, 140)).print(table)
        for warning in expiring(signer.keys(), settings.signing.warn_days):
            say(f"warning: {warning}")
    if signing.is_development(settings.signing):
        say("warning: this is the development key of this checkout; inv keys make makes one to publish with")


def make(root: Path, settings: Settings, *, name: str = "", expires: str = "3y", algorithm: str = "ed25519") -> str:
    """Make a signing key and let it be the one that signs (``[signing]`` of openssi.toml); return its fingerprint.

    ``name`` is its user ID, by default that of the repository. Error when keys are set already: those are rotated.
    """
    if settings.signing.keys:
        raise Error("[signing] keys: there are keys already", hint="inv keys rotate adds one and retires the old")
    where = settings.signing.home or _HOME
    made = _generate(root, settings, root / where.expanduser(), name or _name(settings), expires, algorithm)
    _write(root, (made,), where)
    return made


def _name(settings: Settings) -> str:
    return f"{settings.repository.label} archive key <archive@{settings.repository.label.lower()}.invalid>"


def _passphrase(settings: Signing) -> bytes:
    return os.environ.get(settings.passphrase_variable, "").encode()


def _generate(root: Path, settings: Settings, directory: Path, name: str, expires: str, algorithm: str) -> str:
    if algorithm not in ALGORITHMS:
        raise Error(f"{algorithm}: apt would not take it for long", hint=f"one of {', '.join(ALGORITHMS)}")
    if not re.fullmatch(r"0|never|[1-9][0-9]*[dwmy]?|[0-9]{4}-[0-9]{2}-[0-9]{2}", expires):
        raise Error(f"expires '{expires}': expected days, or a number with w, m or y, a date, or never")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Home(directory, agent=not directory.is_relative_to(root / "out")) as home:
        return home.generate(name, expires=expires, algorithm=algorithm, passphrase=_passphrase(settings.signing))


def export(root: Path, settings: Settings, output: str = "", *, secret: bool = False) -> Path:
    """Write the public keys that clients need, or with ``secret`` the secret keys that sign, and return where.

    Armored, unless the name ends in .gpg or .pgp; secret keys are as protected as in their keyring, mode 0600.
    """
    default = "signing-keys.asc" if secret else Path(KEYRING).with_suffix(".asc").name
    path = Path(output) if output else root / "out/keys" / default
    path.parent.mkdir(parents=True, exist_ok=True)
    with signing.signer(settings.signing, root) as signer:
        if secret:
            files.write(path, signer.secret_keys(), mode=0o600)
        else:
            files.write(path, signer.public_keys(armor=path.suffix not in (".gpg", ".pgp")))
    return path


def rotate(
    root: Path,
    settings: Settings,
    *,
    finish: bool = False,
    name: str = "",
    expires: str = "3y",
    algorithm: str = "ed25519",
) -> str:
    """Begin to replace the key that signs: a new one signs beside it; or ``finish``: the newest signs alone. Return what to do next.

    In between, apt of every client is content: it wants one good signature, and openssi-archive-keyring brings both keys.
    """
    keys = settings.signing.keys
    if not keys and os.environ.get(settings.signing.key_variable):
        return _rotate_variable(root, settings, finish, name, expires, algorithm)
    if not keys:
        raise Error("the development key is not rotated", hint="inv keys make makes one to publish with")
    home = signing.home_of(settings.signing, root)
    where = settings.signing.home
    if finish:
        if len(keys) < 2:
            raise Error("[signing] keys: one key signs: no rotation is under way", hint="inv keys rotate begins one")
        with signing.signer(settings.signing, root) as signer:
            carried = _retire(root, signer, keys[:-1])
        _write(root, keys[-1:], where, (*settings.signing.carry, *carried))
        return f"from the next publish on {keys[-1]} signs alone; {_RETIRED}"
    if len(keys) > 1:
        raise Error(f"[signing] keys: {len(keys)} keys sign: a rotation is under way", hint="inv keys rotate --finish")
    with signing.signer(settings.signing, root) as signer:
        user = name or signer.keys()[0].user_id
    made = _generate(root, settings, home, user, expires, algorithm)
    _write(root, (*keys, made), where)
    return f"{made} signs as well from the next publish on; {_LATER}"


_LATER = "when every client has the new openssi-archive-keyring: inv keys rotate --finish"


_RETIRED = "take what is added to [signing] carry out again when no snapshot is signed by it any more"


def _retire(root: Path, signer: Signer, fingerprints: Sequence[str]) -> list[str]:
    """Write the public keys ``fingerprints`` into the tree; return the files, below ``root``.

    Snapshots that they alone have signed are still there, and checked when the repository is fetched back.
    """
    directory = Path("packaging/keys")
    (root / directory).mkdir(parents=True, exist_ok=True)
    paths = {each: directory / f"{each}.gpg" for each in fingerprints}
    for fingerprint, path in paths.items():
        files.write_if_changed(root / path, signer.public_key(fingerprint))
    return [str(path) for path in paths.values()]


def _rotate_variable(root: Path, settings: Settings, finish: bool, name: str, expires: str, algorithm: str) -> str:
    """Rotate the keys of the environment variable: what is to be its new value goes into a file."""
    variable = settings.signing.key_variable
    path = root / "out/keys/rotated.asc"
    path.parent.mkdir(parents=True, exist_ok=True)
    with signing.signer(settings.signing, root) as signer:
        keys = sorted(signer.keys(), key=lambda key: key.created)
        if finish:
            if len(keys) < 2:
                raise Error(f"${variable}: one key signs: no rotation is under way", hint="inv keys rotate begins one")
            carried = _retire(root, signer, [key.fingerprint for key in keys[:-1]])
            _write(root, (), settings.signing.home, (*settings.signing.carry, *carried))
            files.write(path, signer.secret_keys([keys[-1].fingerprint]), mode=0o600)
            return f"{path}: make it ${variable}, then remove it; {keys[-1].fingerprint} signs alone from then on; {_RETIRED}"
        if len(keys) > 1:
            raise Error(f"${variable}: {len(keys)} keys sign: a rotation is under way", hint="inv keys rotate --finish")
        with Home() as home:
            passphrase = _passphrase(settings.signing)
            user = name or keys[0].user_id
            made = home.generate(user, expires=expires, algorithm=algorithm, passphrase=passphrase)
            files.write(path, signer.secret_keys() + home.export_secret(made, passphrase=passphrase), mode=0o600)
    return f"{path}: make it ${variable}, then remove it; {made} signs as well from then on; {_LATER}"


def _write(root: Path, keys: Sequence[str], home: Path | None, carry: Sequence[str] | None = None) -> None:
    """Set ``keys``, ``home`` and ``carry`` of [signing] in openssi.toml, leaving all else as it is; Error when that can't be."""
    path = root / "openssi.toml"
    text = path.read_text() if path.exists() else ""
    lines = {"keys": _array(keys)}
    if home is not None:
        lines["home"] = f'"{home}"'
    if carry is not None:
        lines["carry"] = _array(carry)
    edited = text
    for key, value in lines.items():
        edited = set_value(edited, "signing", key, value)
    read = config.parse(edited, Settings, str(path)).signing
    if read.keys != tuple(keys) or read.home != home or (carry is not None and read.carry != tuple(carry)):
        wanted = "; ".join(f"{key} = {value}" for key, value in lines.items())
        raise Error(f"{path}: can't be edited; set in [signing]: {wanted}")
    files.write_if_changed(path, edited)


def _array(words: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


def set_value(text: str, table: str, key: str, value: str) -> str:
    """Return the TOML ``text`` with ``key`` of ``table`` set to ``value``; a line that has the key, even as a comment, is replaced."""
    text += "" if text.endswith("\n") or not text else "\n"
    head = re.search(rf"^\[{re.escape(table)}\][^\n]*(?:\n|$)", text, re.M)
    if not head:
        return f"{text.rstrip()}\n\n[{table}]\n{key} = {value}\n".lstrip()
    end = re.compile(r"^\[", re.M).search(text, head.end())
    body, rest = text[head.end() : end.start() if end else None], text[end.start() :] if end else ""
    line = re.compile(rf"^(?:# *)?{re.escape(key)} *= *(?:\[[^\]]*\]|\"[^\"\n]*\"|[^#\n]*?)([ \t]*#[^\n]*)?$", re.M)
    if line.search(body):
        body = line.sub(lambda match: f"{key} = {value}{match[1] or ''}", body, count=1)
    else:
        body = f"{key} = {value}\n{body}"
    return text[: head.end()] + body + rest
