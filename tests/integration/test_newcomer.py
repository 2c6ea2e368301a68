"""README on a machine that has nothing but Debian and a clone: what it needs, what it builds, what it fetches come from nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import workflows
from checkout import clone
from conftest import needs

from openssi_build import chroot, verify
from openssi_build.verify import trees

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]
_TIMEOUT_S = 1800
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_both_commands_of_readme_work_on_a_clean_debian(suite: str, root: Path, cache: Path, tmp_path: Path) -> None:
    needs("mmdebstrap", "git")
    first, second = _commands(root)
    with chroot.Chroot(chroot.base(cache, suite)) as machine:
        machine.copy_in(clone(root, tmp_path / "openssi"), "/root/openssi")
        # How this machine reaches Python's index holds for the new one too.
        env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        if _AUTHORITIES.exists():
            machine.copy_in(_AUTHORITIES, "/root/authorities.crt")
            env["PIP_CERT"] = "/root/authorities.crt"
        log = tmp_path / "log"
        # What CI does before it calls ./inv.
        for line in workflows.load(root / workflows.GITLAB)["default"]["before_script"]:
            machine.run(
                ["sh", "-eu", "-c", line],
                env={"CI_PROJECT_DIR": "/root/openssi"},
                network=True,
                log_to=log,
                timeout=900,
            )

        def run(line: str, *, network: bool) -> str:
            log.unlink(missing_ok=True)
            try:
                machine.run(line.split(), cwd="/root/openssi", env=env, network=network, log_to=log, timeout=_TIMEOUT_S)
            except Exception:
                print(log.read_text(errors="replace")[-4000:])
                raise
            return log.read_text(errors="replace")

        said = run(first, network=True)
        assert "publish: snapshot 1 " in said
        assert "left out" not in said, said
        archive = machine.path / "root/openssi/out/repo"
        keyring = (archive / "openssi-archive-keyring.gpg").read_bytes()
        assert verify.check(trees.Directory(archive), "trixie", keyring).faults == []
        # The second time nothing is fetched: it works with no network.
        assert "snapshot 1," in run(first, network=False)
        # The whole of it would call this test again.
        assert re.search(r"\d+ passed", run(f"{second} --only unit", network=False))
        _, out, err = machine.status(["./inv", "doctor"], cwd="/root/openssi", network=True, timeout=300)
        states = {line.split()[1]: line.split()[0] for line in out.decode().splitlines()}
        assert len(states) >= 8
        assert "problem" not in states.values(), out.decode() + err.decode()


def _commands(root: Path) -> tuple[str, str]:
    """Return README's two commands."""
    lines = re.findall(r"^    (\./inv \S+) +#", (root / "README.md").read_text(), re.MULTILINE)
    assert lines[:2] == ["./inv build-repo", "./inv test"]
    return lines[0], lines[1]
