from __future__ import annotations

from pathlib import Path

import pytest

from openssi.errors import Error
from openssi_build import signing
from openssi_build.settings import Signing

pytestmark = pytest.mark.integration

DATE = 1_800_000_000
RELEASE = b"Origin: OpenSSI\nSuite: trixie\n"


def _armored(home: signing.Home, name: str) -> tuple[str, bytes]:
    fingerprint = home.generate(f"{name} <{name}@example.org>", expires="0", date=1_700_000_000)
    return fingerprint, home.export_secret(fingerprint)


def test_the_development_key_signs_and_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    signed = []
    for _ in range(2):
        with signing.signer(Signing(), tmp_path) as signer:
            signed.append((signer.clearsign(RELEASE, DATE), signer.detach(RELEASE, DATE), signer.public_keys()))
    assert signed[0] == signed[1]
    for name, content in zip(("InRelease", "Release.gpg", "keyring.gpg"), signed[0], strict=True):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "Release").write_bytes(RELEASE)
    signing.check_signature(tmp_path / "InRelease", tmp_path / "keyring.gpg")
    signing.check_signature(tmp_path / "Release", tmp_path / "keyring.gpg", tmp_path / "Release.gpg")
    (tmp_path / "Release").write_bytes(RELEASE + b" ")
    with pytest.raises(Error, match="BAD signature"):
        signing.check_signature(tmp_path / "Release", tmp_path / "keyring.gpg", tmp_path / "Release.gpg")
    assert (tmp_path / "out/keys/development.asc").stat().st_mode & 0o777 == 0o600


def test_keys_of_the_variable_sign_together_and_each_satisfies_its_own_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with signing.Home() as home:
        old, old_secret = _armored(home, "old")
        new, new_secret = _armored(home, "new")
        (tmp_path / "old.gpg").write_bytes(home.export([old]))
        (tmp_path / "new.gpg").write_bytes(home.export([new]))
    monkeypatch.setenv("OPENSSI_SIGNING_KEY", (old_secret + new_secret).decode())
    with signing.signer(Signing(), tmp_path) as signer:
        assert set(signer.fingerprints) == {old, new}
        (tmp_path / "InRelease").write_bytes(signer.clearsign(RELEASE, DATE))
        (tmp_path / "both.gpg").write_bytes(signer.public_keys())
    for keyring in ("both.gpg", "old.gpg", "new.gpg"):
        signing.check_signature(tmp_path / "InRelease", tmp_path / keyring)
    with signing.Home() as home:
        (tmp_path / "other.gpg").write_bytes(home.export([_armored(home, "other")[0]]))
    with pytest.raises(Error, match="InRelease: "):
        signing.check_signature(tmp_path / "InRelease", tmp_path / "other.gpg")
    assert not (tmp_path / "out").exists()


def test_a_key_by_fingerprint_signs_from_its_own_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with signing.Home() as home:
        fingerprint, _ = _armored(home, "release")
        with signing.signer(Signing(keys=(fingerprint,), home=home.path), tmp_path) as signer:
            assert b"BEGIN PGP SIGNED MESSAGE" in signer.clearsign(RELEASE, DATE)
        assert home.path.exists(), "the user's keyring stays"
        missing = "0" * 40
        with pytest.raises(Error, match=f"no secret key {missing}"):
            signing.signer(Signing(keys=(missing,), home=home.path), tmp_path)


def test_a_variable_without_a_key_is_an_error_that_does_not_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSSI_SIGNING_KEY", "hunter2")
    with pytest.raises(Error, match="OPENSSI_SIGNING_KEY") as caught:
        signing.signer(Signing(), tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_carried_key_reaches_clients_without_signing(tmp_path: Path) -> None:
    with signing.Home() as home:
        old, _ = _armored(home, "old")
        older, _ = _armored(home, "older")
        (tmp_path / "old.asc").write_bytes(home.export([old], armor=True))
        (tmp_path / "older.gpg").write_bytes(home.export([older]))
    with signing.signer(Signing(carry=("old.asc", "older.gpg")), tmp_path) as signer:
        assert signer.carried == (old, older)
        keyring = signer.public_keys()
    with signing.Home() as home:
        home.receive(keyring, "keyring")
        assert {old, older} < {key.fingerprint for key in home.listing()}
    with pytest.raises(Error, match=r"^\[signing\] carry: gone.asc: No such file or directory$"):
        signing.signer(Signing(carry=("gone.asc",)), tmp_path)


def test_nothing_of_a_short_lived_keyring_is_left_behind() -> None:
    with signing.Home() as home:
        _armored(home, "x")
        path = home.path
    assert not path.exists()
