"""docs/PROTOCOL.md, "Is my participant right?": its commands say what the page shows, of the services in Python, while a saga runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from saga.conformance.findings import Rule
from saga.conformance.player import NAME
from saga.runtime.codec import decode
from services import app
from services.stage.crew import ROOT
from tests.kafka.shop import Shop
from tests.pages import blocks_of

PAGE = "docs/PROTOCOL.md"
SECTION = "Is my participant right?"


def test_every_rule_is_a_sentence_of_the_page() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    rows = re.sub(r"^\| (.*) \|$", lambda row: row[1].replace(" | ", ": "), text, flags=re.MULTILINE)
    page = re.sub(r"\s+", " ", re.sub(r"[`*]", "", rows))
    assert [rule for rule in Rule if rule not in page] == []


def test_a_failure_is_shown_as_it_is_told() -> None:
    shown = blocks_of(PAGE)
    (block,) = [block.text for block in shown if block.section == SECTION and "✗" in block.text]
    assert Rule.CLOSED in block


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_examples_do_what_the_page_shows_and_disturb_no_orchestrator(tmp_path: Path) -> None:
    blocks = [block for block in blocks_of(PAGE) if block.section == SECTION]
    shown = [(a.text, b.text) for a, b in pairwise(blocks) if (a.language, b.language) == ("sh", "text")]
    assert len(shown) == 2
    (samples,) = [block.text for block in blocks if block.text.startswith("cat > samples.json")]

    async def scene() -> None:
        async with Shop(tmp_path / "shop", f"file:{tmp_path / 'log'}", "t-") as s:
            s.start_orchestrator()
            await s.all_owned()
            await s.place(2)

            def bash(script: str) -> tuple[int, str]:
                environment = s.environment | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
                told = subprocess.run(
                    ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
                )
                return told.returncode, told.stdout + told.stderr

            bash(
                f"{samples}\nprintf '[tool.saga]\\napp = \"services:app\"\\n' > pyproject.toml; ln -s {ROOT}/services {ROOT}/topics ."
            )
            for script, wanted in shown:
                code, said = await asyncio.to_thread(bash, script)
                assert (code, bool(pattern(wanted).fullmatch(said.strip()))) == (0, True), said
            for service in ("shipping", "order", "inventory"):
                code, said = await asyncio.to_thread(bash, f"saga participant check {service} --yes -o json")
                assert code == 0, said
            await s.settle()
            await journal_is_undisturbed(s)

    asyncio.run(scene())


async def journal_is_undisturbed(s: Shop) -> None:
    """What was answered to the check is unmatched, and nothing else; the orders that were under way have ended."""
    notes, saw = set(), 0
    for number in range(app.partitions):
        for record in await s.journal(number):
            value = decode(record)
            if value["kind"] == "decision" and NAME in json.dumps(value):
                saw += 1
                notes.add((value.get("note"), value.get("seq")))
    assert saw > 50
    assert notes == {("unmatched", 0)}


def pattern(text: str) -> re.Pattern[str]:
    """What a shown output stands for: `…` is anything."""
    return re.compile(".*?".join(re.escape(part) for part in text.strip().split("…")), re.DOTALL)
