"""The tasks of `./inv`: each parses its flags and calls one function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.tasks import task as invoke_task

ROOT = Path(__file__).resolve().parent
OUT = ROOT / "out"
sys.path.insert(0, str(ROOT / "src"))


def task(**options: Any) -> Callable[[Callable[..., None]], Any]:
    """Like invoke's task, but an Error becomes one line on stderr and exit status 1."""

    def decorate(body: Callable[..., None]) -> Any:
        @wraps(body)
        def guarded(*arguments: Any, **flags: Any) -> None:
            from openssi.errors import Error

            try:
                body(*arguments, **flags)
            except Error as problem:
                print(f"error: {problem}", file=sys.stderr)
                sys.exit(1)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(130)

        return invoke_task(guarded, **options)

    return decorate


@task()
def lint(_: Context) -> None:
    """Check the code: ruff, mypy --strict, shellcheck, the words of the tree."""
    from openssi_build import checks

    checks.lint(ROOT)


@task(help={"only": "unit, integration or boot", "match": "only tests whose name matches (pytest -k)"})
def test(_: Context, only: str = "", match: str = "") -> None:
    """Run lint and all tests: unit, integration, boot (under 40 minutes on 2 cores)."""
    from openssi_build import checks

    checks.test(ROOT, only=only, match=match)


@task(help={"strict": "fail when a derived package can't be built, instead of leaving it out"})
def build_repo(_: Context, strict: bool = False) -> None:
    """Build all packages and publish them, signed, in out/repo (10 minutes; seconds when nothing changed)."""
    from openssi_build import build, caches, settings

    build.build_repository(ROOT, caches.cache_directory(ROOT), settings.load(ROOT), strict=strict)


@task(help={"strict": "fail at the first package that can't be built"})
def derived(_: Context, strict: bool = False) -> None:
    """Build Debian's packages that we patch (procps), from source, in a clean chroot."""
    from openssi_build import caches, settings
    from openssi_build.derived import build_all

    repository = settings.load(ROOT).repository
    made = build_all(ROOT, caches.cache_directory(ROOT), suite=repository.suite, strict=strict, say=print)
    for line in [*map(str, made.files), *(f"warning: {problem}" for problem in made.problems)]:
        print(line)


@task()
def docs(_: Context) -> None:
    """Make the documents in out/docs: HTML, PDF, text and manual pages (half a minute)."""
    from openssi_build import documents, settings
    from openssi_build.caches import cache_directory

    suite = settings.load(ROOT).repository.suite
    made = documents.build(ROOT, cache_directory(ROOT), suite, OUT / "docs", OUT / "log/docs.log")
    print(f"out/docs: {len(made)} files")


@task(help={"name": "of kernels/NAME.toml", "version": "that one instead of the newest"})
def qualify(_: Context, name: str = "trixie-amd64", version: str = "") -> None:
    """Move the kernel that the repository holds to the newest of the mirror."""
    from openssi_build import caches, kernels

    before, now = kernels.qualify(ROOT, caches.cache_directory(ROOT), name, version=version or None)
    changed = "as it was" if before == now else f"before: {before.version}" if before else "the first"
    print(f"{name}: {now.package} {now.version} with {now.image} ({changed}); inv build-repo publishes it")
