"""Whole stories, as people read them, against kept texts. After a wanted change: UPDATE_GOLDEN=1 pytest tests/ops/test_story.py."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from saga.ops.lines import page
from saga.ops.look import History
from saga.ops.operate import Act, Operator, Target
from saga.ops.story import story
from tests.ops import shop as s
from tests.ops.shop import Shop, ended, parked, play

GOLDEN = Path(__file__).parent / "golden"
ACT = Act("anna", "gateway is back")
MINUTE = 60_000


def told(history: History, now: int, width: int | None = None) -> str:
    lines = page(story(history, now, s.make()), width)
    return "\n".join((margin + text).rstrip() for _, margin, text in lines) + "\n"


def check(name: str, text: str) -> None:
    file = GOLDEN / f"{name}.txt"
    text = re.sub(r"(\w\.py):\d+", r"\1:N", text)  # the lines of the tests' own sagas move
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"the story {name} reads otherwise than in {file.name}"


def one(key: str, until: str, script: dict[str, list[s.Said]]) -> tuple[History, int]:
    async def scene(shop: Shop) -> tuple[History, int]:
        await s.place(shop.log, key)
        return await shop.until(key, ended if until == "ended" else parked), shop.now()

    return play(script, scene)


def test_a_completed_order() -> None:
    history, now = one("o-1", "ended", {})
    check("completed", told(history, now + 3 * MINUTE))


def test_a_refused_payment() -> None:
    history, now = one("o-2", "ended", {"o-2 pay execute": [s.DECLINED]})
    check("refused", told(history, now + 3 * MINUTE))


def test_an_unknown_pivot_that_is_verified() -> None:
    history, now = one("o-3", "ended", {"o-3 ship execute": [s.SILENCE], "o-3 ship verify": [s.FAILED]})
    check("verified", told(history, now + 26 * 60 * MINUTE))


def test_user_code_that_raised_and_its_retry() -> None:
    async def scene(shop: Shop) -> tuple[History, History, int]:
        await s.place(shop.log, "o-4")
        before = await shop.until("o-4", parked)
        await asyncio.sleep(2 * 3600 + 840)
        await Operator(shop.log, ACT).act_on([Target("shop", "o-4")])
        await shop.orchestrate()
        await Operator(shop.log, ACT).act_on([Target("shop", "o-4")])
        return before, await shop.until("o-4", ended), shop.now()

    before, after, now = play({}, scene, broken=True)
    check("parked", told(before, before.moments[-1].at + 5 * MINUTE))
    check("retried", told(after, now))


def test_a_compensation_that_fails() -> None:
    async def scene(shop: Shop) -> tuple[History, int]:
        await s.place(shop.log, "o-5")
        return await shop.until("o-5", parked), shop.now()

    script = {"o-5 ship execute": [s.NO_SUCH_STREET], "o-5 reserve compensate": [s.SILENCE, *[s.FAILED] * 9]}
    history, now = play(script, scene)
    check("compensation-fails", told(history, now + 40 * MINUTE))


@pytest.mark.parametrize("width", [40, 63, 80, 160])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width: int) -> None:
    history, now = one("o-2", "ended", {"o-2 pay execute": [s.DECLINED]})
    folded, whole = told(history, now, width), told(history, now)
    assert max(map(len, folded.splitlines())) <= width, f"a line is wider than {width}"
    clocks = {text for text in whole.split() if text.count(":") == 2 and "." in text and text[0].isdigit()} if width < 64 else set()
    assert "".join(folded.split()) == "".join(word for word in whole.split() if word not in clocks)


def test_what_is_told_cannot_move_the_cursor() -> None:
    evil = "x\x1b[2J\n\u202e<script>"
    history, now = one("o-6", "ended", {"o-6 pay execute": [("refused", "payment.declined.v1", {"reason": evil})]})
    text = told(history, now)
    assert "\\x1b[2J" in text, "an escape sequence is shown as what it is"
    assert "\x1b" not in text
    assert "\u202e" not in text, "a turned reading direction can show another text than there is"
