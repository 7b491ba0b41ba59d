"""The commands on the pages of the examples: what needs no server is run, and of the others is checked what can be without one."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from saga.app import find_app
from saga.engine.kinds import Wait
from tests.pages import PAGES, ROOT, blocks_of


def commands() -> list[tuple[str, list[str]]]:
    """Every `saga …` with an app on a page of an example, in a block or in a sentence: where it stands, and its words."""
    found = []
    for page in (page for page in PAGES if page.startswith("docs/examples/")):
        typed = [block.text.replace("\\\n", " ") for block in blocks_of(page) if block.language == "sh"]
        # A payload in quotes may go on in the next line.
        lines = [line for text in typed for line in re.findall(r"^saga (?:'[^']*'|[^\n'])*", text, re.MULTILINE)]
        lines += re.findall(r"`(saga (?:map|graph) [^`]*)`", (ROOT / page).read_text(encoding="utf-8"))
        found += [(page, shlex.split(line, comments=True)) for line in lines]
    return found


COMMANDS = commands()


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{Path(page).stem}: {' '.join(words[:3])}" for page, words in COMMANDS])
def test_a_command_does_what_its_page_says(page: str, words: list[str], tmp_path: Path) -> None:
    assert "--app" in words, f"{page}: typed as it stands, {shlex.join(words)} looks into the checkout"
    place = words.index("--app")
    name, does, rest = words[place + 1], words[1], [*words[2:place], *words[place + 2 :]]
    sagas = find_app(name, ROOT).sagas
    asked = {saga.name for saga in sagas}
    if "--saga" in rest:
        assert rest[rest.index("--saga") + 1] in asked
    if does in ("map", "graph"):
        here = [str(tmp_path / word) if before == "--out" else word for before, word in pairwise(words)]
        done = subprocess.run([sys.executable, "-m", "saga.cli", *here], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    if does == "publish":
        (starts,) = [saga.starts_on for saga in sagas if saga.starts_on.__type__ == rest[0]]
        starts.model_validate(json.loads(rest[1]))
    if does == "answer":
        assert "--saga" in rest or len(sagas) == 1, f"{page}: the key {rest[0]} may be one of several sagas"
        step, answer = rest[1:3]
        (asking,) = [saga for saga in sagas if len(sagas) == 1 or saga.name == rest[rest.index("--saga") + 1]]
        question = asking.steps.get(step)
        assert isinstance(question, Wait), f"{page}: {asking.name} asks nothing at {step}"
        question.event.model_validate(json.loads(answer))


def test_commands_were_found() -> None:
    assert {words[1] for _, words in COMMANDS} >= {"publish", "answer", "questions", "show", "map"}
