"""A signer with a key of its own in a temporary home, for tests that need real signatures."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from pathlib import Path

from openssi import run
from openssi_build.repository import release


class GpgSigner:
    """Signs with an ed25519 key that never expires; it is made where ``home`` has none."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._gpg = ["gpg", "--homedir", str(home), "--batch", "--no-tty", "--pinentry-mode", "loopback"]
        self._gpg += ["--passphrase", "", "--digest-algo", "SHA512"]
        if (home / "pubring.kbx").exists():
            return
        atexit.register(
            run.status, ["gpgconf", "--homedir", home, "--kill", "all"]
        )  # the agent would go on for minutes
        born = ["--faked-system-time", "20200101T000000"]  # older than whatever it signs
        run.run([*self._gpg, *born, "--quick-generate-key", "Test <test@example.org>", "ed25519", "sign", "never"])

    @property
    def fingerprints(self) -> Sequence[str]:
        return release.fingerprints(self.public_keys())

    def clearsign(self, data: bytes, date: int) -> bytes:
        return run.output([*self._gpg, "--faked-system-time", f"{date}!", "--clearsign"], input=data)

    def detach(self, data: bytes, date: int) -> bytes:
        argv = [*self._gpg, "--faked-system-time", f"{date}!", "--armor", "--detach-sign"]
        return run.output(argv, input=data)

    def public_keys(self) -> bytes:
        return run.output([*self._gpg, "--export"])


class PlainSigner:
    """Signs nothing: for tests that look at what would be signed."""

    fingerprints: Sequence[str] = ()

    def clearsign(self, data: bytes, date: int) -> bytes:
        return data

    def detach(self, data: bytes, date: int) -> bytes:
        return b"signature\n"

    def public_keys(self) -> bytes:
        return b""
