"""The shell of the ready workflows, as GitHub and GitLab would run it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.vendor import yaml

GITHUB = ".github/workflows/ci.yml"
GITLAB = ".gitlab-ci.yml"


def load(path: Path) -> Any:
    """Return what a YAML file holds."""
    read: Callable[[str], Any] = yaml.safe_load
    return read(path.read_text())


def steps(root: Path) -> dict[str, list[str]]:
    """Return the shell of each job by ``FILE JOB``."""
    github, gitlab = load(root / GITHUB), load(root / GITLAB)
    found = {
        f"{GITHUB} {name}": [step["run"] for step in job["steps"] if "run" in step]
        for name, job in github["jobs"].items()
    }
    before = gitlab["default"]["before_script"]
    jobs: dict[str, Any] = {name: job for name, job in gitlab.items() if isinstance(job, dict) and "script" in job}
    return found | {f"{GITLAB} {name}": [*before, *job["script"]] for name, job in jobs.items()}
