"""`inv doctor`: what on this machine would stop a task, each with its remedy. Every check tries the real thing."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from openssi import qemu, run
from openssi.errors import CommandError, Error
from openssi_build import apt, chroot, signing
from openssi_build.caches import cache_directory
from openssi_build.repository import release
from openssi_build.settings import Settings

_LEAST_GB, _GOOD_GB = 4, 12  # a build alone; all tests and a trial cluster
_MACHINE_GB = 1.6  # what qemu takes for a node, emulated
_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Finding:
    """What a check found: ``state`` is ok, slow (it works, but not as well as it could) or problem."""

    check: str
    state: str
    said: str
    remedy: str = ""

    def line(self) -> str:
        """Return it as a line of a table."""
        return f"{self.state:<8} {self.check:<11} {self.said}" + (f" ({self.remedy})" if self.remedy else "")


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Check the interpreter's version."""
    said = ".".join(map(str, version))
    if version < _OLDEST_PYTHON:
        return Finding("python", "problem", f"{said}: expected 3.11 or newer", "use Debian 12 or 13")
    return Finding("python", "ok", said)


def packages(build_deps: Path) -> Finding:
    """Check that the Debian packages of the list ``build_deps`` are installed."""
    words = (line.split("#")[0].strip() for line in build_deps.read_text().splitlines())
    wanted = [word for word in words if word]
    known = run.status(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted])[1].decode()
    missing = [each for each in wanted if f"{each} installed" not in known.splitlines()]
    if missing:
        return Finding("packages", "problem", f"missing: {' '.join(missing)}", f"apt install {' '.join(missing)}")
    return Finding("packages", "ok", f"all {len(wanted)} of packaging/build-deps")


def namespaces() -> Finding:
    """Check that this user can make the namespaces of chroots and test networks."""
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    try:
        chroot.check_privileges()
        own = [] if os.geteuid() == 0 else ["--user", "--map-root-user", "--map-auto"]
        run.run(["unshare", *own, "--mount", "--pid", "--ipc", "--net", "--fork", "true"], timeout=30)
    except CommandError as problem:
        remedy = "in a container: start it privileged; else as root: sysctl kernel.unprivileged_userns_clone=1"
        restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
        if restricted.exists() and restricted.read_text().strip() == "1":
            remedy = "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        return Finding("namespaces", "problem", problem.message, remedy)
    except Error as problem:
        return Finding("namespaces", "problem", problem.message, problem.hint)
    return Finding("namespaces", "ok", f"as {who}")


def disk(check: str, directory: Path) -> Finding:
    """Check that there is room where ``directory`` lies."""
    free = shutil.disk_usage(directory).free / 1e9
    said = f"{directory}: {free:.0f} GB free"
    if not os.access(directory, os.W_OK):
        return Finding(check, "problem", f"{directory}: not writable", f"as root: chown {os.geteuid()} {directory}")
    if free < _LEAST_GB:
        return Finding(check, "problem", f"{said}, a build needs {_LEAST_GB}", "make room")
    if free < _GOOD_GB:
        return Finding(check, "slow", f"{said}, all tests and a trial cluster want {_GOOD_GB}", "make room")
    return Finding(check, "ok", said)


def memory(machines: int = 3, source: Path = Path("/proc/meminfo")) -> Finding:
    """Check that there is memory for a trial cluster of so many machines."""
    found = re.search(r"^MemAvailable: +(\d+) kB", source.read_text(), re.MULTILINE)
    free = int(found[1]) / 1e6 if found else 0
    wanted = machines * _MACHINE_GB
    said = f"{free:.1f} GB of memory free"
    if free < wanted:
        return Finding("memory", "slow", f"{said}, {machines} virtual machines want {wanted:.1f}", "end other programs")
    return Finding("memory", "ok", said)


def kvm(probe: Callable[[], str] = qemu.accelerator, device: Path = Path("/dev/kvm")) -> Finding:
    """Check by a real guest whether virtual machines run at full speed."""
    try:
        if probe() == "kvm":
            return Finding("kvm", "ok", "a guest ran under it")
    except Error as problem:
        return Finding("kvm", "problem", problem.message, problem.hint)
    if not device.exists():
        why, remedy = f"no {device}", "switch virtualization on in the firmware setup, or nested virtualization"
    elif not os.access(device, os.R_OK | os.W_OK):
        why, remedy = f"{device}: not ours to use", "as root: adduser YOU kvm, then log in again"
    else:
        why, remedy = f"{device} is there, but no guest runs under it", "modprobe kvm_intel or kvm_amd; dmesg tells why"
    return Finding("kvm", "slow", f"{why}: guests are emulated, about ten times slower", remedy)


def gpg(settings: Settings, root: Path) -> Finding:
    """Check that gpg makes a key and signs, and that the keys of [signing] are there."""
    try:
        with signing.Home() as home:
            home.generate("probe <probe@openssi.invalid>", expires="0")
        if signing.is_development(settings.signing):
            return Finding("gpg", "ok", "works; no keys in [signing], so a development key signs")
        with signing.signer(settings.signing, root) as signer:
            signer.clearsign(b"probe\n", int(time.time()))
            return Finding("gpg", "ok", f"signs with {', '.join(signer.fingerprints)}")
    except Error as problem:
        return Finding("gpg", "problem", problem.message, problem.hint or "see [signing] in openssi.toml")


def mirror(settings: Settings) -> Iterator[Finding]:
    """Check that Debian's mirror has the suite, and that our clock is not behind it."""
    suite = settings.repository.suite
    try:
        archive = apt.mirror(settings.repository).archive
    except Error as problem:
        yield Finding("mirror", "problem", problem.message, problem.hint)
        return
    uri = f"{archive}/dists/{suite}/InRelease"
    with tempfile.TemporaryDirectory(prefix="ossi-") as directory:
        target = Path(directory) / "InRelease"
        try:
            options = [
                "-o",
                "Acquire::Retries=0",
                "-o",
                "Acquire::http::Timeout=20",
                "-o",
                "Acquire::https::Timeout=20",
            ]
            run.run(["/usr/lib/apt/apt-helper", *options, "download-file", uri, target], timeout=90)
            text = target.read_bytes()
        except (Error, OSError) as problem:
            said = problem.message if isinstance(problem, Error) else str(problem)
            yield Finding(
                "mirror", "problem", f"{uri}: {said}", "repair /etc/apt, or set mirror or a proxy: see openssi.toml"
            )
            return
    yield Finding("mirror", "ok", f"{archive} has {suite}")
    yield clock(release.fields(text).get("Date", ""), time.time())


def clock(date: str, now: float) -> Finding:
    """Check that ``now`` is not before ``date``, the time at which the mirror's Release was made."""
    try:
        made = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Finding("clock", "problem", f"the mirror's Release has the date '{date}'", "use another mirror")
    if now < made - 10:
        return Finding(
            "clock", "problem", f"{(made - now) / 3600:.1f} hours behind the mirror", "set it: timedatectl set-ntp true"
        )
    return Finding("clock", "ok", time.strftime("%F %T UTC", time.gmtime(now)))


def examine(root: Path, settings: Settings) -> Iterator[Finding]:
    """Yield what each check finds, as it finds it."""
    yield python()
    yield packages(root / "packaging/build-deps")
    yield namespaces()
    (root / "out").mkdir(exist_ok=True)
    yield disk("out", root / "out")
    yield disk("cache", cache_directory(root))
    yield gpg(settings, root)
    yield from mirror(settings)
    yield memory()
    yield kvm()


def report(findings: Iterator[Finding], say: Callable[[str], None]) -> None:
    """Say each finding as it comes; raise Error when one of them is a problem."""
    problems = []
    for each in findings:
        say(each.line())
        if each.state == "problem":
            problems.append(each.check)
    if problems:
        raise Error(f"doctor: {len(problems)} to repair: {', '.join(problems)}")
