"""How a file is written, whole and for good or not at all; and how it is undone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write(draft)` write a file beside it, then put it in its place: after a power cut it is there as a whole, or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    write(draft)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    above = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def remove(path: Path) -> None:
    """See to it that a file is not there, nor a draft of it, as a writer leaves it that was killed.

    It does not say whether there was one. A compensation that asked would answer `nothing` whenever it comes again: the file is gone
    at once, its reply only with the commit, and between the two its process may be killed. It has no need to ask either: of a command
    that never ran the kit knows that by itself.
    """
    for left in (path, _draft(path)):
        left.unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    return path.with_name(path.name + ".draft")
