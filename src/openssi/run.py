"""Running other programs: the only module that imports subprocess."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from openssi.errors import CommandError, Error

log = logging.getLogger("openssi.run")

Argv = Sequence[str | os.PathLike[str]]
Process = subprocess.Popen[bytes]

# Debian package of each program that a minimal system lacks.
PACKAGES = {
    "apt-ftparchive": "apt-utils",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "dnsmasq": "dnsmasq-base",
    "dpkg-source": "dpkg-dev",
    "gpg": "gnupg",
    "gpgv": "gpgv",
    "ip": "iproute2",
    "lintian": "lintian",
    "mcopy": "mtools",
    "mformat": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.fat": "dosfstools",
    "mmdebstrap": "mmdebstrap",
    "modprobe": "kmod",
    "newuidmap": "uidmap",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "rsync": "rsync",
    "serf": "serf",
    "shellcheck": "shellcheck",
    "socat": "socat",
    "sqv": "sqv",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "syslinux": "syslinux",
    "tinyproxy": "tinyproxy-bin",
    "vde_switch": "vde-switch",
    "xorriso": "xorriso",
}

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Before a command: it ends with us even when we are killed.
ENDING = ("setpriv", "--pdeathsig", "KILL", "--")
_KEPT = ("HOME", "TMPDIR", "SOURCE_DATE_EPOCH", "http_proxy", "https_proxy", "no_proxy")
_CLOSED = {"PATH": PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the closed environment that programs get: a few variables of ours, plus ``extra``."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, **_CLOSED, **(extra or {})}


def find(program: str) -> Path | None:
    """Return where ``program`` lies on the closed PATH, or None."""
    found = shutil.which(program, path=PATH)
    return Path(found) if found else None


def missing(program: str) -> Error:
    """Return the error for a program that is not installed; it names the Debian package."""
    package = PACKAGES.get(program, program)
    return Error(f"{program}: not found", hint=f"apt install {package}")


def pasteable(argv: Argv) -> str:
    """Return ``argv`` as a line that a shell takes."""
    return shlex.join(os.fspath(word) for word in argv)


def run(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    log_to: Path | None = None,
    timeout: float | None = None,
) -> None:
    """Run ``argv`` to its end; raise CommandError unless it exits 0.

    ``env`` is added to the closed environment. With ``log_to`` (a file, appended to) both output streams
    go there and the error names it; otherwise stdout is dropped and the error carries stderr's last line.
    """
    if log_to is None:
        _finish(argv, cwd=cwd, env=env, input=input, timeout=timeout)
        return
    log_to.parent.mkdir(parents=True, exist_ok=True)
    with log_to.open("ab") as stream:
        stream.write(f"+ {pasteable(argv)}\n".encode())
        stream.flush()
        _finish(argv, cwd=cwd, env=env, input=input, timeout=timeout, stream=stream)


def output(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    timeout: float | None = None,
) -> bytes:
    """Return what ``argv`` writes to stdout; raise CommandError unless it exits 0."""
    return _finish(argv, cwd=cwd, env=env, input=input, timeout=timeout)


def status(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    timeout: float | None = None,
) -> tuple[int, bytes, bytes]:
    """Return ``(exit status, stdout, stderr)`` of ``argv`` and raise only when it can't be run to its end."""
    process = _start(argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=_stdin(input))
    out, err = _wait(process, argv, input, timeout)
    return process.returncode, out, err


def start(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log_to: Path | None = None,
    pass_fds: Sequence[int] = (),
    stdin: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a session of its own and return it; the caller ends it with stop().

    Both output streams go to ``log_to`` (a file, truncated) or nowhere. It reads from the descriptor ``stdin``, or nothing.
    """
    stream: IO[bytes] | int = log_to.open("wb") if log_to else subprocess.DEVNULL
    try:
        return _start(
            argv, cwd=cwd, env=env, stdout=stream, stderr=subprocess.STDOUT, pass_fds=pass_fds,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
        )  # fmt: skip
    finally:
        if not isinstance(stream, int):
            stream.close()


def interactive(argv: Argv, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> int:
    """Run ``argv`` on our own terminal, with our own environment plus ``env``; return its exit status."""
    log.debug("+ %s", pasteable(argv))
    try:
        return subprocess.run(list(argv), cwd=cwd, env={**os.environ, **(env or {})}, check=False).returncode
    except FileNotFoundError:
        raise missing(os.fspath(argv[0])) from None


def stop(process: subprocess.Popen[bytes], *, grace: float = 5.0) -> None:
    """End a process that start() returned, with all it started: SIGTERM, then SIGKILL after ``grace`` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let the end of the terminal or of the session be what Ctrl-C is, so that what was started ends with us."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stdin(input: bytes | None) -> int:
    return subprocess.DEVNULL if input is None else subprocess.PIPE


def _start(
    argv: Argv,
    *,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
    stdin: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    log.debug("+ %s", pasteable(argv))
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=environment(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except FileNotFoundError:
        if cwd is not None and not cwd.is_dir():
            raise Error(f"{cwd}: no such directory") from None
        raise missing(os.fspath(argv[0])) from None


def _wait(
    process: subprocess.Popen[bytes], argv: Argv, input: bytes | None, timeout: float | None
) -> tuple[bytes, bytes]:
    try:
        out, err = process.communicate(input, timeout)
    except subprocess.TimeoutExpired:
        stop(process)
        raise Error(f"{Path(argv[0]).name}: not finished after {timeout:g} s: {pasteable(argv)}") from None
    except BaseException:
        stop(process)
        raise
    return out or b"", err or b""


def _finish(
    argv: Argv,
    *,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    input: bytes | None,
    timeout: float | None,
    stream: IO[bytes] | None = None,
) -> bytes:
    process = _start(
        argv,
        cwd=cwd,
        env=env,
        stdout=stream if stream else subprocess.PIPE,
        stderr=subprocess.STDOUT if stream else subprocess.PIPE,
        stdin=_stdin(input),
    )
    out, err = _wait(process, argv, input, timeout)
    if process.returncode == 0:
        return out
    text = err.decode("utf-8", "replace").strip()
    last = text.splitlines()[-1] if text else ""
    how = f"killed by signal {-process.returncode}" if process.returncode < 0 else f"exit status {process.returncode}"
    where = f": see {stream.name}" if stream else f": {last}" if last else ""
    raise CommandError(f"{Path(argv[0]).name}: {how}{where}", status=process.returncode, stderr=text)
