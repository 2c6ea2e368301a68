"""What apt's signature policy says of signing keys, today and in a year: sqv is asked, by the policy that apt has."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from openssi import files
from openssi.run import find, output, status
from openssi_build import apt, chroot
from openssi_build.signing import Signer

# The Debian whose apt has the strictest policy: sqv with --policy-as-of, and a file of apt's own.
SUITE = "trixie"
_POLICIES = ("etc/crypto-policies/back-ends/apt-sequoia.config", "usr/share/apt/default-sequoia.config")
_YEAR = 365 * 86400
_WEEK = 7 * 86400
_TIMEOUT = 120
_PROBE = b"Is this key fit to sign a repository?\n"


def refusals(signer: Signer, cache: Path, mirror: apt.Mirror | None = None) -> dict[str, str]:
    """Return why apt refuses a signature by each key of ``signer``, now or within a year, by fingerprint; empty when it takes all.

    The answer is kept for a week: it takes a chroot where this machine has no such sqv.
    """
    now = time.time()
    name = hashlib.sha256(json.dumps([sorted(signer.fingerprints), signer.public_keys().hex()]).encode()).hexdigest()
    kept = cache / "policy" / f"{name[:32]}.json"
    try:
        if now - kept.stat().st_mtime < _WEEK:
            return dict(json.loads(kept.read_bytes()))
    except (OSError, ValueError):
        pass
    found = _ask(signer, cache, mirror, now)
    kept.parent.mkdir(parents=True, exist_ok=True)
    files.write(kept, json.dumps(found))
    return found


def _ask(signer: Signer, cache: Path, mirror: apt.Mirror | None, now: float) -> dict[str, str]:
    probe: dict[str, bytes] = {"data": _PROBE, "signature": signer.detach(_PROBE, int(now))}
    probe |= {f"{each}.gpg": signer.public_key(each) for each in signer.fingerprints}
    if _host_can():
        with tempfile.TemporaryDirectory(prefix="ossi-") as directory:
            return _verdicts(Path("/"), Path(directory), probe, now, None)
    with chroot.Chroot(chroot.base(cache, SUITE, mirror=mirror)) as session:
        place = session.path / "srv/probe"
        place.mkdir(parents=True)
        return _verdicts(session.path, place, probe, now, session)


def _host_can() -> bool:
    return (
        find("sqv") is not None
        and any((Path("/") / each).exists() for each in _POLICIES)
        and b"--policy-as-of" in output(["sqv", "--help"], timeout=_TIMEOUT)
    )


def _verdicts(
    top: Path, place: Path, probe: Mapping[str, bytes], now: float, session: chroot.Chroot | None
) -> dict[str, str]:
    """Ask sqv below ``top`` (this machine, or a chroot) about the files of ``probe``, which are put into ``place``."""
    for name, content in probe.items():
        (place / name).write_bytes(content)
    inside = place if session is None else Path("/") / place.relative_to(top)
    policy = next((f"/{each}" for each in _POLICIES if (top / each).exists()), "")
    env = {"SEQUOIA_CRYPTO_POLICY": policy} if policy else {}
    ask = session.status if session else status
    found: dict[str, str] = {}
    for fingerprint in sorted(name.removesuffix(".gpg") for name in probe if name.endswith(".gpg")):
        for when, words in ((now, "now"), (now + _YEAR, "within a year")):
            argv = ["sqv", "--keyring", str(inside / f"{fingerprint}.gpg")]
            argv += ["--policy-as-of", time.strftime("%F", time.gmtime(when))]
            code, _, err = ask([*argv, str(inside / "signature"), str(inside / "data")], env=env, timeout=_TIMEOUT)
            if code != 0:
                found[fingerprint] = f"apt refuses it {words}: {_reason(err.decode('utf-8', 'replace'))}"
                break
    return found


def _reason(err: str) -> str:
    """Return what says most in sqv's complaint: the innermost cause, else its first line about this key."""
    lines = [line.strip() for line in err.splitlines()]
    causes = [line.removeprefix("because: ") for line in lines if line.startswith("because: ")]
    others = [line for line in lines if line and not line.startswith("Missing key ")]
    return (causes or others or ["no reason given"])[-1 if causes else 0]
