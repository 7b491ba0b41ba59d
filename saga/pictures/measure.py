"""How wide a text will be, before anybody draws it.

An SVG cannot ask: the font is the reader's. So texts are measured as DejaVu Sans would set them, the widest of the sans-serif fonts that
systems come with; in any other a text only leaves a little more room. What still does not fit is cut.
"""

from __future__ import annotations

from unicodedata import combining, east_asian_width

# Advance widths of U+0020 to U+007E in DejaVu Sans 2.37, in hundredths of the font's size.
_PLAIN = (
    "32 40 46 84 64 95 78 27 39 39 50 84 32 36 32 34 64 64 64 64 64 64 64 64 64 64 34 34 84 84 84 53 100 68 69 70 77 63 58 77 75 29 29"
    " 66 56 86 75 79 60 79 69 63 61 73 68 99 69 61 69 39 34 39 84 50 50 61 63 55 63 62 35 63 63 28 28 58 28 97 63 61 63 63 41 52 39 63"
    " 59 82 59 59 52 64 34 64 84"
)
_BOLD = (
    "35 46 52 84 70 100 87 31 46 46 52 84 38 42 38 37 70 70 70 70 70 70 70 70 70 70 40 40 84 84 84 58 100 77 76 73 83 68 68 82 84 37 37"
    " 77 64 100 84 85 73 85 77 72 68 81 77 110 77 72 73 46 37 46 84 50 50 67 72 59 72 68 44 72 71 34 34 67 34 104 71 69 72 72 49 60 48"
    " 71 65 92 65 65 58 71 37 71 84"
)
_WIDTHS = {bold: [int(width) for width in table.split()] for bold, table in ((False, _PLAIN), (True, _BOLD))}
_OTHER, _FULL = 84, 105  # of a character that is not in the table; of one that East Asian fonts set on a full square


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """In the unit of `size`, rather too much than too little."""
    return sum(_hundredths(character, _WIDTHS[bold]) for character in text) * size / 100


def fitted(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """The text, or as much of its begin as fits, with … in place of the rest."""
    if width_of(text, size, bold=bold) <= room:
        return text
    while text and width_of(text + "…", size, bold=bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def _hundredths(character: str, widths: list[int]) -> int:
    place = ord(character) - 32
    if 0 <= place < len(widths):
        return widths[place]
    if combining(character):
        return 0
    return _FULL if east_asian_width(character) in "WF" else _OTHER if character != "…" else 100
