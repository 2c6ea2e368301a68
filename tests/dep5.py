"""The machine-readable debian/copyright (DEP-5, format 1.0), read by debian-inspector and held against the tree."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from debian_inspector.copyright import (
    CopyrightFilesParagraph,
    CopyrightHeaderParagraph,
    CopyrightLicenseParagraph,
    DebianCopyright,
)

_FORMAT = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"


def faults(text: str, files: Collection[str]) -> list[str]:
    """Return what is wrong with the copyright file ``text`` of a source package that has ``files``."""
    return list(_faults(DebianCopyright.from_text(text), files))


def _faults(read: DebianCopyright, files: Collection[str]) -> Iterator[str]:
    of_kind = {
        kind: [each for each in read.paragraphs if isinstance(each, kind)]
        for kind in (CopyrightHeaderParagraph, CopyrightFilesParagraph, CopyrightLicenseParagraph)
    }
    headers, stanzas, licenses = of_kind.values()
    if not headers or headers[0].format.value != _FORMAT:
        yield f"Format: expected {_FORMAT} in the first stanza"
    for each in read.paragraphs:
        if not any(each in known for known in of_kind.values()):
            yield f"a stanza that is none of header, Files and License: {each.dumps().splitlines()[0]}"
        elif each.extra_data:
            yield f"unknown field {', '.join(each.extra_data)}"
    yield from _files(stanzas, files)
    yield from _licenses(stanzas, licenses)


def _files(stanzas: list[CopyrightFilesParagraph], files: Collection[str]) -> Iterator[str]:
    left = set(files)
    for each in stanzas:
        for pattern in each.files.values:
            matching = {name for name in files if _pattern(pattern).fullmatch(name)}
            if not matching:
                yield f"Files: {pattern}: no such file"
            left -= matching
        if not each.copyright.statements:
            yield f"Files: {' '.join(each.files.values)}: no Copyright"
    if left:
        yield f"no stanza is about {', '.join(sorted(left)[:5])}"


def _pattern(glob: str) -> re.Pattern[str]:
    """Return the regular expression of a DEP-5 pattern: ``*`` and ``?`` match slashes too, a backslash quotes."""
    parts = re.findall(r"\\.|.", glob, re.DOTALL)
    return re.compile("".join({"*": ".*", "?": "."}.get(each) or re.escape(each[-1]) for each in parts), re.DOTALL)


def _licenses(stanzas: list[CopyrightFilesParagraph], licenses: list[CopyrightLicenseParagraph]) -> Iterator[str]:
    texts = {each.license.name for each in (*stanzas, *licenses) if each.license.text}
    used = {name for each in stanzas for name in re.split(r",?\s+(?:and|or)\s+", each.license.name or "")}
    for name in sorted(used - texts):
        yield f"License: {name}: its text is nowhere" if name else "Files without License"
    for name in sorted(each.license.name for each in licenses if each.license.name not in used):
        yield f"License: {name}: no Files stanza uses it"
