"""What an image holds and why, and what anybody's initrd holds: text for people, dictionaries for programs."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator

from openssi.initrd import codecs
from openssi.initrd.build import Content
from openssi.initrd.firmware import Missing


def summary(content: Content, size: int) -> dict[str, object]:
    """Return what the image holds as JSON-able data; sizes are bytes as stored before the outer compression."""
    return {
        "size": size,
        "modules": [
            {"name": name, "size": path.stat().st_size, "why": content.why[name]}
            for name, path in content.modules.items()
        ],
        "firmware": [{"name": name, "size": path.stat().st_size} for name, path in content.firmware.items()],
        "missing-firmware": [
            {"module": each.module, "name": each.name, "package": each.package} for each in content.missing
        ],
        "base": [
            {"name": entry.name, "size": len(entry.content)}
            for entry in content.packed
            if entry.content and not entry.name.startswith("lib/firmware/")
        ],
    }


def lines(content: Content, size: int) -> Iterator[str]:
    """Yield the report of mkinitrd --report: modules with their reason, firmware, the rest, each with its size."""
    yield f"image: {size:,} bytes, dated {time.strftime('%F %T UTC', time.gmtime(content.date))}"
    yield f"modules: {len(content.modules)}, {sum(path.stat().st_size for path in content.modules.values()):,} bytes"
    for name, path in content.modules.items():
        yield f"  {path.stat().st_size:>10,}  {name:<24} {content.why[name]}"
    yield f"firmware: {len(content.firmware)}, {sum(path.stat().st_size for path in content.firmware.values()):,} bytes"
    for name, path in content.firmware.items():
        yield f"  {path.stat().st_size:>10,}  {name}"
    rest = [each for each in content.packed if each.content and not each.name.startswith(("lib/firmware/", "lib/mod"))]
    yield f"base: {len(rest)}, {sum(len(each.content) for each in rest):,} bytes before compression"
    for entry in rest:
        yield f"  {len(entry.content):>10,}  {entry.name}"
    yield from missing_lines(content.missing)


def missing_lines(missing: tuple[Missing, ...]) -> Iterator[str]:
    """Yield a line a driver that lacks firmware, with the Debian packages that have it."""
    by_module: dict[str, list[Missing]] = {}
    for each in missing:
        by_module.setdefault(each.module, []).append(each)
    for module, lacking in by_module.items():
        names = [each.name for each in lacking]
        shown = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
        packages = sorted({each.package for each in lacking if each.package})
        remedy = f"apt install {' '.join(packages)}" if packages else "no Debian package is known to have it"
        yield f"{module}: some devices need firmware that is not installed: {shown} ({remedy})"


def listing(image: bytes, where: str) -> Iterator[str]:
    """Yield every file of an initrd, one a line as ls -l has it, under a line for each of its archives."""
    for number, segment in enumerate(codecs.segments(image, where), 1):
        yield f"archive {number}: {segment.codec}, {segment.size:,} bytes, {len(segment.entries)} entries"
        for entry in segment.entries:
            target = f" -> {entry.content.decode('utf-8', 'replace')}" if stat.S_ISLNK(entry.mode) else ""
            yield f"{stat.filemode(entry.mode)} {len(entry.content):>10} {entry.name}{target}"
