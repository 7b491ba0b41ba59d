"""The drawings in a real browser: whether texts fit into their boxes is known only where a font sets them."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from infra.chromium import document_after
from saga.cli_pictures import relations_of_app
from saga.pictures import style
from saga.pictures.flow import flow_of
from saga.pictures.flow_svg import flow_svg
from saga.pictures.map_svg import map_svg
from services.all import app as everything
from tests.pictures.sagas import ALL, every
from tests.pictures.test_map import RELATIONS

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("chromium")]

MEASURE = """
const found = {wrong: [], texts: 0, canvas: "", widths: []};
const out = (inner, outer) => inner.left < outer.left - 1 || inner.right > outer.right + 1
  || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
for (const svg of document.querySelectorAll("svg.saga-picture")) {
  const page = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")];
  found.widths.push(page.width);
  found.canvas = getComputedStyle(svg.querySelector(".canvas")).fill;
  const places = texts.map(text => [text.textContent, text.getBoundingClientRect(), text]);
  for (const [words, place, text] of places) {
    found.texts++;
    const box = text.closest(".step, .end");
    const boxes = box && !text.matches(".chip") ? [...box.querySelectorAll(".card, .if")].map(one => one.getBoundingClientRect()) : [page];
    if (boxes.every(one => out(place, one))) found.wrong.push(words + " sticks out");
    for (const [other, taken] of places) {
      const over = Math.min(place.right, taken.right) - Math.max(place.left, taken.left);
      const high = Math.min(place.bottom, taken.bottom) - Math.max(place.top, taken.top);
      if (taken !== place && over > 1 && high > 4) found.wrong.push(words + " meets " + other);
    }
  }
}
document.body.innerHTML = "<pre id='found'></pre>";
document.getElementById("found").textContent = JSON.stringify(found);
"""


def measured(drawings: list[str], *, width: int, dark: bool = False) -> Any:
    page = f"<!doctype html><meta charset='utf-8'><body style='margin:0'><div style='width:{width}px'>{''.join(drawings)}</div>"
    text = document_after(f"{page}<script>{MEASURE}</script>", width=width, dark=dark)
    found = re.search(r'<pre id="found">(.*?)</pre>', text, re.DOTALL)
    assert found, text[-1000:]
    return json.loads(html.unescape(found[1]))


def all_drawings() -> list[str]:
    states = {"pay": "done", "reserve": "compensating", "check": "refused", "note": "skipped", "verdict": "compensated"}
    return [
        *(flow_svg(flow_of(saga)) for saga in ALL),
        flow_svg(flow_of(every), states, columns=1),
        map_svg(RELATIONS),
        map_svg(relations_of_app(everything)),
    ]


def test_texts_fit_into_their_boxes_and_meet_no_others() -> None:
    found = measured(all_drawings(), width=1600)
    assert found["wrong"] == []
    assert found["texts"] > 300


def test_a_drawing_shrinks_to_the_room_there_is_and_never_grows() -> None:
    drawings = all_drawings()
    own = [int(re.search(r' width="(\d+)"', drawing)[1]) for drawing in drawings]  # type: ignore[index]
    for width in (320, 2400):
        assert measured(drawings, width=width)["widths"] == [min(width, each) for each in own]


@pytest.mark.parametrize("dark", [False, True])
def test_the_colours_follow_the_reader(dark: bool) -> None:
    colour = style.COLOURS["canvas"][dark]
    rgb = ", ".join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))
    assert measured([flow_svg(flow_of(every))], width=1200, dark=dark)["canvas"] == f"rgb({rgb})"
