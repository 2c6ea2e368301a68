"""What all tests share: the order of the suites, and that CI skips nothing for a missing tool."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from openssi import run

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("openssi", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("openssi")

ROOT = Path(__file__).resolve().parent.parent
_ORDER = {"unit": 0, "integration": 1, "boot": 2}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what is cheap first."""
    items.sort(key=lambda item: _ORDER.get(item.path.relative_to(ROOT / "tests").parts[0], 0))


def needs(*programs: str) -> None:
    """Skip the calling test when a program is missing, naming it; in CI fail instead."""
    lacking = [program for program in programs if run.find(program) is None]
    if not lacking:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI lacks {', '.join(lacking)}: add the package to packaging/build-deps")
    pytest.skip(f"needs {', '.join(lacking)}")


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def cache() -> Path:
    """The cache that the tasks use too: downloads, chroots and images by content."""
    from openssi_build.caches import cache_directory

    return cache_directory(ROOT)


@pytest.fixture(scope="session")
def built_repo(root: Path, cache: Path) -> Path:
    """The repository that `inv build-repo` makes of this tree, all packages and the kernel in it, kept by content.

    It is signed by a key of the tests; the keyring lies at its top. It does not expire and must not be written to.
    """
    needs("mmdebstrap", "gpg")
    from openssi_build import build, settings

    return build.repository_by_content(root, cache, settings.load(root))
