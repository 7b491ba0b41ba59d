"""What a person sees of the demo: a picture that moves where stdout is a terminal, else plain lines."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from services.checkout.picture import Head, Picture
from services.checkout.watch import View

FRAME_SECONDS = 0.2
LINE_SECONDS = 5.0  # between plain lines of progress
SMALLEST = (60, 16)  # columns and rows; less is no place for a picture
PICTURE_SIZE = (100, 32)  # of a picture that is saved

# Rich's own frame fetches a font from the network; this one takes what is there.
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "Fira Code", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
  line-height: {line_height}px; font-variant-east-asian: full-width; white-space: pre }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Screen:
    """Says lines, and shows views while `follow` runs. `where`: the log in use, for the head of the picture."""

    def __init__(self, where: str = "") -> None:
        self.where = where
        self._console = Console(highlight=False)
        self._began = time.monotonic()
        self._news: list[tuple[str, str]] = []
        self._showing = False

    @property
    def moves(self) -> bool:
        """Whether there is a terminal that can show a picture."""
        size = self._console.size
        fits = size.width >= SMALLEST[0] and size.height >= SMALLEST[1]
        return sys.stdout.isatty() and not self._console.is_dumb_terminal and fits

    def say(self, text: str) -> None:
        """A line with the time since the start; while a picture is shown, in it."""
        self._news.append((self._clock(), text))
        if not self._showing:
            self._print(text)

    async def follow(self, look: Callable[[], View]) -> None:
        """Show what `look` gives, until cancelled. A terminal is then as it was, with the last picture on it."""
        if not self.moves:
            while True:
                await asyncio.sleep(LINE_SECONDS)
                if (view := look()).placed.total:
                    self._print(line(view))
        self._showing = True
        try:
            # On the terminal's other page, so that a change of size leaves nothing behind; drawn by us, without a thread.
            with Live(console=self._console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(self.picture(look()), refresh=True)
                    await asyncio.sleep(FRAME_SECONDS)
        except asyncio.CancelledError:
            self._console.print(self.picture(look()))
            raise
        finally:
            self._showing = False

    def picture(self, view: View) -> Picture:
        return Picture(Head(self.where, self._clock(), self._news), view)

    def save(self, view: View, file: Path) -> None:
        """The picture as it is now, as SVG."""
        width, height = PICTURE_SIZE
        console = Console(
            record=True, width=width, height=height, file=io.StringIO(), force_terminal=True, color_system="truecolor"
        )
        console.print(self.picture(view))
        file.write_text(console.export_svg(title="make demo", code_format=SVG), encoding="utf-8")

    def _print(self, text: str) -> None:
        self._console.print(f"{self._clock()}  {text}", markup=False, soft_wrap=True)

    def _clock(self) -> str:
        passed = int(time.monotonic() - self._began)
        return f"{passed // 60:02}:{passed % 60:02}"


def line(view: View) -> str:
    """A view in a line."""
    counts = "   ".join(f"{name} {count:3}" for name, count in view.outcomes.items())
    return f"placed {view.placed.total:3}   {counts}"
