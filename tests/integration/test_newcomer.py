"""README on a machine that has nothing but Debian and a clone: the packages and the venv come from nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checkout import clone
from conftest import needs

from openssi_build import chroot

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_clean_debian_becomes_able_by_the_first_command(suite: str, root: Path, cache: Path, tmp_path: Path) -> None:
    needs("mmdebstrap", "git")
    with chroot.Chroot(chroot.base(cache, suite)) as machine:
        machine.copy_in(clone(root, tmp_path / "openssi"), "/root/openssi")
        # How this machine reaches Python's index holds for the new one too.
        env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        if _AUTHORITIES.exists():
            machine.copy_in(_AUTHORITIES, "/root/authorities.crt")
            env["PIP_CERT"] = "/root/authorities.crt"
        log = tmp_path / "log"
        try:
            machine.run(["./inv", "--list"], cwd="/root/openssi", env=env, network=True, log_to=log, timeout=1800)
        except Exception:
            print(log.read_text(errors="replace")[-4000:])
            raise
        listed = log.read_text(errors="replace").partition("Available tasks:")[2]
        assert {"build-repo", "test", "lab", "publish", "doctor"} <= set(listed.split())
        # The second time nothing is installed: it works with no network.
        assert "build-repo" in machine.output(["./inv", "--list"], cwd="/root/openssi", timeout=300).decode()
        _, out, err = machine.status(["./inv", "doctor"], cwd="/root/openssi", network=True, timeout=300)
        states = {line.split()[1]: line.split()[0] for line in out.decode().splitlines()}
        # A chroot has no root filesystem of its own, which namespaces want; on a machine there is one.
        states.pop("namespaces")
        assert len(states) >= 7
        assert "problem" not in states.values(), out.decode() + err.decode()
