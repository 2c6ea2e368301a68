"""A machine with ssh, rsync, GNU find, coreutils and util-linux as target; one connection serves for all."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from openssi import run
from openssi.errors import CommandError, Error
from openssi_build import settings
from openssi_build.publish.targets import LOCK, Advance
from openssi_build.publish.tree import Item

_BATCH = 32 << 20  # bytes an rsync is given at a time: what progress is shown by
_TIMEOUT = 3600
_QUIET = 60  # seconds without a byte after which rsync takes the connection for dead


class RemoteTarget:
    """rsync writes each file beside its place and renames it; a file that was cut is continued."""

    links = True

    def __init__(self, chosen: settings.Publish, host: str, path: str, port: int | None) -> None:
        self.name = chosen.name
        self._host = host
        self._path = path.rstrip("/") or "/"
        self._wait = chosen.wait_s
        self._words = [
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=30",
            "-o",
            "ServerAliveInterval=15",
            "-o",
            "ServerAliveCountMax=4",
        ]
        if port:
            self._words += ["-p", str(port)]
        if chosen.identity:
            self._words += ["-i", str(chosen.identity), "-o", "IdentitiesOnly=yes"]
        if chosen.known_hosts:
            self._words += ["-o", f"UserKnownHostsFile={chosen.known_hosts}"]
        self._env = {name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if name in os.environ}
        self._control = Path()

    def __enter__(self) -> RemoteTarget:
        # The path of a socket may have 107 bytes.
        self._control = Path(tempfile.mkdtemp(prefix="ossi-", dir="/tmp"))
        try:
            socket = self._control / "s"
            self._ssh_status(
                ["-o", "ControlMaster=yes", "-o", f"ControlPath={socket}", "-o", "ControlPersist=600", "-N", "-f"]
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *problem: object) -> None:
        with contextlib.suppress(Error):
            run.status([*self._ssh(), "-O", "exit", self._host], env=self._env, timeout=30)
        shutil.rmtree(self._control, ignore_errors=True)

    def _ssh(self) -> list[str]:
        return ["ssh", *self._words, "-o", f"ControlPath={self._control / 's'}"]

    def _ssh_status(self, options: list[str]) -> None:
        log = self._control / "log"
        try:
            run.run(["ssh", *self._words, *options, self._host], env=self._env, log_to=log, timeout=120)
        except CommandError as problem:
            said = [line for line in log.read_text(errors="replace").splitlines() if not line.startswith("+ ")]
            raise Error(
                f"{self.name}: ssh {self._host}: {said[-1] if said else problem.message}", hint="try it by hand"
            ) from problem

    def _shell(self, script: str, *, input: bytes | None = None) -> bytes:
        """Return what a shell there prints for ``script``, which starts at the top of the target."""
        argv = [*self._ssh(), self._host, f"cd {shlex.quote(self._path)} 2>/dev/null || exit 44; {script}"]
        try:
            return run.output(argv, input=input, env=self._env, timeout=_TIMEOUT)
        except CommandError as problem:
            raise self._failed(problem) from problem

    def _failed(self, problem: CommandError) -> Error:
        lines = [line for line in problem.stderr.splitlines() if line.strip()]
        telling = [line for line in lines if "No space" in line or "ermission denied" in line or "failed:" in line]
        said = (telling or lines[-1:] or [problem.message])[0]
        if (
            problem.status == 255
            or "connection unexpectedly closed" in problem.stderr
            or "Broken pipe" in problem.stderr
        ):
            said = f"the connection broke: {said}"
        return Error(f"{self.name}: {self._host}: {said}", hint="repair it and run again: it goes on where it stopped")

    @contextlib.contextmanager
    def lock(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """See Target. It is held by a process there that ends with the connection."""
        path = shlex.quote(self._path)
        holder = shlex.quote(f"{os.uname().nodename} pid {os.getpid()} since {time.strftime('%F %T')}")
        script = (
            f"umask 022; mkdir -p {path} && cd {path} && exec 9>>{LOCK} && "
            f'{{ flock -n 9 || {{ echo "waiting $(cat {LOCK})"; flock -w {self._wait:g} 9; }} || {{ echo "held $(cat {LOCK})"; exit 45; }}; }} && '
            f"echo {holder} >{LOCK} && echo locked && cat"
        )
        log = self._control / "lock"
        reading, writing = os.pipe()
        try:
            process = run.start([*self._ssh(), self._host, script], env=self._env, log_to=log, stdin=reading)
            os.close(reading)
            try:
                self._await_lock(process, log, waiting)
                yield
                if process.poll() is not None:
                    raise Error(
                        f"{self.name}: {self._host}: the lock was lost", hint="run again: it goes on where it stopped"
                    )
            finally:
                os.close(writing)
                writing = -1
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
                run.stop(process)
        finally:
            if writing >= 0:
                os.close(writing)

    def _await_lock(self, process: subprocess.Popen[bytes], log: Path, waiting: Callable[[str], None]) -> None:
        told = False
        while True:
            ended = process.poll() is not None
            said = log.read_text(errors="replace")
            lines = said.splitlines()
            if "locked" in lines:
                return
            for line in lines:
                if line.startswith("waiting ") and not told:
                    waiting(line.removeprefix("waiting "))
                    told = True
                if line.startswith("held "):
                    raise Error(
                        f"{self.name}: locked by {line.removeprefix('held ')}", hint="wait for it to end, or end it"
                    )
            if ended:
                raise Error(f"{self.name}: {self._host}: {lines[-1] if lines else 'the connection broke'}")
            time.sleep(0.05)

    def listing(self) -> dict[str, int]:
        """See Target."""
        try:
            said = self._shell(r"find . -name '.?*' -prune -o \( -type f -o -type l \) -printf '%s %P\0'")
        except Error as problem:
            if isinstance(problem.__cause__, CommandError) and problem.__cause__.status == 44:
                return {}
            raise
        rows = (row.split(" ", 1) for row in said.decode().split("\0") if row)
        return {path: int(size) for size, path in rows}

    def read(self, path: str) -> bytes | None:
        """See Target."""
        try:
            return self._shell(f"test -e {shlex.quote(path)} || exit 44; cat {shlex.quote(path)}")
        except Error as problem:
            if isinstance(problem.__cause__, CommandError) and problem.__cause__.status == 44:
                return None
            raise

    def put(self, items: Sequence[Item], advance: Advance) -> None:
        """See Target."""
        batch: list[Item] = []
        for item in items:
            batch.append(item)
            if sum(each.size for each in batch) >= _BATCH:
                self._put(batch, advance)
                batch = []
        if batch:
            self._put(batch, advance)

    def _put(self, items: Sequence[Item], advance: Advance) -> None:
        top = Path(str(items[0].source).removesuffix(items[0].path))
        names = b"".join(os.fsencode(item.path) + b"\0" for item in items)
        options = ["--ignore-times", "--links", "--times", "--chmod=D755,F644", "--partial-dir=.rsync-partial"]
        self._rsync([*options, "--from0", "--files-from=-", f"{top}/", self._there()], names)
        advance(sum(item.size for item in items))

    def _rsync(self, words: Sequence[str | Path], input: bytes) -> None:
        try:
            argv = ["rsync", f"--rsh={shlex.join(self._ssh())}", f"--timeout={_QUIET}", *words]
            run.output(argv, input=input, env=self._env, timeout=_TIMEOUT)
        except CommandError as problem:
            raise self._failed(problem) from problem

    def _there(self) -> str:
        return f"{self._host}:{self._path}/"

    def replace(self, item: Item, expected: bytes | None) -> None:
        """See Target."""
        if self.read(item.path) != expected:
            raise Error(f"{self.name}: {item.path} was changed by another publisher")
        self._shell("sync -f .")
        self._put([item], lambda _: None)

    def write(self, path: str, content: bytes) -> None:
        """See Target."""
        name = shlex.quote(path)
        self._shell(f"umask 022; cat >{name}.new && mv -f {name}.new {name}", input=content)

    def digests(self, items: Sequence[Item]) -> dict[str, str]:
        """See Target."""
        if not items:
            return {}
        names = b"".join(os.fsencode(item.path) + b"\0" for item in items)
        script = (
            'xargs -0 -r sh -c \'for f; do if test -L "$f"; then d=$(readlink -n -- "$f" | sha256sum); '
            'elif test -f "$f"; then d=$(sha256sum <"$f"); else continue; fi; printf "%s %s\\0" "${d%% *}" "$f"; done\' sh'
        )
        rows = (row.split(" ", 1) for row in self._shell(script, input=names).decode().split("\0") if row)
        return {path: digest for digest, path in rows}

    def fetch(self, paths: Sequence[str], destination: Path, advance: Advance) -> None:
        """See Target."""
        names = b"".join(os.fsencode(path) + b"\0" for path in paths)
        self._rsync(["--links", "--times", "--from0", "--files-from=-", self._there(), f"{destination}/"], names)
        advance(sum((destination / path).lstat().st_size for path in paths))

    def delete(self, paths: Iterable[str]) -> None:
        """See Target."""
        names = b"".join(os.fsencode(path) + b"\0" for path in paths)
        self._shell("xargs -0 -r rm -f --; find . -mindepth 1 -type d -empty -delete", input=names)
