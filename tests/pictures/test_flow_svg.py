"""A saga's SVG: nothing overlaps, nothing is left out, nothing sticks out, and it is the same every time."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest

from saga import Saga
from saga.engine.state import Status
from saga.pictures import style
from saga.pictures.card import STATES
from saga.pictures.flow import flow_of
from saga.pictures.flow_svg import flow_svg
from saga.pictures.measure import fitted, width_of
from tests.pages import ROOT
from tests.pictures.drawn import NS, Box, boxes, classed, links, points, read
from tests.pictures.sagas import ALL, every, ladder, long, wide

DRAWN = [(saga, columns) for saga in ALL for columns in (1, 4)]
NAMES = [f"{saga.name}-{len(saga.steps)}-{columns}" for saga, columns in DRAWN]
each = pytest.mark.parametrize(("saga", "columns"), DRAWN, ids=NAMES)


@each
def test_no_boxes_overlap_and_all_are_inside(saga: Saga[Any, Any], columns: int) -> None:
    root = read(flow_svg(flow_of(saga), columns=columns))
    found = boxes(root)
    assert len(found) == len(saga.steps) + 2
    page = Box("", 0, 0, float(root.get("width", "")), float(root.get("height", "")))
    assert [box for box in found if not (page.holds(box.left, box.top, 8) and page.holds(box.right, box.bottom, 8))] == []
    assert [(one.name, other.name) for one, other in combinations(found, 2) if one.meets(other)] == []


@each
def test_no_line_runs_through_a_box(saga: Saga[Any, Any], columns: int) -> None:
    root = read(flow_svg(flow_of(saga), columns=columns))
    found = boxes(root)
    lines = [line for line in root.iter(f"{NS}path") if line.get("data-links") or line.get("data-back")]
    assert len(lines) > len(saga.steps)
    through = [
        (box.name, line.get("d")) for line in lines for x, y in points(line.get("d", "")) for box in found if box.holds(x, y, 2)
    ]
    assert through == []


@each
def test_every_step_and_every_link_is_there(saga: Saga[Any, Any], columns: int) -> None:
    flow = flow_of(saga)
    root = read(flow_svg(flow, columns=columns))
    assert links(root, "data-links") == {(link.source, link.target) for link in flow.links}
    assert links(root, "data-back") == {(link.source, link.target) for link in flow.links if link.back}
    items = [item for item in root.iter(f"{NS}g") if item.get("role") == "listitem"]
    assert len(items) == len(flow.boxes)
    for box, item in zip(flow.boxes, items, strict=True):
        assert box.title in item.get("aria-label", "")


@each
def test_no_row_is_wider_than_asked(saga: Saga[Any, Any], columns: int) -> None:
    tops = [box.top for box in boxes(read(flow_svg(flow_of(saga), columns=columns)))]
    assert max(tops.count(top) for top in tops) <= columns


def test_a_row_that_is_split_is_split_evenly() -> None:
    tops = [box.top for box in boxes(read(flow_svg(flow_of(wide(5))))) if box.name.startswith("beside")]
    assert sorted(tops.count(top) for top in set(tops)) == [2, 3]


def test_the_largest_saga_is_drawn_however_many_ways_lead_through_it() -> None:
    flow = flow_of(ladder(100))
    found = boxes(read(flow_svg(flow)))
    assert len(found) == 202
    assert [(one.name, other.name) for one, other in combinations(found, 2) if one.meets(other)] == []
    assert flow.undone_before("right_99") == ["START"]


def test_a_chain_is_straight() -> None:
    middles = {(box.left + box.right) / 2 for box in boxes(read(flow_svg(flow_of(long(20)))))}
    assert len(middles) == 1


def test_two_processes_draw_the_same_bytes() -> None:
    program = "from tests.pictures.sagas import *; from saga.pictures.flow import *; from saga.pictures.flow_svg import *\n"
    program += "print(''.join(flow_svg(flow_of(saga)) for saga in ALL), end='')"
    drawings = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONUTF8": "1"},
            capture_output=True,
            check=True,
        )
        drawings.add(done.stdout.decode())
    assert drawings == {"".join(flow_svg(flow_of(saga)) for saga in ALL)}


def test_what_kinds_there_are_is_said_in_words() -> None:
    root = read(flow_svg(flow_of(every)))
    said = {text.text for text in classed(root, "over")}
    assert said >= {
        "SAGA", "COMMAND", "FOR EACH", "CHILD SAGA", "COMMAND · BEST EFFORT", "QUESTION", "PIVOT · COMMAND", "EVENT", "PAUSE",
        "COMMAND · ONLY FORWARD", "STARTS A SAGA · BEST EFFORT", "no way back from here",
    }  # fmt: skip


def test_hostile_words_stay_words() -> None:
    assert 'o.lines[0] > "' not in flow_svg(flow_of(every))  # cut, and escaped: it was parsed above as well
    read(flow_svg(flow_of(every), {"pay": '"><script>'}))


def test_a_state_is_a_word_and_a_sign_on_its_step_alone() -> None:
    assert {str(status) for status in Status} <= STATES.keys()
    for state, shown in STATES.items():
        root = read(flow_svg(flow_of(every), {"pay": state}))
        assert [text.text for text in classed(root, "chip")] == [f"{shown.sign} {state}"]
        (step,) = classed(root, f"is-{shown.tone}")
        assert step.get("aria-label", "").endswith(f". {state}")


def test_a_drawing_needs_nothing_from_elsewhere_and_has_a_title_and_a_description() -> None:
    svg = flow_svg(flow_of(every))
    root = read(svg)
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(set(ids)) == len(ids)
    assert set(root.get("aria-labelledby", "").split()) <= set(ids)
    for word in ("<script", "<image", "<use", "href", "@import", "@font-face", "url(http", "src="):
        assert word not in svg


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


TEXTS = [("ink", "card"), ("soft", "card"), ("soft", "canvas"), ("ink", "canvas"), ("back", "back-tint"), ("accent", "card"),
         ("accent", "canvas"), ("good", "good-tint"), ("bad", "bad-tint"), ("now", "now-tint"), ("soft", "tint"), ("card", "accent"),
         ("bad", "card")]  # fmt: skip


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "behind"), TEXTS)
def test_texts_can_be_read(front: str, behind: str, scheme: int) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    light, dark = sorted((luminance(style.COLOURS[name][scheme]) for name in (front, behind)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_texts_are_cut_where_they_do_not_fit() -> None:
    assert fitted("short", 100, 12) == "short"
    for words in ("a" * 100, "W" * 100, "漢字" * 30, "é" * 60):
        cut = fitted(words, 90, 12)
        assert cut.endswith("…")
        assert 60 < width_of(cut, 12) <= 90
