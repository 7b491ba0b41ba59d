"""Mermaid, DOT and text, against kept files: a change is seen in review. To keep new ones: SAGA_KEEP=1 pytest tests/pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from saga.pictures.flow import flow_of
from saga.pictures.flow_sketch import flow_sketch
from saga.pictures.flow_text import flow_text
from saga.pictures.map_sketch import map_sketch, map_text
from saga.pictures.sketch import Accent, Edge, Look, Node, Sketch, dot, mermaid
from tests.pictures.sagas import every, wide
from tests.pictures.test_map import RELATIONS

GOLDEN = Path(__file__).parent / "golden"
DRAWINGS = {
    "every.mmd": lambda: mermaid(flow_sketch(flow_of(every))),
    "every.dot": lambda: dot(flow_sketch(flow_of(every))),
    "every.txt": lambda: "".join(f"{line.text}\n" for line in flow_text(flow_of(every))),
    "map.mmd": lambda: mermaid(map_sketch(RELATIONS)),
    "map.dot": lambda: dot(map_sketch(RELATIONS)),
    "map.txt": lambda: "".join(f"{line.text}\n" for line in map_text(RELATIONS)),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_as_it_was(name: str) -> None:
    drawn = DRAWINGS[name]()
    if os.environ.get("SAGA_KEEP"):
        (GOLDEN / name).write_text(drawn, encoding="utf-8")
    assert drawn == (GOLDEN / name).read_text(encoding="utf-8")


def test_every_node_and_edge_is_in_both() -> None:
    sketch = flow_sketch(flow_of(wide(12)))
    for text, arrow in ((mermaid(sketch), r"(\w+) (?:-->|-\.->)(?:\|[^|]*\|)? (\w+)"), (dot(sketch), r"(\w+) -> (\w+)")):
        assert set(re.findall(arrow, text)) == {(edge.source, edge.target) for edge in sketch.edges}
        assert all(re.search(rf"^    {node.id}\b.*{node.lines[0]}", text, re.MULTILINE) for node in sketch.nodes)


def test_hostile_words_stay_words() -> None:
    words = '"]; end --> x & <script> #35; `a` \\'
    sketch = Sketch(words, (Node("a", Look.COMMAND, (words, words), Accent.PIVOT),), (Edge("a", "a", words),))
    label = "#quot;]; end --#gt; x #amp; #lt;script#gt; #35;35; #96;a#96; \\"
    assert mermaid(sketch).splitlines()[1] == f'    a["<b>{label}</b><br>{label}"]'
    assert dot(sketch).count(r"\"]; end") == 4


def test_each_step_says_after_which_it_comes_unless_that_is_the_one_above() -> None:
    lines = [line.text.strip() for line in flow_text(flow_of(every))]
    assert "after reserve and check" in lines
    assert lines[lines.index("2  reserve  (for each)") + 1] == "Reserve → stock"
    assert lines[-1] == "compensated, by the way back: check, reserve, pay"
