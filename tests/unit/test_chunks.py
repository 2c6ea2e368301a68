import random
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from openssi_build.repository.chunks import Form, Table, cut


class Memory:
    """Texts by content, in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}

    def text(self, name: str) -> bytes:
        return self.texts[name]

    def put(self, text: bytes) -> str:
        name = sha256(text).hexdigest()
        self.texts[name] = text
        return name


FORM = Form(lambda text: text.splitlines(keepends=True), lambda line: line.split(b" ")[0], 400, 6)
keys = st.binary(min_size=1, max_size=3).map(bytes.hex).map(str.encode)
lines = st.lists(st.integers(0, 10**9), max_size=3).map(lambda tails: [b"%d" % tail for tail in tails])


def as_items(content: dict[bytes, list[bytes]]) -> list[bytes]:
    return [b"%s %s\n" % (key, tail) for key in sorted(content) for tail in content[key]]


@given(st.dictionaries(keys, lines, max_size=200), st.dictionaries(keys, lines, max_size=8), st.randoms())
def test_editing_gives_exactly_what_building_anew_gives(
    content: dict[bytes, list[bytes]], new: dict[bytes, list[bytes]], chance: random.Random
) -> None:
    store = Memory()
    table = Table.build(FORM, as_items(content), store)
    gone = chance.sample(sorted(content), min(len(content), 3))
    changes = {**{key: [] for key in gone}, **new}
    edited = table.edit({key: as_items({key: tails}) for key, tails in changes.items()})
    expected = as_items({**content, **changes})
    assert list(edited.items()) == expected
    assert edited.chunks == Table.build(FORM, expected, store).chunks
    assert edited.find(changes) == {key: as_items({key: tails}) for key, tails in changes.items()}


def test_one_new_item_changes_one_or_two_of_many_chunks() -> None:
    chance = random.Random(1)
    items = sorted(b"%08x %s\n" % (chance.getrandbits(32), chance.randbytes(20).hex().encode()) for _ in range(3000))
    store = Memory()
    before = {chunk.name for chunk in Table.build(FORM, items, store).chunks}
    for _ in range(50):
        added = b"%08x new\n" % chance.getrandbits(32)
        after = {chunk.name for chunk in Table.build(FORM, sorted([*items, added]), store).chunks}
        assert len(before) > 300
        assert len(after - before) <= 3


def test_chunks_are_neither_tiny_nor_huge() -> None:
    chance = random.Random(2)
    items = [chance.randbytes(chance.randint(5, 60)) for _ in range(5000)]
    sizes = [sum(map(len, chunk)) for chunk in cut(items, 400)]
    assert min(sizes[:-1]) >= 200
    assert max(sizes) <= 800
    assert 300 <= sum(sizes) / len(sizes) <= 500
