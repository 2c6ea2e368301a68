"""mkinitrd: make, list, explain and try the initrd of netbooted nodes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from openssi import commands
from openssi.errors import Error
from openssi.initrd import build, codecs, drivers
from openssi.kernel.modules import Modules, modules

_PARTS = Path("usr/share/openssi/initrd")
_CACHE = Path("var/cache/openssi/initrd")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="mkinitrd",
        description="Make the initrd of nodes that boot from the network.",
        # Without a width each option would ask for the terminal's.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
    )
    made.add_argument("version", nargs="?", metavar="KERNEL-VERSION", help="default: the running kernel")
    made.add_argument("-k", "--kernel", metavar="VERSION", help="the same, as an option")
    made.add_argument("-o", "--output", type=Path, metavar="IMAGE", help="default: /boot/openssi-initrd.img-VERSION")
    made.add_argument("-d", "--config", type=Path, metavar="DIR", help="default: /etc/mkinitrd")
    made.add_argument("-c", "--compress", default="zstd", metavar="CODEC", help="zstd (default), gzip, xz, lz4, none")
    made.add_argument(
        "--microcode", type=Path, action="append", default=[], metavar="CPIO", help="put this archive first"
    )
    made.add_argument("--overlay", type=Path, action="append", default=[], metavar="CPIO", help="append this archive")
    made.add_argument("--strict", action="store_true", help="missing firmware is an error")
    made.add_argument("-n", "--dry-run", action="store_true", help="say what would be made, write nothing")
    made.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors")
    made.add_argument("--json", action="store_true", help="reports, tables and lists as JSON")
    what = made.add_mutually_exclusive_group()
    what.add_argument("--report", action="store_true", help="say what the image holds and why")
    what.add_argument("--list", type=Path, metavar="IMAGE", help="list the files of any initrd")
    what.add_argument(
        "--list-drivers", nargs="?", const="", metavar="ID|NAME", help="list the kernel's network drivers"
    )
    what.add_argument("--verify", action="store_true", help="boot the image in qemu with each network card")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command; return 0, or 1 when a card did not come to a lease."""
    options = parser().parse_args(argv)
    if options.list:
        return _list(options.list)
    root = commands.root()
    if options.version and options.kernel and options.version != options.kernel:
        raise Error(f"two kernels: {options.version} and --kernel {options.kernel}", hint="name one")
    version = options.version or options.kernel or os.uname().release
    kernel = modules(root, version)
    if options.list_drivers is not None:
        return list_drivers(kernel, options.list_drivers, as_json=options.json)
    output = options.output or root / f"boot/openssi-initrd.img-{version}"
    if options.verify:
        return _verify(root, kernel, output, as_json=options.json)
    return _make(options, root, kernel, output)


def _inputs(options: argparse.Namespace, root: Path, kernel: Modules) -> build.Inputs:
    if options.compress not in codecs.CODECS:
        raise Error(f"--compress {options.compress}: expected one of {', '.join(codecs.CODECS)}")
    wishes = drivers.read((options.config or root / "etc/mkinitrd") / "modules")
    cache = root / _CACHE
    return build.Inputs(
        kernel=kernel,
        chosen=drivers.choose(wishes, kernel),
        busybox=build.busybox(root),
        parts=root / _PARTS,
        firmware=tuple(build.firmware_directories(root, kernel)),
        microcode=tuple(options.microcode),
        overlays=tuple(options.overlay),
        codec=options.compress,
        cache=cache if os.access(cache, os.W_OK) else None,
    )


def _make(options: argparse.Namespace, root: Path, kernel: Modules, output: Path) -> int:
    from openssi import files
    from openssi.initrd import report

    if not output.parent.is_dir():
        raise Error(f"{output}: no directory {output.parent}")
    inputs = _inputs(options, root, kernel)
    content = build.plan(inputs)
    for note in inputs.chosen.notes:
        _say(options, f"mkinitrd: {note}")
    lacking = list(report.missing_lines(content.missing))
    if lacking and options.strict:
        raise Error("--strict: " + "; ".join(lacking))
    for line in lacking:
        print(f"mkinitrd: warning: {line}", file=sys.stderr)
    image = build.image(inputs, content)
    if not options.dry_run:
        files.write(output, image)
    if options.report:
        data = json.dumps(report.summary(content, len(image)), indent=2) if options.json else None
        print(data or "\n".join(report.lines(content, len(image))))
    verb = "would write" if options.dry_run else "wrote"
    _say(options, f"mkinitrd: {verb} {output}: {len(content.modules)} modules, {len(image):,} bytes")
    return 0


def _say(options: argparse.Namespace, line: str) -> None:
    if not options.quiet and not options.json:
        print(line)


def _list(path: Path) -> int:
    from openssi.initrd import report

    try:
        image = path.read_bytes()
    except OSError as problem:
        raise Error(f"{path}: {problem.strerror}") from None
    for line in report.listing(image, str(path)):
        print(line)
    return 0


def list_drivers(kernel: Modules, wanted: str, *, as_json: bool) -> int:
    """Print the network drivers of ``kernel`` that ``wanted`` fits; return 1 when there is none."""
    from dataclasses import asdict

    from openssi.kernel import nics

    found = nics.matching(kernel, wanted)
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=2))
    for each in found if not as_json else []:
        print(f"{each.module:<16} {each.description}")
        if wanted:
            print(f"  ids: {' '.join(each.ids) or 'none'}")
            for name in each.firmware:
                print(f"  firmware: {name}")
        if each.packages:
            print(f"  firmware package: {' '.join(each.packages)}")
    if not found:
        print(f"kernel {kernel.version}: no driver for {wanted or 'any network card'}", file=sys.stderr)
    return 0 if found else 1


def _verify(root: Path, kernel: Modules, image: Path, *, as_json: bool) -> int:
    from openssi.initrd import verify

    if not image.is_file():
        raise Error(f"{image}: no such image", hint="make it first, without --verify")
    held = {
        Path(entry.name).name.partition(".ko")[0].replace("-", "_")
        for segment in codecs.segments(image.read_bytes(), str(image))
        for entry in segment.entries
        if ".ko" in entry.name
    }
    results = []
    for result in verify.verify(root / f"boot/vmlinuz-{kernel.version}", image, held):
        results.append(result)
        if not as_json:
            print(f"{result.card:<16} {result.module:<12} {'lease' if result.lease else 'FAILED'} {result.seconds:6.1f} s"
                  f"{'  ' + result.words if result.words else ''}", flush=True)  # fmt: skip
    if as_json:
        print(json.dumps([result.data() for result in results], indent=2))
    if not results:
        raise Error(f"{image}: qemu emulates no card that a driver in it is for")
    return 0 if all(result.lease for result in results) else 1
