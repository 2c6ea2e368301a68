"""One qemu machine with its serial console: start it, wait for what it says, type, end it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
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
_SOCKET_PATH = 107  # unix(7)
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # ECMA-48 control sequences


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


def _console(console: str, monitor: str) -> list[str]:
    """Return the words for a serial console and a monitor on these character devices."""
    return [
        "-chardev",
        console,
        "-serial",
        "chardev:console",
        "-chardev",
        monitor,
        "-mon",
        "chardev=monitor,mode=control",
    ]


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


class Machine:
    """A running qemu whose serial console is ours.

    ``argv`` is the whole qemu command but for the console. In ``directory`` (made if need be) lie
    ``<name>.log``, all that the console said, and ``<name>.err``, what qemu said. With ``lasting`` console and monitor
    are sockets in that directory and the guest outlives us: attach() takes it up again, detach() lets it go.
    """

    def __init__(
        self, name: str, argv: Sequence[str | os.PathLike[str]], directory: Path, *, lasting: bool = False
    ) -> None:
        self.name = name
        self.directory = directory
        self.log = directory / f"{name}.log"
        self._errors = directory / f"{name}.err"
        self._argv = list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._console: socket.socket | None = None
        self._monitor: socket.socket | None = None
        self._lasting = lasting
        self._started = False
        self._heard = bytearray()
        self._known = 0  # how much of it _listen() has told of
        self._seen = 0  # where the next wait() starts
        self._news = threading.Condition()

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
        if not self._started:
            self.log.write_bytes(b"")
        self._started = True
        with self._news:
            self._heard.clear()
            self._known = self._seen = 0
        if self._lasting:
            self._start_lasting()
            return
        # A socket's path is limited to 107 bytes; descriptors are not.
        pairs = [socket.socketpair() for _ in range(2)]
        fds = [theirs.fileno() for _, theirs in pairs]
        words = [f"socket,id=console,fd={fds[0]}", f"socket,id=monitor,fd={fds[1]}"]
        try:
            argv = [*run.ENDING, *self._argv, *_console(*words)]
            self._process = run.start(argv, log_to=self._errors, pass_fds=fds)
        finally:
            for _, theirs in pairs:
                theirs.close()
        (console, _), (self._monitor, _) = pairs
        self._take(console)

    def _take(self, console: socket.socket) -> None:
        self._console = console
        threading.Thread(target=self._read, args=(console,), name=f"console of {self.name}", daemon=True).start()

    @property
    def console_socket(self) -> Path:
        """Where the console of a lasting machine listens."""
        return self.directory / f"{self.name}.console"

    @property
    def monitor_socket(self) -> Path:
        """Where the monitor (QMP) of a lasting machine listens."""
        return self.directory / f"{self.name}.monitor"

    def _start_lasting(self) -> None:
        for path in (self.console_socket, self.monitor_socket):
            if len(os.fsencode(path)) > _SOCKET_PATH:
                raise Error(f"{path}: over {_SOCKET_PATH} bytes, too long for a socket", hint="use a shorter directory")
            path.unlink(missing_ok=True)
        words = [
            f"socket,id=console,path={self.console_socket},server=on,wait=off,logfile={self.log},logappend=on",
            f"socket,id=monitor,path={self.monitor_socket},server=on,wait=off",
        ]
        self._process = run.start([*self._argv, *_console(*words)], log_to=self._errors)
        end = time.monotonic() + _PROBE_S
        while not (self.console_socket.exists() and self.monitor_socket.exists()):
            if self._process.poll() is not None or time.monotonic() > end:
                raise Error(f"{self.name}: qemu did not start{self._tail()}")
            time.sleep(0.02)
        self.attach()

    def attach(self) -> None:
        """Take up a lasting machine that runs: connect to its console and monitor; Error when nobody is there."""
        try:
            console, self._monitor = _connect(self.console_socket), _connect(self.monitor_socket)
        except OSError as problem:
            raise Error(f"{self.name}: no running machine ({problem.strerror})", hint="inv lab starts it") from None
        self._take(console)

    def detach(self) -> None:
        """Let go of the console and the monitor; a lasting machine runs on."""
        console, monitor = self._console, self._monitor
        self._console = self._monitor = None
        if console is not None:
            with contextlib.suppress(OSError):
                console.shutdown(socket.SHUT_RDWR)  # its reader closes it
        if monitor is not None:
            monitor.close()

    def monitor(self, command: str, **arguments: object) -> object:
        """Carry out a QMP ``command`` and return what it returns (QEMU QMP Reference Manual); Error when it fails."""
        if self._monitor is None:
            raise Error(f"{self.name}: not started")
        self._monitor.settimeout(30)
        stream = self._monitor.makefile("rw", encoding="utf-8")
        for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            answer: dict[str, object] = {}
            while "return" not in answer and "error" not in answer:
                line = stream.readline()
                if not line:
                    raise Error(f"{self.name}: the monitor is gone{self._tail()}")
                answer = json.loads(line)  # beside answers: the greeting and events
        if "error" in answer:
            raise Error(f"{self.name}: {command}: {answer['error']}")
        return answer["return"]

    def set_link(self, device: str, up: bool) -> None:
        """Plug the cable of the network ``device`` (its id) in, or pull it."""
        self.monitor("set_link", name=device, up=up)

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
            self._console.sendall(data[at : at + 64])
            if len(data) > 64:
                time.sleep(0.05)

    def command(self, line: str, timeout: float = 60) -> tuple[int, str]:
        """Run ``line`` in the shell on the console; return its exit status and output, without a terminal's colours."""
        mark = f"R{time.monotonic_ns()}"
        self.send(f"{line}; echo {mark[0]}''{mark[1:]}=$?=\n")
        # Between the echoed line and the mark lies the output. A line typed before the prompt is echoed twice:
        # by the terminal at once, and by the shell's line editor when it takes it up.
        start = self._seen
        found = self.wait(rf"{mark}=(\d+)=", timeout)
        said = bytes(self._heard[start : self._seen]).decode("utf-8", "replace").replace("\r", "")
        body = said.rsplit(f"{mark[1:]}=$?=", 1)[-1].rsplit(mark, 1)[0]
        return int(found[1]), _COLOUR.sub("", body).removeprefix("\n")

    @property
    def running(self) -> bool:
        """True while qemu lives; of a machine that was attached to: as long as its console is there."""
        if self._process is None:
            return self._console is not None
        return self._process.poll() is None

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
        self.detach()

    def _listen(self, timeout: float) -> bool:
        """Wait until the console says something more, at most ``timeout`` seconds; return True if it did."""
        with self._news:
            known = len(self._heard)
            if timeout and known <= self._known:
                self._news.wait_for(lambda: len(self._heard) > known or self._console is None, timeout)
            self._known, known = len(self._heard), self._known
            return self._known > known

    def _read(self, console: socket.socket) -> None:
        """Take in all that the console says: a guest whose serial line nobody reads stands still."""
        while True:
            try:
                said = console.recv(65536)
            except OSError:
                said = b""
            with self._news:
                self._heard += said
                if not said:
                    if self._console is console:
                        self._console = None
                    console.close()
                    self._news.notify_all()
                    return
                self._news.notify_all()
            if not self._lasting:  # else qemu writes the log
                with self.log.open("ab") as stream:
                    stream.write(said)

    def _tail(self) -> str:
        lines = self._heard.decode("utf-8", "replace").replace("\r", "").splitlines()[-15:]
        own = self._errors.read_text(errors="replace").strip() if self._errors.exists() else ""
        return "\n".join(["", f"--- {self.log}", *lines, *([f"--- qemu: {own}"] if own else [])])
