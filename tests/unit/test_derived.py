"""Derived packages: recipes, versions and build dependencies; building is tested with the chroot."""

from __future__ import annotations

from pathlib import Path

import pytest
from debian.debian_support import Version

from openssi.errors import Error
from openssi_build.derived import build_dependencies, derivations, derived_version


def recipe(root: Path, text: str, series: str | None = "a.patch\n") -> Path:
    directory = root / "packaging" / "derived" / "hello"
    (directory / "patches").mkdir(parents=True)
    (directory / "recipe.toml").write_text(text)
    (directory / "patches" / "a.patch").write_text("--- a/x\n")
    if series is not None:
        (directory / "patches" / "series").write_text(series)
    return root


@pytest.mark.parametrize("version", ["2:4.0.4-9", "1.0", "6.0-1+deb13u2", "1.0~rc1-1"])
def test_a_derived_version_sorts_below_debians_and_above_the_one_before(version: str) -> None:
    assert Version(derived_version(version, 1)) < Version(derived_version(version, 2)) < Version(version)


def test_every_recipe_of_the_tree_is_in_order(root: Path) -> None:
    assert [each.name for each in derivations(root)] == ["procps"]


def test_a_series_may_have_comments(tmp_path: Path) -> None:
    recipe(tmp_path, 'revision = 1\nchange = "c"\n', "# why\n\na.patch # first\n")
    assert [patch.name for patch in derivations(tmp_path)[0].patches] == ["a.patch"]


@pytest.mark.parametrize(
    ("text", "series", "error"),
    [
        ('revision = 0\nchange = "c"', "a.patch", "key 'revision': expected 1 or more, got 0"),
        ('revision = 1\nchange = "a\\nb"', "a.patch", "key 'change': expected one line of text"),
        ('revision = 1\nchange = "c"\npatchs = []', "a.patch", "unknown key 'patchs'"),
        ('revision = 1\nchange = "c"', None, "series: no such file"),
        ('revision = 1\nchange = "c"', "b.patch", "b.patch: no such patch"),
        ('revision = 1\nchange = "c"', "#\n", "names no patch"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(tmp_path: Path, text: str, series: str | None, error: str) -> None:
    recipe(tmp_path, text, series)
    with pytest.raises(Error) as caught:
        derivations(tmp_path)
    assert error in str(caught.value)
    assert "packaging/derived/hello/" in str(caught.value)


def test_build_dependencies_follow_architecture_profile_and_alternative() -> None:
    field = (
        "debhelper-compat (= 13), libnuma-dev [amd64 i386], libkvm-dev [kfreebsd-any], libsystemd-dev [linux-any], "
        "dejagnu <!nocheck>, doxygen <!nodoc !stage1>, cross <stage1>, a [!amd64] | b (>= 2) | c, gcc:native"
    )
    assert build_dependencies(field, "amd64", ["nocheck"]) == [
        "b", "debhelper", "doxygen", "gcc", "libnuma-dev", "libsystemd-dev",
    ]  # fmt: skip
    assert "dejagnu" in build_dependencies(field, "arm64")
    assert "libnuma-dev" not in build_dependencies(field, "arm64")
    assert build_dependencies("", "amd64") == []
