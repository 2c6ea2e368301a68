"""The ready workflows of GitHub and GitLab: valid by the publishers' schemas, and their shell is shell."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from conftest import needs
from workflows import GITHUB, GITLAB, load, steps

from openssi import run


@pytest.mark.parametrize(
    "words",
    [
        ["--builtin-schema", "vendor.github-workflows", GITHUB],
        ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", GITLAB],
    ],
)
def test_the_workflows_fit_their_schemas(root: Path, words: list[str]) -> None:
    run.run([sys.executable, "-m", "check_jsonschema", *words], cwd=root)


def test_the_workflow_gives_an_attacker_nothing_to_use(root: Path) -> None:
    run.run(
        [Path(sys.executable).with_name("zizmor"), "--offline", "--quiet", "--config", ".github/zizmor.yml", GITHUB],
        cwd=root,
    )


def test_what_is_signed_comes_from_no_cache(root: Path) -> None:
    github, gitlab = load(root / GITHUB), load(root / GITLAB)
    assert not any("cache" in step.get("uses", "") for step in github["jobs"]["publish"]["steps"])
    assert gitlab["publish"]["cache"] == []


def test_both_test_build_and_publish_by_the_same_commands(root: Path) -> None:
    jobs = steps(root)
    for job, command in (("test", ".ci/run"), ("build", "./inv build-repo --strict"), ("publish", ".ci/publish site")):
        assert jobs[f"{GITHUB} {job}"][-1] == jobs[f"{GITLAB} {job}"][-1] == command


def test_their_shell_passes_shellcheck_and_runs_what_is_there(root: Path) -> None:
    needs("shellcheck")
    for job, scripts in steps(root).items():
        script = "\n".join(["#!/bin/sh", "set -eu", *scripts, ""])
        code, out, _ = run.status(["shellcheck", "--shell=sh", "-"], input=script.encode())
        assert code == 0, f"{job}: {out.decode()}"
        for program in re.findall(r"(?:^|\s)(\.?\.?/?(?:\.ci/\w+|inv))\b", script):
            assert os.access(root / program, os.X_OK), f"{job}: {program}"
    scripts = [script for job in steps(root).values() for script in job]
    tasks = set(re.findall(r"\./inv ([a-z-]+)", "\n".join(scripts) + (root / ".ci/publish").read_text()))
    known = (root / "tasks.py").read_text()
    assert {task for task in tasks if f"def {task.replace('-', '_')}(" not in known} == set()


@pytest.mark.parametrize(
    ("environment", "words", "said"),
    [
        ({}, [], "usage: .ci/publish TARGET"),
        ({}, ["site"], "error: OPENSSI_SIGNING_KEY is empty"),
        ({"OPENSSI_SIGNING_KEY": "x", "CI_COMMIT_TAG": "v0.1"}, ["site"], "error: tag v0.1, but debian/changelog has "),
    ],
)
def test_publishing_refuses_before_it_builds(
    root: Path, environment: dict[str, str], words: list[str], said: str
) -> None:
    code, _, err = run.status([root / ".ci/publish", *words], env=environment)
    assert code != 0
    assert err.decode().startswith(said)
