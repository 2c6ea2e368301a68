"""`inv keys`: making, exporting and rotating keys that apt takes, and refusing those that it does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aptvariants import Keys
from conftest import needs

from openssi import run
from openssi.errors import Error
from openssi_build import keys, policy, settings, signing
from openssi_build.settings import Settings, Signing

pytestmark = pytest.mark.integration
RELEASE = b"Origin: OpenSSI\nSuite: trixie\n"


@pytest.fixture
def tree(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with the settings as they are shipped, under a path that gpg-agent's socket fits into."""
    needs("gpg")
    for name in ("OPENSSI_SIGNING_KEY", "OPENSSI_SIGNING_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    with signing.Home() as home:
        tree = home.path / "t"
        tree.mkdir()
        (tree / "openssi.toml").write_bytes((root / "openssi.toml").read_bytes())
        yield tree


def read(tree: Path) -> Settings:
    return settings.load(tree)


def signers(tree: Path) -> tuple[str, ...]:
    with signing.signer(read(tree).signing, tree) as signer:
        (tree / "InRelease").write_bytes(signer.clearsign(RELEASE, int(time.time())))
        (tree / "keyring.gpg").write_bytes(signer.public_keys())
        return signer.fingerprints


def test_a_rotation_goes_from_the_old_key_by_both_to_the_new(tree: Path) -> None:
    before = (tree / "openssi.toml").read_text()
    old = keys.make(tree, read(tree), expires="5y")
    assert signers(tree) == (old,)
    told = keys.rotate(tree, read(tree), algorithm="rsa3072", expires="never")
    assert "inv keys rotate --finish" in told
    assert len(signers(tree)) == 2
    assert signers(tree)[0] == old
    (tree / "both").write_bytes((tree / "InRelease").read_bytes())
    with pytest.raises(Error, match="a rotation is under way"):
        keys.rotate(tree, read(tree))
    keys.rotate(tree, read(tree), finish=True)
    (new,) = signers(tree)
    assert new != old
    # The old key signs no more, but clients and `inv pull` still know it.
    assert read(tree).signing.carry == (f"packaging/keys/{old}.gpg",)
    for name in ("InRelease", "both"):
        signing.check_signature(tree / name, tree / "keyring.gpg")
    with pytest.raises(Error, match="InRelease: "):
        signing.check_signature(tree / "InRelease", tree / f"packaging/keys/{old}.gpg")
    signing.check_signature(tree / "both", tree / f"packaging/keys/{old}.gpg")
    with pytest.raises(Error, match="no rotation is under way"):
        keys.rotate(tree, read(tree), finish=True)
    with pytest.raises(Error, match="there are keys already"):
        keys.make(tree, read(tree))
    # Nothing but three lines of the table has changed.
    lines = zip(before.splitlines(), (tree / "openssi.toml").read_text().splitlines(), strict=True)
    assert [one.split()[:2] for one, other in lines if one != other] == [["keys", "="], ["#", "home"], ["carry", "="]]
    assert (tree / "out/keys/gnupg").stat().st_mode & 0o777 == 0o700


def test_the_keys_of_a_ci_secret_are_rotated_by_a_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with signing.Home() as home:
        old = home.generate("CI <ci@example.org>", expires="0", date=1_700_000_000)
        monkeypatch.setenv("OPENSSI_SIGNING_KEY", home.export_secret(old).decode())
    told = keys.rotate(tree, read(tree))
    secret = tree / "out/keys/rotated.asc"
    assert str(secret) in told
    assert secret.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("OPENSSI_SIGNING_KEY", secret.read_text())
    both = signers(tree)
    assert len(both) == 2
    assert old in both
    keys.rotate(tree, read(tree), finish=True)
    assert read(tree).signing == Signing(carry=(f"packaging/keys/{old}.gpg",))
    monkeypatch.setenv("OPENSSI_SIGNING_KEY", secret.read_text())
    assert set(signers(tree)) == set(both) - {old}
    assert not (tree / "out/keys/gnupg").exists()


def test_keys_are_exported_public_for_clients_and_secret_for_ci(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = keys.make(tree, read(tree))
    armored = keys.export(tree, read(tree))
    binary = keys.export(tree, read(tree), str(tree / "some.gpg"))
    secret = keys.export(tree, read(tree), secret=True)
    assert armored.read_bytes().startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")
    assert secret.stat().st_mode & 0o777 == 0o600
    with signing.Home() as home:
        assert home.receive(armored.read_bytes(), "armored") == home.receive(binary.read_bytes(), "binary") == [made]
        assert home.listing(secret=True) == []
    (tree / "openssi.toml").write_text("")
    monkeypatch.setenv("OPENSSI_SIGNING_KEY", secret.read_text())
    assert signers(tree) == (made,)


def test_a_passphrase_protects_what_is_made_and_exported(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSSI_SIGNING_PASSPHRASE", "correct horse")
    made = keys.make(tree, read(tree))
    assert signers(tree) == (made,)
    secret = keys.export(tree, read(tree), secret=True).read_text()
    (tree / "openssi.toml").write_text("")
    monkeypatch.setenv("OPENSSI_SIGNING_KEY", secret)
    assert signers(tree) == (made,)
    monkeypatch.setenv("OPENSSI_SIGNING_PASSPHRASE", "wrong horse")
    with pytest.raises(Error, match=made) as caught:
        signers(tree)
    assert "horse" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"algorithm": "dsa2048"}, "dsa2048: apt would not take it for long"),
        ({"algorithm": "rsa1024"}, "rsa1024: apt would not take it for long"),
        ({"expires": "soon"}, "expires 'soon': expected"),
    ],
)
def test_a_key_that_would_not_last_is_not_made(tree: Path, words: dict[str, str], error: str) -> None:
    with pytest.raises(Error, match=error):
        keys.make(tree, read(tree), **words)
    assert not (tree / "out").exists()


def test_an_expired_key_signs_no_more_even_for_the_past(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with signing.Home() as home:
        made = home.generate("Old <old@example.org>", expires="10d", date=1_700_000_000)
        monkeypatch.setenv("OPENSSI_SIGNING_KEY", home.export_secret(made).decode())
        (tree / "keyring.gpg").write_bytes(home.export([made]))
        signer = signing.Signer(home, [made])
        (tree / "InRelease").write_bytes(signer.clearsign(RELEASE, 1_700_000_100))
    with pytest.raises(Error, match=rf"{made}: the key expired on 2023-11-24 \(inv keys rotate\)"):
        signers(tree)
    # What it signed in its time is another matter: old snapshots are not thrown away for it.
    with pytest.raises(Error, match="InRelease"):
        signing.check_signature(tree / "InRelease", tree / "keyring.gpg")
    signing.check_signature(tree / "InRelease", tree / "keyring.gpg", expired=True)


def test_apt_of_trixie_is_asked_which_keys_it_takes(cache: Path, tmp_path: Path) -> None:
    needs("gpg", "mmdebstrap")
    # The chroots are the cache's; the answers are not to come from an earlier run.
    fresh = tmp_path / "cache"
    fresh.mkdir()
    (fresh / "chroots").symlink_to(cache / "chroots")
    with signing.Home() as home:
        made = Keys(home)
        good, bad = ("ed25519", "rsa4096", "subkey"), {"sha1-bound": "SHA1", "rsa1024": "RSA1024", "dsa2048": "DSA2048"}
        signer = signing.Signer(home, [made(kind) for kind in (*good, *bad)])
        found = policy.refusals(signer, fresh)
        assert set(found) == {made(kind) for kind in bad}
        for kind, why in bad.items():
            assert found[made(kind)].startswith(f"apt refuses it now: {why} is not considered secure since")
        assert policy.refusals(signer, fresh) == found
        with pytest.raises(Error, match=r"apt refuses it now: .* \(inv keys make"):
            keys.check(signer, Settings(), fresh)
        assert keys.check(signing.Signer(home, [made("ed25519")]), Settings(), fresh) == []


def test_the_list_says_who_signs_until_when_and_what_apt_thinks(
    tree: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs("mmdebstrap")
    made = keys.make(tree, read(tree), name="Us <us@example.org>", expires="60d")
    said: list[str] = []
    keys.show(tree, cache, read(tree), said.append)
    (row,) = (line for line in capsys.readouterr().out.splitlines() if made in line)
    assert row.split()[-3:] == ["signs", "takes", "it"]
    assert "<us@example.org>" in row
    (warning,) = said
    assert warning.startswith(f"warning: {made} expires on ")


def test_nothing_secret_is_in_the_arguments_of_gpg(
    tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENSSI_SIGNING_PASSPHRASE", "correct horse")
    caplog.set_level("DEBUG", logger=run.log.name)
    keys.make(tree, read(tree))
    signers(tree)
    keys.export(tree, read(tree), secret=True)
    assert "gpg" in caplog.text
    assert "horse" not in caplog.text
    assert "correct horse" not in run.environment().values()
