import sys
from pathlib import Path

import pytest

from openssi import run
from openssi.errors import CommandError, Error

PYTHON = sys.executable


def test_the_environment_of_a_program_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    said = run.output([PYTHON, "-c", "import os; print(sorted(os.environ.items()))"], env={"MORE": "1"}).decode()
    assert "SECRET" not in said
    assert "LANG" not in said
    for word in ("('LC_ALL', 'C.UTF-8')", "('TZ', 'UTC')", "('SOURCE_DATE_EPOCH', '7')", "('MORE', '1')"):
        assert word in said


def test_a_failure_carries_status_and_last_words() -> None:
    with pytest.raises(CommandError, match="exit status 3: last") as caught:
        run.run([PYTHON, "-c", "import sys; sys.stderr.write('first\\nlast\\n'); sys.exit(3)"])
    assert caught.value.status == 3


def test_a_logged_failure_names_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log/child.log"
    with pytest.raises(CommandError, match=f"see {log}"):
        run.run([PYTHON, "-c", "print('hello'); raise SystemExit(1)"], log_to=log)
    assert log.read_text().startswith(f"+ {PYTHON} -c ")
    assert "hello" in log.read_text()


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.PACKAGES, "no-such-program", "its-package")
    with pytest.raises(Error, match=r"no-such-program: not found \(apt install its-package\)"):
        run.run(["no-such-program"])


def test_a_missing_directory_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(Error, match="no such directory"):
        run.run([PYTHON, "-c", ""], cwd=tmp_path / "none")


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(Error, match=r"not finished after 0\.2 s"):
        run.run([PYTHON, "-c", "import time; time.sleep(60)"], timeout=0.2)


def test_stdin_is_closed_unless_it_is_given() -> None:
    copy = [PYTHON, "-c", "import sys; sys.stdout.write(sys.stdin.read())"]
    assert run.output(copy) == b""
    assert run.output(copy, input=b"in") == b"in"


def test_stop_ends_a_program_that_ignores_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = "import signal,time,pathlib; signal.signal(15, signal.SIG_IGN); pathlib.Path(r'%s').touch(); time.sleep(60)"
    process = run.start([PYTHON, "-c", code % ready])
    while not ready.exists():
        assert process.poll() is None
    run.stop(process, grace=0.2)
    assert process.returncode == -9
