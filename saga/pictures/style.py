"""How the drawings look: colours for light and for dark, and the few shapes that are drawn with them.

No script, no font and no file from elsewhere: what a browser shows is in the SVG. Colour never says anything alone: kinds have an icon and
a word, states a sign and a word, the way back is dashed. Texts have a contrast of at least 4.5 to 1 on what is behind them, in both.
Everything is below `.saga-picture`, so that a page can take the drawing in without being restyled by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

COLOURS = {  # name: (light, dark)
    "canvas": ("#f6f7f9", "#0e1116"),
    "card": ("#ffffff", "#191e26"),
    "line": ("#c9d0d9", "#3a424e"),
    "ink": ("#1b2330", "#eceff4"),
    "soft": ("#565f6d", "#a4aebb"),
    "flow": ("#697484", "#8b96a5"),
    "tint": ("#eef1f5", "#252c37"),
    "back": ("#98510a", "#f0b45f"),
    "back-tint": ("#fdf3e3", "#2c2416"),
    "accent": ("#4338ca", "#aab4ff"),
    "accent-tint": ("#eceafd", "#272a4a"),
    "good": ("#1a7040", "#6cd596"),
    "good-tint": ("#e3f5ea", "#16301f"),
    "bad": ("#b3261e", "#ff9c93"),
    "bad-tint": ("#fdeceb", "#3a1b1a"),
    "now": ("#0b63c4", "#7fbcff"),
    "now-tint": ("#e6f0fc", "#152b45"),
}
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", Arial, sans-serif'
_RULES = """
.saga-picture { max-width: 100%; height: auto; font-family: FONT; }
.saga-picture text { fill: var(--ink); font-size: 12px; }
.saga-picture .soft { fill: var(--soft); }
.saga-picture .over { fill: var(--soft); font-size: 10px; font-weight: 600; letter-spacing: .6px; }
.saga-picture .name { font-size: 15px; font-weight: 700; }
.saga-picture .canvas { fill: var(--canvas); }
.saga-picture .card { fill: var(--card); stroke: var(--line); stroke-width: 1.25; }
.saga-picture .badge { fill: var(--tint); }
.saga-picture .icon { fill: none; stroke: var(--ink); stroke-width: 1.6; stroke-linecap: round; stroke-linejoin: round; }
.saga-picture .undo { fill: var(--back-tint); stroke: none; }
.saga-picture .undo-text, .saga-picture .way-back { fill: var(--back); }
.saga-picture .if { fill: var(--card); stroke: var(--flow); stroke-width: 1.25; }
.saga-picture .flow, .saga-picture .back { fill: none; stroke: var(--flow); stroke-width: 1.75; }
.saga-picture .back { stroke: var(--back); stroke-width: 1.5; stroke-dasharray: 4 4; }
.saga-picture .flow-head { fill: var(--flow); }
.saga-picture .back-head { fill: var(--back); }
.saga-picture .pivot .card { stroke: var(--accent); stroke-width: 2.25; }
.saga-picture .pivot .badge { fill: var(--accent-tint); }
.saga-picture .pivot .icon { stroke: var(--accent); }
.saga-picture .pivot .over, .saga-picture .no-way-back { fill: var(--accent); }
.saga-picture .border { fill: none; stroke: var(--accent); stroke-width: 1.25; stroke-dasharray: 1 5; stroke-linecap: round; }
.saga-picture .best-effort .card { stroke-dasharray: 5 4; stroke: var(--flow); }
.saga-picture .end .card { fill: var(--good-tint); stroke: var(--good); }
.saga-picture .end .icon { stroke: var(--good); }
.saga-picture .end .name { fill: var(--good); font-size: 13px; }
.saga-picture .start .name { font-size: 16px; }
.saga-picture .elsewhere { stroke-dasharray: 5 4; stroke: var(--flow); }
.saga-picture .row { fill: var(--card); }
.saga-picture .column { font-size: 13px; font-weight: 700; }
.saga-picture .actor { font-size: 14px; font-weight: 700; }
.saga-picture .chained { stroke-dasharray: 4 4; }
.saga-picture .nothing { fill: var(--line); }
.saga-picture .mark-starts { fill: var(--good); }
.saga-picture .mark-commands { fill: var(--accent); }
.saga-picture .mark-events { fill: var(--back-tint); stroke: var(--back); stroke-width: 1.5; }
.saga-picture .count-commands { fill: var(--card); font-size: 11px; font-weight: 700; }
.saga-picture .count-events { fill: var(--back); font-size: 11px; font-weight: 700; }
.saga-picture .chip { font-size: 11px; font-weight: 700; }
""".replace("FONT", _FONT)
TONES = ("good", "bad", "now", "back", "soft")


def style() -> str:
    """The one style element of a drawing."""
    light = " ".join(f"--{name}: {colour};" for name, (colour, _) in COLOURS.items())
    dark = " ".join(f"--{name}: {colour};" for name, (_, colour) in COLOURS.items())
    tones = "".join(
        f".saga-picture .is-{tone} > .card {{ stroke: var(--{tone}); stroke-width: 2.25; }}\n"
        f".saga-picture .{tone}-chip {{ fill: var(--{tone}-tint, var(--tint)); }}\n"
        f".saga-picture .{tone}-word {{ fill: var(--{tone}); }}\n"
        for tone in TONES
    )
    schemes = f".saga-picture {{ {light} color-scheme: light dark; }}\n@media (prefers-color-scheme: dark) {{\n"
    return f"<style>\n{schemes}.saga-picture {{ {dark} }}\n}}{_RULES}{tones}</style>"


def tag(name: str, inside: str | Iterable[str] | None = None, **attributes: str | int | float) -> str:
    """An element; `class_` and `aria_label` are written as attributes are. Content is taken as it is: see `text` for words."""
    said = "".join(f" {key.rstrip('_').replace('_', '-')}={quoteattr(str(value))}" for key, value in attributes.items())
    if inside is None:
        return f"<{name}{said}/>"
    return f"<{name}{said}>{inside if isinstance(inside, str) else ''.join(inside)}</{name}>"


def text(words: str, x: float, y: float, class_: str = "", **more: str | int | float) -> str:
    return tag("text", escape(words), x=_short(x), y=_short(y), **({"class_": class_} if class_ else {}), **more)


def rect(x: float, y: float, width: float, height: float, class_: str, radius: float = 10) -> str:
    return tag("rect", x=_short(x), y=_short(y), width=_short(width), height=_short(height), rx=_short(radius), class_=class_)


def head(id: str, class_: str) -> str:
    """An arrow's head, to be named by marker-end."""
    path = tag("path", d="M0,0.5 L9,4.5 L0,8.5 z", class_=class_)
    return tag("marker", path, id=id, viewBox="0 0 9 9", refX=8, refY=4.5, markerWidth=9, markerHeight=9,
               markerUnits="userSpaceOnUse", orient="auto")  # fmt: skip


def document(id: str, title: str, description: str, size: tuple[int, int], body: Iterable[str]) -> str:
    """A whole SVG. It has its own size, shrinks where there is less room, and is read aloud by its title and description."""
    width, height = size
    parts = [
        tag("title", escape(title), id=f"{id}-title"),
        tag("desc", escape(description), id=f"{id}-desc"),
        style(),
        rect(0, 0, width, height, "canvas", 14),
        *body,
    ]
    opening = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {width} {height}",
        "width": width,
        "height": height,
        "class_": "saga-picture",
        "role": "group",
        "aria_labelledby": f"{id}-title {id}-desc",
    }
    return tag("svg", "\n" + "\n".join(parts) + "\n", **opening) + "\n"  # type: ignore[arg-type]


def _short(number: float) -> str:
    return f"{round(number, 1):g}"
