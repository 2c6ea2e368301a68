"""Chroots of a suite, as root and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import debian
import pytest
from conftest import needs

from openssi import run
from openssi.errors import CommandError, Error
from openssi_build import apt, chroot

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tarball(cache: Path) -> Path:
    needs("mmdebstrap", "unshare", "zstd")
    return chroot.base(cache, "trixie")


def test_a_command_runs_as_root_of_the_suite_with_a_closed_environment(tarball: Path) -> None:
    with chroot.Chroot(tarball) as session:
        assert session.output(["sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME; id -u"]) == b"trixie\n0\n"
        names = session.output(["env"], env={"EXTRA": "1"}).decode()
        assert sorted(line.split("=")[0] for line in names.splitlines()) == ["EXTRA", "HOME", "LC_ALL", "PATH", "TZ"]


def test_a_session_has_devices_processes_of_its_own_and_no_network(tarball: Path) -> None:
    with chroot.Chroot(tarball) as session:
        script = "set -e; head -c3 /dev/zero >/dev/null; ls -d /proc/[0-9]* | wc -l; cat /proc/net/dev"
        code, out, _ = session.status(["sh", "-c", script])
        assert code == 0
        count, devices = out.decode().split("\n", 1)
        assert int(count) < 8
        assert [line.split(":")[0].strip() for line in devices.splitlines() if ":" in line] == ["lo"]
        assert session.status(["/usr/sbin/policy-rc.d"])[0] == 101


def test_a_failing_command_names_itself_and_its_status(tarball: Path) -> None:
    with (
        chroot.Chroot(tarball) as session,
        pytest.raises(CommandError, match=r"^sh \(in the chroot\): exit status 7: why$"),
    ):
        session.run(["sh", "-c", "echo why >&2; exit 7"])


def test_files_go_in_and_out_and_the_session_is_gone_at_its_end(tarball: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello\n")
    with chroot.Chroot(tarball, tmp_path / "sessions") as session:
        session.copy_in(tmp_path / "in", "/srv/deep/in")
        session.run(["sh", "-c", "cat /srv/deep/in /srv/deep/in > /srv/out; chown 1000:1000 /srv/out"])
        session.copy_out("/srv/out", tmp_path / "out")
        path = session.path
    assert (tmp_path / "out").read_text() == "hello\nhello\n"
    assert not path.exists()
    assert list((tmp_path / "sessions").iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_session(tarball: Path, tmp_path: Path, root: Path) -> None:
    program = (
        "import sys, pathlib; from openssi_build.chroot import Chroot\n"
        f"with Chroot(pathlib.Path({str(tarball)!r}), pathlib.Path({str(tmp_path)!r})) as c: c.run(['sh', '-c', 'touch /up; sleep 98765'])"
    )
    child = run.start([sys.executable, "-c", program], env={"PYTHONPATH": str(root / "src")})
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob("s*/root/up")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    (left,) = tmp_path.iterdir()
    while b"98765" in run.output(["ps", "-A", "-o", "args"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"98765" not in run.output(["ps", "-A", "-o", "args"])
    with chroot.Chroot(tarball, tmp_path) as session:
        assert not left.exists()
        # A session in use is left alone.
        with chroot.Chroot(tarball, tmp_path):
            assert session.path.exists()


def test_a_warm_cache_needs_neither_mirror_nor_mmdebstrap(
    tarball: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroot, "_bootstrap", lambda *_: pytest.fail("made again"))
    assert chroot.base(cache, "trixie") == tarball


def test_a_package_that_is_not_there_is_named_and_nothing_is_cached(tmp_path: Path) -> None:
    needs("mmdebstrap")
    with pytest.raises(Error, match=r"chroot of trixie \(amd64\): .*no-such-package.* \(see .*\.log\)"):
        chroot.base(tmp_path, "trixie", ["no-such-package"])
    assert [path.suffix for path in (tmp_path / "chroots").iterdir() if path.suffix == ".zst"] == []


def test_an_unreachable_mirror_is_one_line(tmp_path: Path) -> None:
    needs("mmdebstrap")
    mirror = apt.Mirror("http://127.0.0.1:9/debian")
    with pytest.raises(Error, match=r"^chroot of trixie \(amd64\): [^\n]+$"):
        chroot.base(tmp_path, "trixie", mirror=mirror)


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Iterator[list[str]]:
    """The words that run a command as an ordinary user with a range of subordinate ids, as adduser gives one."""
    needs("newuidmap", "setpriv")
    if os.geteuid() != 0:
        yield []
        return
    name = "openssi-test"
    if run.status(["id", name])[0] != 0:
        run.run(["useradd", "--system", "--home-dir", "/nonexistent", "--shell", "/bin/sh", name])
        ids = ["--add-subuids", "1000000-1065535", "--add-subgids", "1000000-1065535"]
        run.run(["usermod", *ids, name])
    try:
        yield ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", "--reset-env"]
    finally:
        run.run(["userdel", name])


def test_an_ordinary_user_makes_and_uses_chroots_too(ordinary_user: list[str], root: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from openssi_build import chroot\n"
        "home = pathlib.Path(sys.argv[1])\n"
        "tarball = chroot.base(home / 'cache', 'trixie')\n"
        "with chroot.Chroot(tarball) as c:\n"
        "    c.run(['sh', '-c', 'id -u >/out; touch /others; chown 1000:1000 /others'])\n"
        "    c.copy_out('/out', home / 'out')\n"
        "    c.run(['stat', '-c', '%u', '/others'], user='1000:1000')\n"
        "    print(os.geteuid(), c.output(['stat', '-c', '%u', '/others', '/out']).split(), (home / 'out').read_text())\n"
        "print(list((home / 'cache/chroots/sessions').iterdir()))\n"
    )
    # Not below tmp_path: pytest makes that for its own user alone. The modules are copied, for the checkout may be closed to others.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        home = Path(name)
        # So is python-debian, which the venv has and the host's interpreter need not have.
        for package in (root / "src/openssi", root / "src/openssi_build", Path(debian.__file__).parent):
            shutil.copytree(package, home / "src" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        (home / "program.py").write_text(program)
        if ordinary_user:
            run.run(["chown", "-R", ordinary_user[1].partition("=")[2], home])
        argv: list[str | Path] = [
            *ordinary_user,
            "env",
            f"PYTHONPATH={home}/src",
            "/usr/bin/python3",
            home / "program.py",
            home,
        ]
        lines = run.output(argv, timeout=600).decode().splitlines()
        assert lines[0].startswith("0 ") is False
        assert lines[0].endswith("[b'1000', b'0'] 0")
        assert lines[-1] == "[]"
