"""Clean chroots of a suite: made once by mmdebstrap, kept by content, thrown away after each use; root not required."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from openssi import files, run
from openssi.errors import CommandError, Error
from openssi.run import Argv
from openssi_build import apt

# Part of the key of every cached chroot: raise it when what _bootstrap() makes changes.
_RECIPE = 1
_BOOTSTRAP_TIMEOUT = 1800
_SESSION = Path(__file__).with_name("chroot_session.sh")
# Nothing goes on writing to a session that the next sweep removes.
_ENDING = run.ENDING
_ENVIRONMENT = {"PATH": run.PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def base(
    cache: Path,
    suite: str,
    packages: Sequence[str] = (),
    *,
    architecture: str = "amd64",
    mirror: apt.Mirror | None = None,
) -> Path:
    """Return the tarball of a minimal chroot of ``suite`` that has apt and ``packages``; made where the cache lacks it.

    Its name is made from suite, architecture, packages, mirror and recipe. Error when mmdebstrap fails, with its log's place.
    """
    mirror = mirror or apt.host_mirror()
    wanted = sorted(set(packages))
    key = json.dumps([_RECIPE, suite, architecture, wanted, mirror.archive, mirror.security])
    name = f"{suite}-{architecture}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    tarball = cache.absolute() / "chroots" / f"{name}.tar.zst"
    if tarball.exists():
        return tarball
    with files.lock(tarball.with_suffix(".lock")):
        if not tarball.exists():
            _bootstrap(tarball, suite, wanted, architecture, mirror)
    return tarball


def bootstrap_command(
    sources: Path, target: Path, suite: str, packages: Iterable[str], architecture: str, apt_options: Path
) -> list[str | Path]:
    """Return the mmdebstrap command that writes the chroot to the file ``target``."""
    return [
        "mmdebstrap",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--variant=apt",
        "--format=tar",
        f"--architectures={architecture}",
        f"--aptopt={apt_options}",
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=force-unsafe-io",
        *([f"--include={','.join(packages)}"] if packages else []),
        # The host's proxy belongs to this run alone: a session brings the one of its own time.
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        suite, target, sources,
    ]  # fmt: skip


def _bootstrap(tarball: Path, suite: str, packages: list[str], architecture: str, mirror: apt.Mirror) -> None:
    check_privileges()
    log = tarball.parent / f"{tarball.name.removesuffix('.tar.zst')}.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="openssi-bootstrap-") as name:
        # mmdebstrap's own user, not ours, reads these when it is not root.
        directory = Path(name)
        directory.chmod(0o755)
        sources = directory / "debian.sources"
        files.write(sources, mirror.sources(suite))
        options = directory / "apt.conf"
        files.write(options, apt.host_acquire_options() + 'Acquire::Retries "3";\n')
        temporary = tarball.with_name(f".{tarball.name.removesuffix('.tar.zst')}.{os.getpid()}.tar.zst")
        try:
            argv = bootstrap_command(sources, temporary, suite, packages, architecture, options)
            run.run(argv, log_to=log, timeout=_BOOTSTRAP_TIMEOUT)
            temporary.replace(tarball)
        except CommandError as problem:
            raise Error(f"chroot of {suite} ({architecture}): {_reason(log)}", hint=f"see {log}") from problem
        finally:
            temporary.unlink(missing_ok=True)


def _reason(log: Path) -> str:
    """Return the line of mmdebstrap's log that says most: apt's first error, else its own last line."""
    lines = log.read_text("utf-8", "replace").splitlines()
    first = next((line for line in lines if line.startswith("E: ")), None)
    return (first or (lines[-1] if lines else "mmdebstrap failed")).removeprefix("E: ")


def check_privileges() -> None:
    """Raise Error when this user can make no user namespace with the ids that a chroot needs."""
    if os.geteuid() == 0:
        return
    if run.find("newuidmap") is None:
        raise run.missing("newuidmap")
    user = pwd.getpwuid(os.geteuid()).pw_name
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        owners = [line.split(":")[0] for line in path.read_text().splitlines()] if path.exists() else []
        if user not in owners and str(os.geteuid()) not in owners:
            raise Error(
                f"{path}: no range for user {user}: a chroot needs 65536 ids",
                hint=f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
            )


def _as_root() -> list[str]:
    """Return the words that give a command the rights of root over files of the chroot: in a user namespace, if need be."""
    # Root inside is this user outside, so what root makes in a chroot is ours to read and copy.
    return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--map-auto", "--"]


class Chroot:
    """A chroot unpacked from a tarball of base() for the time of a ``with`` block.

    ``path`` is its root directory on this machine. Commands run in mount, pid and ipc namespaces of their own
    with /proc and /dev, no services started (policy-rc.d), and no network unless asked for. The directory
    is removed at the end; what a killed process left is removed when the next session starts.
    """

    def __init__(self, tarball: Path, directory: Path | None = None) -> None:
        self.tarball = tarball
        self.directory = (directory or tarball.parent / "sessions").absolute()
        self.path = Path("/nonexistent")
        self._lock = -1

    def __enter__(self) -> Chroot:
        check_privileges()
        self.directory.mkdir(parents=True, exist_ok=True)
        _sweep(self.directory)
        session, self._lock = _claim(self.directory)
        self.path = session / "root"
        try:
            self._unpack()
            self._prepare()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _unpack(self) -> None:
        self.path.mkdir(mode=0o755)
        self.path.chmod(0o755)
        # fmt: off
        run.run([
            *_ENDING, *_as_root(), "tar", "--extract", "--zstd", "--file", self.tarball, "--directory", self.path,
            "--numeric-owner", "--preserve-permissions", "--exclude=./dev/*",
        ], timeout=600)
        # fmt: on

    def _prepare(self) -> None:
        files.write(self.path / "usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755, durable=False)
        files.write(self.path / "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", durable=False)
        files.write(self.path / "etc/hostname", "localhost\n", durable=False)
        options = apt.host_acquire_options()
        if options:
            files.write(self.path / "etc/apt/apt.conf.d/10host", options, durable=False)
        with contextlib.suppress(OSError):
            (self.path / "etc/resolv.conf").unlink()
        with contextlib.suppress(OSError):
            shutil.copyfile("/etc/resolv.conf", self.path / "etc/resolv.conf")

    def _remove(self) -> None:
        session, self.path = self.path.parent, Path("/nonexistent")
        try:
            _delete(session)
        finally:
            os.close(self._lock)

    def _command(
        self, argv: Argv, env: Mapping[str, str] | None, cwd: str, user: str, network: bool
    ) -> list[str | os.PathLike[str]]:
        variables = {**_ENVIRONMENT, **(env or {})}
        proxies = {name: value for name, value in run.environment().items() if name.endswith("_proxy")}
        if network:
            variables = {**proxies, **variables}
        return [
            *_ENDING, "unshare",
            *(["--user", "--map-root-user", "--map-auto"] if os.geteuid() != 0 else []),
            "--mount", "--pid", "--ipc", "--fork", "--kill-child",
            *([] if network else ["--net"]),
            "--", "sh", _SESSION, self.path, user,
            "env", "--ignore-environment", f"--chdir={cwd}", *(f"{name}={value}" for name, value in variables.items()),
            *argv,
        ]  # fmt: skip

    def run(
        self,
        argv: Argv,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: str = "0:0",
        network: bool = False,
        input: bytes | None = None,
        log_to: Path | None = None,
        timeout: float | None = None,
    ) -> None:
        """Run ``argv`` in the chroot to its end; raise CommandError unless it exits 0.

        ``env`` is added to a closed environment, ``cwd`` is a path inside, ``user`` a name or ``uid:gid``. With
        ``network`` the host's network is shared, else there is only loopback. ``log_to`` as in openssi.run.run().
        """
        with _named(argv):
            run.run(self._command(argv, env, cwd, user, network), input=input, log_to=log_to, timeout=timeout)

    def output(
        self,
        argv: Argv,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: str = "0:0",
        network: bool = False,
        input: bytes | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Return what ``argv`` writes to stdout in the chroot; raise CommandError unless it exits 0."""
        with _named(argv):
            return run.output(self._command(argv, env, cwd, user, network), input=input, timeout=timeout)

    def command(self, argv: Argv) -> list[str | os.PathLike[str]]:
        """Return the command of this machine by which ``argv`` runs in the chroot, without network: to be measured."""
        return self._command(argv, None, "/", "0:0", False)

    def status(
        self,
        argv: Argv,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: str = "0:0",
        network: bool = False,
        input: bytes | None = None,
        timeout: float | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Return ``(exit status, stdout, stderr)`` of ``argv`` in the chroot."""
        return run.status(self._command(argv, env, cwd, user, network), input=input, timeout=timeout)

    def copy_in(self, source: Path, destination: str) -> Path:
        """Copy the file or directory ``source`` to the path ``destination`` inside, with its mode; return where it lies outside."""
        target = self.path / destination.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
        return target

    def copy_out(self, source: str, destination: Path) -> Path:
        """Copy the file ``source`` of the chroot to the path ``destination`` outside (a file, or a directory that exists)."""
        return Path(shutil.copy2(self.path / source.lstrip("/"), destination))


@contextlib.contextmanager
def _named(argv: Argv) -> Iterator[None]:
    """Let an error speak of the program inside, not of the one that set up the namespaces."""
    try:
        yield
    except CommandError as problem:
        how = problem.message.partition(": ")[2]
        raise CommandError(
            f"{Path(argv[0]).name} (in the chroot): {how}", status=problem.status, stderr=problem.stderr
        ) from None


def _claim(directory: Path) -> tuple[Path, int]:
    """Return a new session directory and the descriptor that holds the lock on it."""
    while True:
        session = Path(tempfile.mkdtemp(prefix="s", dir=directory))
        session.chmod(0o755)
        lock = os.open(session, os.O_RDONLY | os.O_DIRECTORY)
        # A sweep of another process may be quicker than we; then the name is gone.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if session.exists():
                return session, lock
        os.close(lock)


def _sweep(directory: Path) -> None:
    """Remove the sessions below ``directory`` that no living process holds."""
    for session in directory.iterdir():
        try:
            lock = os.open(session, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            # flock belongs to this descriptor: it excludes our own other sessions too.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete(session)
        except (BlockingIOError, CommandError):
            pass
        finally:
            os.close(lock)


def _delete(session: Path) -> None:
    run.run([*_as_root(), "rm", "--recursive", "--force", "--one-file-system", session], timeout=600)
