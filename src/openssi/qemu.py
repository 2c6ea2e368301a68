"""One qemu machine with its serial console: start it, wait for what it says, type, end it."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from openssi import run
from openssi.errors import Error

QEMU = "qemu-system-x86_64"
_PROBE_S = 10.0


@cache
def accelerator() -> str:
    """Return ``kvm`` when a real guest runs under it, else ``tcg``.

    /dev/kvm may be there and unusable, even hang: the firmware must speak within 10 seconds.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    argv = qemu_command("probe", memory_mib=64, machine="q35,graphics=off", accel="kvm")
    try:
        with tempfile.TemporaryDirectory() as directory, Machine("probe", argv, Path(directory)) as machine:
            machine.wait("SeaBIOS", _PROBE_S)
    except Error:
        return "tcg"
    return "kvm"


def qemu_command(name: str, *, memory_mib: int = 512, machine: str = "q35", accel: str | None = None) -> list[str]:
    """Return the part of the argv that all our machines share: no devices, no display, one processor."""
    return [
        QEMU,
        "-name", name,
        "-accel", accel or accelerator(),
        "-machine", machine,
        "-cpu", "max",
        "-smp", "1",           # under tcg a second processor costs more than it gives
        "-m", str(memory_mib),
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip


class Machine:
    """A running qemu whose serial console is ours.

    ``argv`` is the whole qemu command but for the console. In ``directory`` (made if need be) lie
    ``<name>.log``, all that the console said, and ``<name>.err``, what qemu said.
    """

    def __init__(self, name: str, argv: Sequence[str | os.PathLike[str]], directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.log = directory / f"{name}.log"
        self._errors = directory / f"{name}.err"
        self._argv = list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._console: socket.socket | None = None
        self._heard = bytearray()
        self._seen = 0  # where the next wait() starts

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process number of the running qemu."""
        if self._process is None:
            raise Error(f"{self.name}: not started")
        return self._process.pid

    @property
    def text(self) -> str:
        """All that the console has said so far."""
        self._listen(0)
        return self._heard.decode("utf-8", "replace")

    def start(self) -> None:
        """Start qemu; Error with its own words when it does not come up."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        self._heard.clear()
        self._seen = 0
        # A socket's path is limited to 107 bytes; descriptors are not.
        ours, theirs = socket.socketpair()
        argv = [
            *self._argv,
            "-chardev",
            f"socket,id=console,fd={theirs.fileno()}",
            "-serial",
            "chardev:console",
            "-monitor",
            "none",
        ]
        with theirs:
            self._process = run.start(argv, log_to=self._errors, pass_fds=(theirs.fileno(),))
        ours.setblocking(False)
        self._console = ours

    def wait(self, pattern: str, timeout: float, *, fail: str | None = None) -> re.Match[str]:
        """Return the next match of ``pattern`` on the console, searched from behind the match before it.

        Error when qemu ends, ``timeout`` seconds pass, or ``fail`` matches first; it carries the last lines heard.
        """
        wanted = re.compile(pattern.encode(), re.MULTILINE)
        bad = re.compile(fail.encode(), re.MULTILINE) if fail else None
        end = time.monotonic() + timeout
        while True:
            if found := wanted.search(self._heard, self._seen):
                self._seen = found.end()
                text = found[0].decode("utf-8", "replace")
                again = re.search(pattern, text, re.MULTILINE)
                return again or re.search(r"[\s\S]*", text)  # type: ignore[return-value]  # always matches
            if bad and (hit := bad.search(self._heard, self._seen)):
                raise Error(
                    f"{self.name}: said {hit[0].decode('utf-8', 'replace')!r} while waiting for {pattern!r}{self._tail()}"
                )
            left = end - time.monotonic()
            if left <= 0:
                raise Error(f"{self.name}: {pattern!r} not seen in {timeout:g} s{self._tail()}")
            if not self._listen(min(left, 0.5)) and not self.running:
                self._listen(0)
                if wanted.search(self._heard, self._seen):
                    continue
                raise Error(f"{self.name}: qemu ended while waiting for {pattern!r}{self._tail()}")

    def send(self, text: str) -> None:
        """Type ``text`` on the console, at a pace that a serial line without flow control keeps."""
        if self._console is None:
            raise Error(f"{self.name}: not started")
        data = text.encode()
        for at in range(0, len(data), 64):
            self._console.setblocking(True)
            self._console.sendall(data[at : at + 64])
            self._console.setblocking(False)
            if len(data) > 64:
                self._listen(0.05)

    def command(self, line: str, timeout: float = 60) -> tuple[int, str]:
        """Run ``line`` in the shell on the console; return its exit status and output."""
        mark = f"R{time.monotonic_ns()}"
        self.send(f"{line}; echo {mark[0]}''{mark[1:]}=$?=\n")
        # Between the echoed line and the mark lies the output.
        start = self._seen
        found = self.wait(rf"{mark}=(\d+)=", timeout)
        said = bytes(self._heard[start : self._seen]).decode("utf-8", "replace").replace("\r", "")
        body = said.split(f"{mark[1:]}=$?=", 1)[-1].rsplit(mark, 1)[0]
        return int(found[1]), body.removeprefix("\n")

    @property
    def running(self) -> bool:
        """True while qemu lives."""
        return self._process is not None and self._process.poll() is None

    def wait_end(self, timeout: float) -> int:
        """Wait until qemu ends by itself (power off); return its exit status."""
        if self._process is None:
            raise Error(f"{self.name}: not started")
        end = time.monotonic() + timeout
        while self.running:
            self._listen(0.2)
            if time.monotonic() > end:
                raise Error(f"{self.name}: still running after {timeout:g} s{self._tail()}")
        return self._process.returncode

    def cpu_seconds(self) -> float:
        """Return the processor time (user and system) that qemu has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """Cut the power."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._listen(0)
        if self._console is not None:
            self._console.close()
            self._console = None

    def _listen(self, timeout: float) -> bool:
        """Take in what the console says within ``timeout`` seconds; return True if it said something."""
        if self._console is None:
            return False
        if not select.select([self._console], [], [], timeout)[0]:
            return False
        try:
            said = self._console.recv(65536)
        except (BlockingIOError, ConnectionResetError):
            return False
        if not said:
            time.sleep(min(timeout, 0.05))
            return False
        self._heard += said
        with self.log.open("ab") as stream:
            stream.write(said)
        return True

    def _tail(self) -> str:
        lines = self._heard.decode("utf-8", "replace").replace("\r", "").splitlines()[-15:]
        own = self._errors.read_text(errors="replace").strip() if self._errors.exists() else ""
        return "\n".join(["", f"--- {self.log}", *lines, *([f"--- qemu: {own}"] if own else [])])
