"""What `inv doctor` says of a machine that lacks something."""

from __future__ import annotations

from pathlib import Path

import pytest

from openssi.errors import Error
from openssi_build import doctor
from openssi_build.doctor import Finding


def test_an_old_python_is_a_problem() -> None:
    assert doctor.python((3, 9, 2)).state == "problem"
    assert doctor.python((3, 11, 0)).state == "ok"


def test_missing_packages_are_named_with_the_command_that_installs_them(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# a list\ndpkg      # is there\nno-such-package-a\nno-such-package-b # why\n")
    found = doctor.packages(tmp_path / "list")
    assert found.line() == (
        "problem  packages    missing: no-such-package-a no-such-package-b "
        "(apt install no-such-package-a no-such-package-b)"
    )
    (tmp_path / "list").write_text("dpkg\n")
    assert doctor.packages(tmp_path / "list").state == "ok"


def test_without_kvm_guests_are_slow_and_the_reason_is_told(tmp_path: Path) -> None:
    found = doctor.kvm(lambda: "tcg", tmp_path / "kvm")
    assert (found.state, found.said) == ("slow", f"no {tmp_path}/kvm: guests are emulated, about ten times slower")
    (tmp_path / "kvm").touch()
    assert "no guest runs under it" in doctor.kvm(lambda: "tcg", tmp_path / "kvm").said
    assert doctor.kvm(lambda: "kvm", tmp_path / "kvm").state == "ok"


def test_a_clock_behind_the_mirror_is_a_problem() -> None:
    date = "Sat, 06 Sep 2025 09:00:00 UTC"
    assert doctor.clock(date, 1757149200 + 1).state == "ok"
    found = doctor.clock(date, 1757149200 - 7200)
    assert (found.state, found.said) == ("problem", "2.0 hours behind the mirror")
    assert doctor.clock("yesterday", 0).state == "problem"


def test_little_room_is_a_problem_and_some_room_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_GB", 10**9)
    assert doctor.disk("out", tmp_path).state == "problem"
    monkeypatch.setattr(doctor, "_LEAST_GB", 0)
    monkeypatch.setattr(doctor, "_GOOD_GB", 10**9)
    assert doctor.disk("out", tmp_path).state == "slow"
    monkeypatch.setattr(doctor, "_GOOD_GB", 0)
    assert doctor.disk("out", tmp_path).state == "ok"


def test_a_problem_is_an_error_and_slow_is_none() -> None:
    lines: list[str] = []
    doctor.report(iter([Finding("a", "ok", "x"), Finding("b", "slow", "y", "do")]), lines.append)
    assert lines == ["ok       a           x", "slow     b           y (do)"]
    with pytest.raises(Error, match="doctor: 2 to repair: b, c"):
        doctor.report(iter([Finding("b", "problem", "y"), Finding("c", "problem", "z")]), lines.append)
