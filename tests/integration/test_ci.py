"""The workflows' jobs that build and publish, run step by step as shell in a clean clone."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import workflows
from checkout import clone
from conftest import needs
from gpgsigner import GpgSigner
from publishing import object_server, ssh_server, web_server

from openssi import run
from openssi_build import deb

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    ("workflow", "tag_variable", "kind"),
    [(workflows.GITHUB, "GITHUB_REF_NAME", "ssh"), (workflows.GITLAB, "CI_COMMIT_TAG", "s3")],
)
def test_a_tag_is_built_signed_and_published(
    workflow: str, tag_variable: str, kind: str, root: Path, cache: Path, tmp_path: Path
) -> None:
    needs("mmdebstrap", "gpg", "ssh", "sshd", "rsync", "git")
    tree = clone(root, tmp_path / "openssi")
    (tree / "out").mkdir()
    (tree / "out/venv").symlink_to(sys.prefix)
    signer = GpgSigner(tmp_path / "gpg")
    secret = run.output(["gpg", "--homedir", signer.home, "--batch", "--armor", "--export-secret-keys"]).decode()
    version = str(deb.version(root).version).partition("-")[0]
    # The secret store gives an empty text for what it does not have.
    secrets = {"OPENSSI_SIGNING_KEY": secret, "OPENSSI_SIGNING_PASSPHRASE": ""}
    env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(cache.parent), tag_variable: f"v{version}"}
    env["CI_PROJECT_DIR"] = str(tree)
    with ExitStack() as stack:
        if kind == "ssh":
            target = stack.enter_context(ssh_server(tmp_path / "ssh"))
            assert target.identity and target.known_hosts
            secrets |= {
                "OPENSSI_SSH_KEY": target.identity.read_text(),
                "OPENSSI_SSH_KNOWN_HOSTS": target.known_hosts.read_text(),
            }
            lines = [f'to = "{target.to}"', 'identity = "out/keys/publish"', 'known-hosts = "out/keys/known-hosts"']
            uri = stack.enter_context(web_server(tmp_path / "ssh/site"))
        else:
            target = stack.enter_context(object_server())
            secrets |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
            lines = [f'to = "{target.to}"', f'endpoint = "{target.endpoint}"']
            uri = f"{target.endpoint}/{target.to.removeprefix('s3://')}"
        with (tree / "openssi.toml").open("a") as stream:
            stream.write("\n".join(["", "[[publish]]", 'name = "site"', *lines, ""]))
        for job, known in (("build", env), ("publish", env | secrets)):
            # The machine's packages are tried on a clean machine: test_newcomer.py.
            for script in (each for each in workflows.steps(root)[f"{workflow} {job}"] if "apt-get" not in each):
                # A job begins with a clean checkout.
                begin = "rm -rf out/repo; " if script.startswith(".ci/") else ""
                said = tmp_path / "said"
                try:
                    run.run(["sh", "-eu", "-c", begin + script], cwd=tree, env=known, log_to=said, timeout=1500)
                except Exception:
                    print(said.read_text(errors="replace")[-4000:])
                    raise
        keyring = tmp_path / "public.gpg"
        keyring.write_bytes(signer.public_keys())
        check: list[str | Path] = ["./inv", "verify-repo", "--quick", "--repo", uri, "--keyring", keyring]
        assert b"nothing wrong" in run.output(check, cwd=tree, env=env, timeout=300)
