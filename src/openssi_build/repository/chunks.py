"""An index as a sorted run of items that is cut into chunks where its own content says so.

A cut depends only on what lies between it and the cut before, so a new item changes the chunk it falls into and
leaves the rest byte for byte as they were. Compressed chunks are kept by content and used again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol
from zlib import crc32

Key = bytes


class Form(NamedTuple):
    """What the items of an index are: how a text is split into them, and by what they are sorted."""

    split: Callable[[bytes], list[bytes]]
    key: Callable[[bytes], Key]
    target: int  # mean bytes of a chunk: small ones change cheaply, big ones compress well
    effort: int  # of compression, 1 to 9


class Chunk(NamedTuple):
    """One chunk: the name of its text in the store, its size and the key of its first item."""

    name: str
    size: int
    first: Key


class Texts(Protocol):
    """Where the texts of chunks are kept by content."""

    def text(self, name: str) -> bytes:
        """Return the text that put() gave ``name``."""

    def put(self, text: bytes) -> str:
        """Keep ``text`` and return its name."""


def cuts_before(item: bytes, size: int, target: int) -> bool:
    """Return True when a chunk that has ``size`` bytes ends before ``item``."""
    if size < target // 2:
        return False
    # As likely as the item is long, so that a chunk's mean size does not depend on how long items are.
    return size + len(item) > 2 * target or crc32(item) % (target // 2) < len(item)


def cut(items: Iterable[bytes], target: int) -> Iterator[list[bytes]]:
    """Yield the items of each chunk in turn."""
    size = 0
    chunk: list[bytes] = []
    for item in items:
        if chunk and cuts_before(item, size, target):
            yield chunk
            size = 0
            chunk = []
        chunk.append(item)
        size += len(item)
    if chunk:
        yield chunk


class Table:
    """A sorted index in chunks; it is never changed, edit() returns another one."""

    def __init__(self, form: Form, chunks: tuple[Chunk, ...], texts: Texts) -> None:
        self.form = form
        self.chunks = chunks
        self._texts = texts
        self._firsts = [chunk.first for chunk in chunks]

    @classmethod
    def build(cls, form: Form, items: Iterable[bytes], texts: Texts) -> Table:
        """Return the table of ``items``, which come sorted by key."""
        chunks = [_kept(form, chunk, texts) for chunk in cut(items, form.target)]
        return cls(form, tuple(chunks), texts)

    def items(self) -> Iterator[bytes]:
        """Yield all items in order."""
        for chunk in self.chunks:
            yield from self._items(chunk)

    def _items(self, chunk: Chunk) -> list[bytes]:
        return self.form.split(self._texts.text(chunk.name))

    def _span(self, key: Key) -> range:
        """Return the chunks that hold ``key``, or the one that it falls into."""
        first = max(bisect_left(self._firsts, key) - 1, 0)
        return range(first, max(bisect_right(self._firsts, key), first + 1))

    def find(self, keys: Iterable[Key]) -> dict[Key, list[bytes]]:
        """Return the items that have each of ``keys``, in their order; every chunk is read once."""
        wanted: dict[Key, list[bytes]] = {key: [] for key in keys}
        touched = {number for key in wanted for number in self._span(key) if self.chunks}
        for number in sorted(touched):
            for item in self._items(self.chunks[number]):
                key = self.form.key(item)
                if key in wanted:
                    wanted[key].append(item)
        return wanted

    def edit(self, changes: Mapping[Key, list[bytes]]) -> Table:
        """Return the table in which the items of each key of ``changes`` are the given ones, and no other."""
        if not changes:
            return self
        if not self.chunks:
            items = [item for key in sorted(changes) for item in changes[key]]
            return Table.build(self.form, items, self._texts)
        return Table(self.form, tuple(self._edited(changes)), self._texts)

    def _edited(self, changes: Mapping[Key, list[bytes]]) -> Iterator[Chunk]:
        spans = {key: self._span(key) for key in changes}
        touched = {number for span in spans.values() for number in span}
        new: dict[int, list[Key]] = {}
        for key, span in spans.items():
            new.setdefault(span[0], []).append(key)
        open_items: list[bytes] = []  # behind the last certain cut
        for number, chunk in enumerate(self.chunks):
            items = self._items(chunk) if open_items or number in touched else []
            if number in touched:
                items = _merged(self.form, items, changes, new.get(number, []))
            elif not open_items or not self._continues(open_items, items[0]):
                if open_items:
                    yield _kept(self.form, open_items, self._texts)
                open_items = []
                yield chunk
                continue
            *done, open_items = [*cut([*open_items, *items], self.form.target)] or [[]]
            yield from (_kept(self.form, each, self._texts) for each in done)
        if open_items:
            yield _kept(self.form, open_items, self._texts)

    def _continues(self, items: list[bytes], following: bytes) -> bool:
        return not cuts_before(following, sum(map(len, items)), self.form.target)


def _kept(form: Form, items: list[bytes], texts: Texts) -> Chunk:
    text = b"".join(items)
    return Chunk(texts.put(text), len(text), form.key(items[0]))


def _merged(form: Form, items: list[bytes], changes: Mapping[Key, list[bytes]], new: list[Key]) -> list[bytes]:
    """Return ``items`` without those whose key is in ``changes``, and with those of the keys ``new``."""
    keyed = [(key, item) for item in items if (key := form.key(item)) not in changes]
    keyed += [(key, item) for key in new for item in changes[key]]
    keyed.sort(key=lambda pair: pair[0])  # stable: items of one key keep the order they were given in
    return [item for _, item in keyed]
