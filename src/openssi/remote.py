"""Running a command on many nodes at once, by onnode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from openssi import run
from openssi.errors import Error

ONNODE = "onnode"
UNREACHED = 255  # onnode's own status when there is no way to the node
_AT_ONCE = 64


@dataclass(frozen=True)
class Answer:
    """What a command on one node ended with: both streams, in the order written, and its exit status."""

    number: int
    status: int
    output: bytes


def on_node(number: int, argv: Sequence[str], *, timeout: float | None = None) -> Answer:
    """Return how ``argv`` ended on node ``number``, with our own environment; a node that does not answer in ``timeout`` gives 255."""
    # the shell joins the two streams: then a message stands where it was written
    words = ["sh", "-c", 'exec "$@" 2>&1', "sh", ONNODE, str(number), *argv]
    try:
        status, out, err = run.status(words, env=os.environ, timeout=timeout)
    except Error as problem:
        return Answer(number, UNREACHED, f"{problem}\n".encode())
    return Answer(number, status, out + err)


def on_nodes(
    numbers: Iterable[int],
    argv: Sequence[str],
    *,
    timeout: float | None = None,
    call: Callable[..., Answer] = on_node,
) -> list[Answer]:
    """Return the answers of all nodes by number; up to 64 run at a time."""
    wanted = sorted(numbers)
    with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(wanted)))) as pool:
        return list(pool.map(lambda number: call(number, argv, timeout=timeout), wanted))


def folded(answers: Iterable[Answer]) -> list[tuple[list[int], bytes]]:
    """Return ``(nodes, output)`` pairs: nodes that wrote the same together, in the order of their first node."""
    groups: dict[bytes, list[int]] = {}
    for answer in answers:
        groups.setdefault(answer.output, []).append(answer.number)
    return [(numbers, text) for text, numbers in groups.items()]


def ranges(numbers: Sequence[int]) -> str:
    """Return numbers as text such as ``1-3,7``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(str(end) for end in part) for part in parts)
