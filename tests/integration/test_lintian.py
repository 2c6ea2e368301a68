"""What lintian says of our packages."""

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import needs

from openssi_build import archive, deb, settings, signing
from openssi_build.settings import Signing

pytestmark = pytest.mark.integration


def test_lintian_of_the_suite_has_nothing_to_say_of_our_packages(root: Path, cache: Path, tmp_path: Path) -> None:
    needs("mmdebstrap", "gpg")
    # As the shared repository of the tests is made, so that nothing is built a second time.
    repository = replace(settings.load(root).repository, valid_for_days=0)
    with signing.signer(Signing(key_variable="OPENSSI_NO_SUCH_KEY"), cache / "trial") as signer:
        generated = archive.generated(repository, signer.public_keys())
    made = deb.build(root, cache, repository.suite, generated, tmp_path / "build.log")
    (changes,) = made[0].parent.glob("*.changes")
    log = tmp_path / "lintian.log"
    try:
        deb.lint(cache, repository.suite, changes, log)
    finally:
        print(log.read_text() if log.exists() else "")
