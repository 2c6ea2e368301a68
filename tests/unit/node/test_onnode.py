"""onnode against an ssh that runs the command line here, in a shell of its own session, as sshd would."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ONNODE = ROOT / "bin/onnode"

# The words behind the options are the address and the command line.
SSH = """#!/bin/sh
echo "$@" >>"$LOG"
while :; do case $1 in -F | -o) shift 2 ;; -*) shift ;; *) break ;; esac; done
address=$1; shift
[ "$address" = 10.0.0.2 ] || { echo "no route to $address" >&2; exit 255; }
exec env -i PATH="$PATH" HOME="$HOME" ${TAKES_NONE-"OPENSSI_ENVIRONMENT=$OPENSSI_ENVIRONMENT"} setsid --wait "${LOGIN_SHELL:-/bin/sh}" -c "$*"
"""

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for directory in ("etc", "run/ssi/connections", "cluster/node1/etc", "cluster/node2/etc"):
        (root / directory).mkdir(parents=True)
    (root / "run/ssi/connections").chmod(0o1777)
    (root / "etc/clustertab").write_text(
        "# number\taddress\n1\t10.0.0.1\t52:54:00:00:00:01\tP\t1\t-\n2\t10.0.0.2\t52:54:00:00:00:02\tP\t0\t-\n"
    )
    (root / "run/ssi/nodenum").write_text("1\n")
    (root / "cluster/node2/etc/nodename").write_text("sheep\n")
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    return root


@pytest.fixture
def environment(tree: Path, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "OPENSSI_ROOT": str(tree),
        "OPENSSI_SSH": str(tmp_path / "ssh"),
        "LOG": str(tmp_path / "calls"),
    }


@pytest.fixture
def onnode(environment: dict[str, str], tmp_path: Path) -> Run:
    def call(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        env = {**environment, **options.pop("env", {})}  # type: ignore[dict-item]  # a dict when given
        where = options.pop("cwd", tmp_path)
        return subprocess.run([ONNODE, *words], env=env, cwd=where, capture_output=True, timeout=20, **options)  # type: ignore[call-overload, no-any-return]

    return call


def test_words_arrive_as_they_were_given(onnode: Run) -> None:
    words = ["a b", "it's", "'", "''x'", "$HOME `id` \\", "*", "", "line\nbreak", "-n", "ä\udcff"]
    found = onnode("2", sys.executable, "-c", "import sys; print(sys.argv[1:])", *words)
    assert found.stdout.decode().strip() == str(words)
    assert found.returncode == 0


def test_the_exit_status_is_the_command_s(onnode: Run) -> None:
    assert onnode("2", "sh", "-c", "exit 7").returncode == 7
    assert onnode("2", "no-such-command").returncode == 127
    assert onnode("2", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM


def test_directory_and_environment_are_the_caller_s(onnode: Run, tmp_path: Path) -> None:
    where = tmp_path / "it's here"
    where.mkdir()
    given = {"NAME": "two\nlines 'quoted' $x", "EMPTY": "", "SSH_TTY": "/dev/pts/9", "XDG_RUNTIME_DIR": "/run/user/0"}
    script = (
        "import os; print(os.getcwd(), [os.environ.get(n) for n in ('NAME', 'EMPTY', 'SSH_TTY', 'XDG_RUNTIME_DIR')])"
    )
    found = onnode("2", sys.executable, "-c", script, env=given, cwd=where)
    assert found.stdout.decode().strip() == f"{where} {[given['NAME'], '', None, None]}"


def test_the_environment_is_in_no_command_line(onnode: Run, tmp_path: Path) -> None:
    found = onnode("2", "sh", "-c", "echo $SECRET; env", env={"SECRET": "between us"})
    assert found.stdout.startswith(b"between us\n")
    assert b"OPENSSI_ENVIRONMENT" not in found.stdout
    calls = (tmp_path / "calls").read_text()
    assert "echo $SECRET" in calls
    assert "between us" not in calls


def test_a_node_that_takes_no_environment_runs_nothing(onnode: Run) -> None:
    found = onnode("2", "echo", "ran", env={"TAKES_NONE": ""})
    assert (found.returncode, found.stdout) == (255, b"")
    assert found.stderr == b"onnode: node 2: its sshd takes no environment\n"


def test_standard_input_is_read_there_and_only_there(onnode: Run) -> None:
    assert onnode("2", "cat", input=b"through\0\xff").stdout == b"through\0\xff"


def test_a_directory_that_is_not_there_stops_the_call(onnode: Run, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    found = onnode("2", "sh", "-c", "true", cwd=tmp_path / "gone", env={"LOGIN_SHELL": str(tmp_path / "other")})
    assert found.returncode != 0  # the shell that could not be started
    (tmp_path / "other").write_text(f'#!/bin/sh\nrmdir {tmp_path}/gone\nexec /bin/sh "$@"\n')
    (tmp_path / "other").chmod(0o755)
    found = onnode("2", "echo", "ran", cwd=tmp_path / "gone", env={"LOGIN_SHELL": str(tmp_path / "other")})
    assert (found.returncode, found.stdout) == (255, b"")
    assert b"node 2: no directory" in found.stderr


@pytest.mark.parametrize("name", ["2", "sheep", "10.0.0.2"])
def test_a_node_is_found_by_number_name_and_address(onnode: Run, name: str) -> None:
    assert onnode(name, "echo", "there").stdout == b"there\n"


def test_a_stranger_is_refused_and_named(onnode: Run) -> None:
    found = onnode("9", "true")
    assert (found.returncode, found.stderr) == (255, b"onnode: no node 9 in /etc/clustertab\n")
    assert onnode().returncode == 255
    assert onnode("-x", "2", "true").returncode == 255


def test_here_no_ssh_is_needed(onnode: Run, tmp_path: Path) -> None:
    assert onnode("1", "sh", "-c", "exit 3").returncode == 3
    assert not (tmp_path / "calls").exists()


def test_old_options_are_taken(onnode: Run) -> None:
    assert onnode("-lp", "2", "echo", "-p").stdout == b"-p\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_reaches_the_command_there(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    # Blocked before it says that it is ready: between a look for signals and a sleep, one would be slept over.
    script = (
        "import signal, sys\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])\n"
        "print('ready', flush=True)\n"
        f"if signal.sigtimedwait([{int(number)}], 20): print('got it', flush=True); sys.exit(42)\n"
    )
    # A signal that was ignored when a shell started can't be trapped, and nohup lets SIGHUP be ignored.
    argv: list[str | Path] = ["env", "--default-signal", ONNODE, "2", sys.executable, "-c", script]
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=tmp_path
    ) as call:
        assert call.stdout is not None
        assert call.stdout.readline() == b"ready\n"
        call.send_signal(number)
        assert call.stdout.read() == b"got it\n"
    assert call.returncode == 42


def test_connections_are_kept_in_a_directory_of_the_user_s_own(onnode: Run, tree: Path, tmp_path: Path) -> None:
    onnode("2", "true")
    own = tree / "run/ssi/connections" / str(os.getuid())
    assert own.stat().st_mode & 0o777 == 0o700
    assert f"ControlPath={own}/%h" in (tmp_path / "calls").read_text()


def test_a_directory_that_another_put_there_is_not_used(onnode: Run, tree: Path, tmp_path: Path) -> None:
    own = tree / "run/ssi/connections" / str(os.getuid())
    (tmp_path / "trap").mkdir()
    own.symlink_to(tmp_path / "trap")
    assert onnode("2", "true").returncode == 0
    assert "ControlPath=none" in (tmp_path / "calls").read_text()


def test_a_terminal_is_asked_for_when_both_ends_are_one(environment: dict[str, str], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    argv: list[str | Path] = [ONNODE, "2", "true"]
    subprocess.run(
        argv, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, check=True, timeout=20
    )
    os.close(theirs)
    os.close(ours)
    assert (tmp_path / "calls").read_text().startswith("-tt ")


def test_a_whole_argument_of_words_and_one_of_environment_arrive(onnode: Run) -> None:
    found = onnode("2", "sh", "-c", "echo ${#BIG} ${#1}", "sh", "x" * 120000, env={"BIG": "y" * 120000})
    assert found.stdout == b"120000 120000\n"


@pytest.mark.parametrize(("words", "variable", "what"), [(131000, 1, b"command"), (1, 131000, b"environment")])
def test_too_long_a_call_is_refused_before_it_is_sent(
    onnode: Run, tmp_path: Path, words: int, variable: int, what: bytes
) -> None:
    found = onnode("2", "echo", "x" * words, env={"BIG": "y" * variable})
    assert found.returncode == 255
    assert found.stderr.startswith(b"onnode: " + what)
    assert b"expected less than" in found.stderr
    assert not (tmp_path / "calls").exists()


def test_nothing_is_lost_when_the_input_is_closed(environment: dict[str, str], tmp_path: Path) -> None:
    line = f"{ONNODE} 2 echo fine <&-"
    found = subprocess.run(["sh", "-c", line], env=environment, cwd=tmp_path, capture_output=True, timeout=20)
    assert found.stdout == b"fine\n"
