"""Asking at a console: a question is put again until its check takes the answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from openssi.errors import Error

T = TypeVar("T")
Say = Callable[[str], None]


class Console:
    """Whom we ask: ``read`` returns the line typed after a prompt, ``say`` shows a line."""

    def __init__(self, read: Callable[[str], str] = input, say: Say = print) -> None:
        self._read = read
        self.say = say

    def ask(self, question: str, check: Callable[[str], T], default: str | None = None) -> T:
        """Return the first answer that ``check`` takes; an empty one stands for ``default``.

        ``check`` raises ValueError with what was expected. The end of the input is an Error.
        """
        prompt = f"{question} [{default}]: " if default else f"{question}: "
        while True:
            try:
                text = self._read(prompt).strip()
            except EOFError:
                raise Error(f"no answer to '{question}'") from None
            try:
                return check(text or default or "")
            except (ValueError, Error) as problem:
                self.say(f"  {problem}")

    def yes(self, question: str, *, default: bool) -> bool:
        """Return the answer to a question of yes or no."""
        return self.ask(f"{question} (y/n)", yes_or_no, "y" if default else "n")

    def choose(
        self, question: str, rows: Callable[[], Sequence[T]], take: Callable[[str, Sequence[T]], T], none: str
    ) -> T:
        """Show numbered ``rows`` and return the one chosen by its place or, through ``take``, by its name; R lists anew."""
        while True:
            found = rows()
            for place, row in enumerate(found, 1):
                self.say(f"  {place}) {row}")
            if not found:
                self.say(f"  {none}")
            answer = self.ask(f"{question}, (R)escan", lambda text: _row(text, found, take), "1" if found else "R")  # noqa: B023
            if answer is not None:
                return answer


def _row(text: str, found: Sequence[T], take: Callable[[str, Sequence[T]], T]) -> T | None:
    """Return the row that ``text`` means; None to list anew."""
    if text in ("R", "r"):
        return None
    if text.isdecimal() and 1 <= int(text) <= len(found):
        return found[int(text) - 1]
    return take(text, found)


def yes_or_no(text: str) -> bool:
    """Return True for y or yes, False for n or no; ValueError otherwise."""
    if text.lower() not in ("y", "yes", "n", "no"):
        raise ValueError(f"'{text}': expected y or n")
    return text.lower().startswith("y")


def at_console() -> bool:
    """Return True when a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()
