"""What a Release says, and whether apt would take it: fields, dates, listed hashes."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from openssi.errors import Error
from openssi_build.repository.release import Index

# Strongest first, by their names in Release; and as hashlib calls them.
HASHES = {"SHA512": "sha512", "SHA256": "sha256", "SHA1": "sha1", "MD5Sum": "md5"}
STRONG = ("SHA512", "SHA256")
COMPRESSED = ("xz", "gz", "zst", "bz2", "lz4", "lzma")
# apt's own tolerance for the clock of the publisher (Acquire::Max-FutureTime).
_FUTURE = 10
DAY = 86400


@dataclass(frozen=True)
class Release:
    """A Release: its one-line fields, and what it lists by hash and path."""

    fields: Mapping[str, str]
    listed: Mapping[str, Mapping[str, Index]] = field(default_factory=dict)  # by the hash's name in Release

    @property
    def strongest(self) -> str:
        """The strongest hash that is listed: apt asks by-hash for files by this one, whatever others there are."""
        return next((name for name in HASHES if self.listed.get(name)), "")

    @property
    def indexes(self) -> Mapping[str, Index]:
        """What is listed by the strongest hash."""
        return self.listed.get(self.strongest, {})

    @property
    def by_hash(self) -> bool:
        """Whether clients ask for indexes by their hash."""
        return self.fields.get("Acquire-By-Hash", "").lower() == "yes"

    def words(self, name: str) -> list[str]:
        """Return the words of a field."""
        return self.fields.get(name, "").split()


def parse(text: bytes) -> Release:
    """Return the Release in ``text``; Error when a line of it is none."""
    fields: dict[str, str] = {}
    listed: dict[str, dict[str, Index]] = {}
    section = ""
    for line in text.decode("utf-8", "replace").splitlines():
        if not line.startswith(" "):
            section, colon, value = line.partition(":")
            if not colon:
                raise Error(f"not of the form 'Name: value': {line[:40]!r}")
            fields[section] = value.strip()
        elif section in HASHES:
            match = re.fullmatch(r" *([0-9a-f]+) +([0-9]+) +(\S+)", line)
            if not match:
                raise Error(f"{section}: not a hash, a size and a path: {line[:80]!r}")
            # The hash is kept where the class says SHA256: it is that of the section.
            listed.setdefault(section, {})[match[3]] = Index(int(match[2]), match[1])
    return Release(fields, listed)


def _time(release: Release, name: str) -> float | None:
    value = release.fields.get(name, "")
    if not value:
        return None
    try:
        return email.utils.parsedate_to_datetime(value.replace("UTC", "+0000")).timestamp()
    except ValueError:
        raise Error(f"{name}: '{value}' is no date") from None


def faults(release: Release, suite: str, now: float) -> list[str]:
    """Return what apt holds against the fields of ``release`` for the suite ``suite`` (empty for a flat repository)."""
    found = []
    try:
        date, until = _time(release, "Date"), _time(release, "Valid-Until")
    except Error as problem:
        return [str(problem)]
    if date is None:
        found.append("no Date: apt warns")
    elif date > now + _FUTURE:
        found.append(f"Date is {date - now:.0f} s in the future: apt refuses it until then")
    if until is not None and until < now:
        found.append(f"expired {(now - until) / DAY:.1f} days ago: Valid-Until is {release.fields['Valid-Until']}")
    names = {release.fields.get("Suite"), release.fields.get("Codename")} - {None}
    if not names:
        found.append("neither Suite nor Codename: apt warns")
    elif suite and suite not in names:
        found.append(f"Suite and Codename are {' and '.join(sorted(map(str, names)))}, but clients ask for {suite}")
    if not release.strongest:
        found.append("no hash of any index is listed")
    elif release.strongest not in STRONG:
        found.append(f"{release.strongest} is the strongest hash that is listed: apt wants SHA256 or SHA512")
    for name, index in release.indexes.items():
        plain = name.rpartition(".")[0]
        if name.rpartition(".")[2] in COMPRESSED and plain not in release.indexes and index.size:
            found.append(f"{plain} itself is not listed, only {name}: apt finds no packages and says nothing")
    return found


def left(release: Release, now: float) -> str:
    """Return for how long clients will trust ``release``, in words."""
    until = _time(release, "Valid-Until")
    return "no Valid-Until" if until is None else f"valid for {(until - now) / DAY:.1f} days more"
