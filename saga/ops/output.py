"""How results leave a command: a table or lines for people, JSON or JSON lines for programs.

For people colours and widths are those of the terminal; in a pipe there are none, and nothing is cut.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from saga.ops.lines import Line, Tone, page

OK, FAILED, USAGE, PROBLEMS, INTERRUPTED = 0, 1, 2, 3, 130  # exit codes of every command

_STYLES = {
    Tone.TITLE: "bold",
    Tone.PLAIN: "",
    Tone.GOOD: "green",
    Tone.BAD: "yellow",
    Tone.STUCK: "bold red",
    Tone.QUIET: "dim",
}
MOST_PADDED = 40  # cells up to which a column is padded in a pipe; an id may be of hundreds
LEAST_LAST = 32  # of the last column, which says what is the matter
_WIDEST = 0.3  # the part of a terminal's width that a cell may take, but for the last, which takes what is left


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


class Output:
    """Where results go; `width` is None unless a person looks at a terminal."""

    def __init__(self, format: Format, file: TextIO | None = None) -> None:
        self.format = format
        self._console = Console(file=file, highlight=False, soft_wrap=True)
        self.width = self._console.width if self._console.is_terminal else None
        self._styles = {} if self._console.no_color else _STYLES  # who wants no colours has a reason that holds for bold, too

    @property
    def for_people(self) -> bool:
        return self.format is Format.TABLE

    def rows(self, headings: Sequence[str], names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Some fields of objects as a table, or the objects whole."""
        if self.for_people:
            self.table(headings, [(Tone.PLAIN, [str(row[name]) for name in names]) for row in rows])
        else:
            self.values(rows)

    def values(self, values: Sequence[Any]) -> None:
        """JSON: one array, or a line for each."""
        if self.format is Format.JSON:
            self._raw(json.dumps(list(values), ensure_ascii=False, indent=2))
        else:
            for value in values:
                self._raw(json.dumps(value, ensure_ascii=False))

    def table(self, headings: Sequence[str], rows: Iterable[tuple[Tone, Sequence[str]]]) -> None:
        """Columns as wide as they need to be. On a terminal long cells are cut in the middle and the last at its end; where that
        would leave little of it, it stands on a line of its own. In a pipe nothing is cut, and no long cell widens all rows.
        """
        rows = [(tone, self._fitted(row)) for tone, row in rows]
        if not rows:
            return
        widths = [max(cell_len(row[n]) for row in [headings, *(row for _, row in rows)]) for n in range(len(headings))]
        if self.width is None:
            widths = [min(width, max(MOST_PADDED, cell_len(heading))) for width, heading in zip(widths, headings, strict=True)]
        left = None if self.width is None else self.width - sum(widths[:-1]) - 2 * (len(widths) - 1)
        below = left is not None and left < min(widths[-1], LEAST_LAST)
        self._row((*headings[:-1], "") if below else headings, widths, Tone.QUIET)
        for tone, row in rows:
            self._row((*row[:-1], "") if below else row, widths, tone)
            if below and row[-1]:
                self.story([Line(tone if tone is Tone.QUIET else Tone.PLAIN, text) for text in self._below(row[-1])])

    def _below(self, cell: str) -> list[str]:
        assert self.width is not None
        return textwrap.wrap(cell, self.width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)

    def story(self, lines: Iterable[Line]) -> None:
        for tone, margin, text in page(lines, self.width):
            line = Text()
            line.append(margin, style=self._style(Tone.QUIET))
            line.append(text, style=self._style(tone))
            self._print(line)

    def text(self, text: str, tone: Tone = Tone.PLAIN) -> None:
        self.story([Line(tone, text)])

    def _fitted(self, row: Sequence[str]) -> Sequence[str]:
        if self.width is None:
            return row
        widest = max(12, int(self.width * _WIDEST))
        return [*(_in_brief(cell, widest) for cell in row[:-1]), row[-1]]

    def _row(self, row: Sequence[str], widths: Sequence[int], tone: Tone) -> None:
        cells = zip(row[:-1], widths, strict=False)
        fixed = "  ".join(cell if cell_len(cell) > width else set_cell_size(cell, width) for cell, width in cells)
        line = Text(fixed.rstrip() if not row[-1] else f"{fixed}  ")
        line.append(row[-1])
        if tone is Tone.QUIET:
            line.stylize(self._style(tone))
        else:
            line.stylize(self._style(tone), 0, len(row[0]))
        if self.width is not None:
            line.truncate(self.width, overflow="ellipsis")
        self._print(line)

    def _style(self, tone: Tone) -> str:
        return self._styles.get(tone, "")

    def _print(self, line: Text) -> None:
        line.rstrip()
        self._console.print(line)

    def _raw(self, text: str) -> None:
        print(text, file=self._console.file)


def _in_brief(cell: str, most: int) -> str:
    """Cut in the middle: ids often differ at their end."""
    if cell_len(cell) <= most:
        return cell
    end = (most - 1) // 3
    return set_cell_size(cell, most - 1 - end).rstrip() + "…" + cell[-end:]


@contextmanager
def progress_bar(messages: Console, what: str, *, least: int = 0) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal while something long is done: it is told how many are done, and of how many.

    Up to `least` of them it is over before a bar could be read, and none is shown.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal or messages.no_color)
    task = bar.add_task("", visible=not least)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=total > least)
