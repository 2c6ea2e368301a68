"""`inv doctor` where the machine really lacks something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import needs

from openssi_build import doctor, settings

pytestmark = pytest.mark.integration


def test_an_unreachable_mirror_is_a_problem_with_its_address() -> None:
    unreachable = settings.Settings(repository=settings.Repository(mirror="http://127.0.0.1:9/debian"))
    (found,) = doctor.mirror(unreachable)
    assert (found.check, found.state) == ("mirror", "problem")
    assert found.said.startswith("http://127.0.0.1:9/debian/dists/trixie/InRelease: ")


def test_a_signing_key_that_is_not_there_is_a_problem(tmp_path: Path, root: Path) -> None:
    needs("gpg")
    signing = replace(settings.Signing(), keys=("0" * 40,), home=tmp_path)
    found = doctor.gpg(settings.Settings(signing=signing), root)
    assert (found.state, found.said) == ("problem", f"{tmp_path}: no secret key {'0' * 40}")
    assert doctor.gpg(settings.Settings(), root).state == "ok"


def test_this_machine_is_fit_for_chroots() -> None:
    needs("unshare")
    assert doctor.namespaces().state == "ok"
