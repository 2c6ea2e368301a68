"""The machines of a trial cluster: a first node on a Debian disk, empty machines on the same private switch."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Self

from openssi import files, run
from openssi.errors import Error
from openssi.qemu import Machine, qemu_command
from openssi_build.lab import running
from openssi_build.lab.running import Powered, State

NETWORK = "10.10.0"
CARD = "enp0s17"  # the first node's on the interconnect, by its place: see first_command()
SERVICE = f"{NETWORK}.254"
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
FLOPPY = "netboot-amd64/current/images/etherboot.dsk"  # below the component's directory of the repository
HOST = "10.0.2.2"  # how a guest reaches this machine's loopback through qemu's user network


def mac(number: int) -> str:
    """Return the hardware address of machine ``number`` on the interconnect."""
    return f"52:54:00:0a:0a:{number:02x}"


def disk_command(base: Path, disk: Path) -> list[str | Path]:
    """Return the command that makes ``disk``: what is written to it stays apart from ``base``."""
    return ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.absolute(), disk]


def first_command(disk: Path, switch: Path, *, memory_mib: int = 1024, extra: Sequence[str] = ()) -> list[str]:
    """Return the qemu command of the first node: its disk, one card to the outside, one on the interconnect."""
    return [
        *qemu_command("node1", memory_mib=memory_mib),
        "-no-reboot",
        "-drive", f"if=none,id=disk,format=qcow2,file={disk},cache=unsafe,discard=unmap",
        "-device", "virtio-blk-pci,drive=disk,addr=0xf,bootindex=1",
        "-netdev", "user,id=outside,ipv6=off",
        "-device", "virtio-net-pci,netdev=outside,addr=0x10,romfile=",
        "-netdev", f"vde,id=inside,sock={switch}",
        "-device", f"virtio-net-pci,id=card,netdev=inside,addr=0x11,mac={mac(1)},romfile=",
        *extra,
    ]  # fmt: skip


def disk_words(*disks: Path) -> list[str]:
    """Return the words that give a machine SATA disks (raw images), the first one bootable after the network."""
    words = []
    for place, disk in enumerate(disks):
        words += ["-drive", f"if=none,id=sata{place},format=raw,file={disk},cache=unsafe"]
        words += ["-device", f"ide-hd,drive=sata{place},bus=ide.{place},bootindex={place + 2}"]
    return words


def floppy_words(floppy: Path) -> list[str]:
    """Return the words that give a machine a floppy drive with ``floppy`` in it."""
    drive = f"if=none,id=floppy,format=raw,file={floppy}"
    return ["-device", "isa-fdc,id=drives", "-drive", drive, "-device", "floppy,bus=drives.0,drive=floppy"]


def stick_words(stick: Path) -> list[str]:
    """Return the words that give a machine a USB stick."""
    drive = f"if=none,id=stick,format=raw,file={stick}"
    return ["-device", "qemu-xhci", "-drive", drive, "-device", "usb-storage,drive=stick"]


def floppy_command(number: int, switch: Path, floppy: Path, *, card: str = "rtl8139") -> list[str]:
    """Return the qemu command of an empty machine whose card cannot boot: it starts from a floppy (the old PC has a drive)."""
    return [
        *qemu_command(f"node{number}", memory_mib=768, machine="pc"),
        "-no-reboot",
        "-drive", f"if=floppy,format=raw,readonly=on,file={floppy}",
        "-boot", "a",
        "-netdev", f"vde,id=inside,sock={switch}",
        "-device", f"{card},id=card,netdev=inside,mac={mac(number)},romfile=",
    ]  # fmt: skip


def node_command(number: int, switch: Path, *, memory_mib: int = 768, extra: Sequence[str] = ()) -> list[str]:
    """Return the qemu command of an empty machine that boots from the interconnect."""
    return [
        *qemu_command(f"node{number}", memory_mib=memory_mib),
        "-no-reboot",
        "-netdev", f"vde,id=inside,sock={switch}",
        "-device", f"virtio-net-pci,id=card,netdev=inside,addr=0x11,mac={mac(number)},bootindex=1",
        *extra,
    ]  # fmt: skip


def uefi_words(directory: Path, number: int) -> list[str]:
    """Return the words that give a machine UEFI firmware, with its own variables in ``directory``."""
    variables = directory / f"node{number}.vars"
    if not FIRMWARE.exists():
        raise Error(f"{FIRMWARE}: not there", hint="apt install ovmf")
    shutil.copyfile(VARIABLES, variables)
    return [
        "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}",
        "-drive", f"if=pflash,format=raw,file={variables}",
    ]  # fmt: skip


@dataclass
class Lab:
    """A directory with a switch, a server of the repository and machines; all end with the ``with`` block.

    With ``lasting`` they go on when it ends well. What runs is written down in the directory: see running.py.
    """

    directory: Path
    repo: Path
    lasting: bool = False
    machines: dict[int, Machine] = field(default_factory=dict)
    _commands: dict[int, list[str]] = field(default_factory=dict)
    _server: Popen[bytes] | None = None
    port: int = 0

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start_switch()
            self._serve()
            self._remember()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.lasting and kind is None:
            for machine in self.machines.values():
                machine.detach()
        else:
            self.stop()

    def stop(self) -> None:
        """Cut the power of everything."""
        for machine in self.machines.values():
            machine.kill()
        if self._server:
            run.stop(self._server)
        running.kill(self._switch_pids(), self.directory)
        running.end(self.directory)

    def _remember(self) -> None:
        machines = {n: Powered(each.pid, self._commands[n]) for n, each in self.machines.items()}
        helpers = {"switch": self._switch_pids()[0], "repository": self._server.pid if self._server else 0}
        running.remember(self.directory, State(helpers, machines))

    @property
    def switch(self) -> Path:
        """The switch's directory of sockets."""
        return self.directory / "switch"

    @property
    def url(self) -> str:
        """The repository as the first node reaches it."""
        return f"http://{HOST}:{self.port}"

    def _start_switch(self) -> None:
        shutil.rmtree(self.switch, ignore_errors=True)
        # In the foreground it ends with its standard input.
        run.run(["vde_switch", "-sock", self.switch, "-daemon", "-pidfile", self._switch_pid])
        _until((self.switch / "ctl").exists, "vde_switch", self.directory)

    @property
    def _switch_pid(self) -> Path:
        return self.directory / "switch.pid"

    def _switch_pids(self) -> list[int]:
        with contextlib.suppress(OSError, ValueError):
            return [int(self._switch_pid.read_text())]
        return []

    def _serve(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        # By a link here: the command line tells whose server it is.
        files.symlink(self.repo.absolute(), self.directory / "repository")
        argv: list[str | Path] = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
        argv += ["--directory", self.directory / "repository", str(self.port)]
        self._server = run.start([*self._ending, *argv], log_to=self.directory / "repository.log")
        _until(lambda: _answers(self.port), "http.server", self.directory / "repository.log")

    @property
    def _ending(self) -> Sequence[str]:
        return () if self.lasting else run.ENDING

    def first(self, base: Path, *, extra: Sequence[str] = ()) -> Machine:
        """Start the first node on a copy of the disk ``base``, with these words more for qemu."""
        disk = self.directory / "node1.qcow2"
        run.run(disk_command(base, disk))
        return self.start(1, first_command(disk, self.switch, extra=extra))

    def command(self, number: int, way: str) -> list[str]:
        """Return the qemu command of an empty machine that boots by pxe, uefi, or etherboot (the repository's floppy)."""
        if way == "etherboot":
            floppy = next(self.repo.glob(f"dists/*/*/{FLOPPY}"), None)
            if floppy is None:
                raise Error(f"{self.repo}: no {FLOPPY}", hint="inv build-repo")
            return floppy_command(number, self.switch, floppy, card="virtio-net-pci")
        extra = uefi_words(self.directory, number) if way == "uefi" else ()
        return node_command(number, self.switch, extra=extra)

    def rebooted(self, number: int, *, timeout: float = 600) -> Machine:
        """Wait until machine ``number`` ends by its reboot, and start it again.

        qemu's tcg at times hangs when a guest resets the machine, so that a reboot ends it here (-no-reboot).
        """
        machine = self.machines[number]
        machine.wait_end(timeout)
        machine.detach()
        machine.start()
        self._remember()
        return machine

    def start(self, number: int, argv: Sequence[str]) -> Machine:
        """Start machine ``number`` with the qemu command ``argv``; what one of that number said before is kept."""
        log = self.directory / f"node{number}.log"
        if log.exists():
            log.rename(log.with_suffix(f".{len(list(self.directory.glob(f'node{number}.*.log')))}.log"))
        machine = Machine(f"node{number}", [*self._ending, *argv], self.directory, lasting=True)
        self.machines[number], self._commands[number] = machine, list(argv)
        machine.start()
        self._remember()
        return machine


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _until(ready: Callable[[], bool], what: str, log: Path) -> None:
    end = time.monotonic() + 20
    while not ready():
        if time.monotonic() > end:
            raise Error(f"{what}: not ready after 20 s: see {log}")
        time.sleep(0.05)
