"""What was typed and said at the consoles of a lab, as a document to read."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

_CONTROL = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>c78])|[\x00-\x08\x0e-\x1f\x7f]")
_STATUS = re.compile(r"; echo R''\d+=\$\?=$|^R\d+=\d+=$\n?", re.MULTILINE)  # what Machine.command() types and reads
_PROMPTS = re.compile(r"\A(# )+")
_FEW = 4  # so many lines are not worth a note that they are left out


@dataclass
class Transcript:
    """Sections in their order: a heading with the time since the start, and what was said at each console."""

    sections: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def heading(self, text: str) -> None:
        """Begin a section, with the time that has passed."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self.sections.append((f"{minutes}:{seconds:02} {text}", []))

    def add(self, machine: str, text: str, *, edges: int = 12, keep: Sequence[str] = ()) -> None:
        """Add what was typed and said at the console of ``machine``: see shown()."""
        if self.sections:
            self.sections[-1][1].append((machine, shown(text, edges=edges, keep=keep)))

    def markdown(self, title: str, introduction: str) -> str:
        """Return the document: one block for what follows each other on one console."""
        lines = [f"% {title}", "", introduction, ""]
        for heading, said in self.sections:
            lines += [f"# {heading}", ""]
            for machine, texts in groupby(said, key=itemgetter(0)):
                lines += [f"At the console of {machine}:", "", "~~~", *(text for _, text in texts), "~~~", ""]
        return "\n".join(lines[:-1]) + "\n"


def plain(text: str) -> str:
    """Return ``text`` as a terminal shows it in the end: no control characters, lines written over by a carriage return."""
    lines = _CONTROL.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in lines)


def shown(text: str, *, edges: int = 12, keep: Sequence[str] = ()) -> str:
    """Return ``text`` plain, and from long output leave lines out: all but the first and last ``edges`` and those to ``keep``."""
    lines = _PROMPTS.sub("# ", _STATUS.sub("", plain(text))).strip("\n").removesuffix("\n#").split("\n")
    kept = {n for n, line in enumerate(lines) if any(re.search(pattern, line) for pattern in keep)}
    kept |= {*range(edges), *range(len(lines) - edges, len(lines))}
    made: list[str] = []
    left_out: list[str] = []
    for n, line in enumerate([*lines, ""]):
        if n not in kept and n < len(lines):
            left_out.append(line)
            continue
        made += left_out if len(left_out) <= _FEW else [f"[… {len(left_out)} lines …]"]
        left_out = []
        made.append(line)
    return "\n".join(made[:-1])
