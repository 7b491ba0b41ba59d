"""What somebody's own code raised, and where: one line out of a traceback. Pure.

    ValidationError: Booking.guest: Field required (hotel.py:82, in begin)

The naive way is the traceback's last line. Of pydantic's errors that is a link to its manual; of others it says what is wrong but
not where, and of two dozen frames only one is a line that its reader wrote. So the frames are read as well: the innermost that is
neither Python's, nor a library's, nor ours. A journal keeps a traceback as text, perhaps from another machine, so text is what is read.
"""

from __future__ import annotations

import builtins
import difflib
import re
import traceback
from collections.abc import Sequence
from typing import NamedTuple

MOST_FIELDS = 2  # of what pydantic found; a model that was given nothing at all lacks all of its fields

_FRAME = re.compile(r'\s*File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<name>.+))?')
_BEGINS = "Traceback (most recent call last):"
# Where nobody looks for a mistake of his own: frozen modules, Python's library, this package, and installed packages. But what is
# deployed is installed as well: then it is the package whose function this one called.
_OURS = re.compile(r"[/\\]saga[/\\]((engine|log|ops|participant|runtime|testing)[/\\]|(app|cli\w*)\.py)|[/\\]pydantic(_core)?[/\\]")
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\](?P<package>[^/\\]+)")
_PYTHONS = re.compile(r"^<|[/\\]lib[/\\]python3[.\d]*[/\\]")
_VALIDATION = re.compile(r"ValidationError: (?P<count>\d+) validation errors? for (?P<model>.+)")
_KIND = re.compile(r"\s+\[type=\w+.*$")  # what follows it is the value, which may be private


class Place(NamedTuple):
    """A line of somebody's file; `name`: of the function, "" where there is none that says anything."""

    file: str
    line: int
    name: str


def last_line(detail: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def raised(detail: str) -> str:
    """Of a traceback, what was raised, in one line and without the values that pydantic found; of any other text, its last line."""
    said = _said(detail.splitlines())
    if not said:
        return last_line(detail)
    module_and_name, colon, rest = said[0].partition(":")
    first = module_and_name.rpartition(".")[2] + colon + rest
    found = _VALIDATION.fullmatch(first)
    return _invalid(found["model"], int(found["count"]), said[1:]) if found else first


def raised_at(detail: str) -> str:
    """The same, with the file, the line and the function where it was, if it was in somebody's own code."""
    what, where = raised(detail), place(detail)
    if where is None:
        return what
    file = re.split(r"[/\\]", where.file)[-1]
    return f"{what} ({file}:{where.line}{where.name and f', in {where.name}'})"


def place(detail: str) -> Place | None:
    """The innermost line of a traceback that is somebody's own; of several tracebacks, one the cause of the next, the last has it."""
    for part in reversed(detail.split(_BEGINS)):
        if theirs := _theirs([frame for line in part.splitlines() if (frame := _FRAME.fullmatch(line))]):
            file, line, name = theirs[-1].group("file", "line", "name")
            return Place(file, int(line), "" if name is None or name.startswith("<") else name)
    return None


def told(error: BaseException) -> str:
    """An error as text, as a journal keeps it; with a hint at the name that is meant, which Python before 3.12 gives only as it ends."""
    text = "".join(traceback.format_exception(error)).rstrip()
    close = [name for names in _names(error) for name in difflib.get_close_matches(str(error.name), names, n=1, cutoff=0.7)]  # type: ignore[attr-defined]
    return text if not close or "Did you mean" in text else f"{text}. Did you mean: {close[0]!r}?"


def _names(error: BaseException) -> list[list[str]]:
    """The names that there were where one was looked for; those first that were more likely meant."""
    if isinstance(error, AttributeError):
        return [[name for name in dir(error.obj) if not name.startswith("_")]]
    if isinstance(error, NameError) and error.__traceback__ is not None:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        return [list(frame.f_locals | frame.f_globals), dir(builtins)]
    return []


def _theirs(frames: Sequence[re.Match[str]]) -> Sequence[re.Match[str]]:
    """Of the frames of a traceback, those of whoever reads it."""
    frames = [frame for frame in frames if not _OURS.search(frame["file"])]
    installed = [_INSTALLED.search(frame["file"]) for frame in frames]
    own = [
        frame for frame, package in zip(frames, installed, strict=True) if package is None and not _PYTHONS.search(frame["file"])
    ]
    first = next((package["package"] for package in installed if package is not None), None)
    return own or [frame for frame, package in zip(frames, installed, strict=True) if package and package["package"] == first]


def _said(lines: Sequence[str]) -> Sequence[str]:
    """The lines behind the last frame: what was raised, and what more is said of it. None if there is no frame."""
    frames = [number for number, line in enumerate(lines) if _FRAME.fullmatch(line)]
    if not frames:
        return []
    said = list(lines[frames[-1] + 1 :])
    while said and (not said[0].strip() or said[0].startswith("    ")):  # the line of code, and the marks under it
        del said[0]
    return said


def _invalid(model: str, count: int, lines: Sequence[str]) -> str:
    """What pydantic found: `Booking.guest: Field required`. A field stands at a line's begin, what is wrong with it in the next one."""
    found, field = [], ""
    for line in lines:
        if not line.startswith(" "):
            field = f".{line.strip()}" if line.strip() else ""
        elif not line.startswith("    "):
            found.append(f"{model}{field}: {_KIND.sub('', line).strip()}")
            field = ""
    more = f", and {count - MOST_FIELDS} more" if count > MOST_FIELDS else ""
    return f"ValidationError: {'; '.join(found[:MOST_FIELDS]) or model}{more}"
