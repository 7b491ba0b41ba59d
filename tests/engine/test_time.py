"""S26, S27, S31: timers, and that applying and folding never send or run user code."""

from __future__ import annotations

import ast
from pathlib import Path

import orjson
import pytest

import saga.engine
from saga.engine.apply import apply
from saga.engine.decision import Input, Kind
from saga.engine.state import Instance, instance_id, split_instance
from tests.engine.kit import BEGAN, DIAMOND, Part, Run, make, reread, started


def timer(run: Run, step: str, due: int | None) -> list[str]:
    return run.feed(Input(Kind.TIMER, data={"step": step, "due": due}))


def test_s26_a_timer_fires_at_most_once() -> None:
    run = started({"a": Part()})
    due = run.instance.steps["a"].due
    run.timer()
    assert timer(run, "a", due) == []
    assert run.note == "void"
    assert run.decisions[-1].ignored


def test_s26_a_timer_is_void_when_its_attempt_settled() -> None:
    run = started({"a": Part(), "b": Part(after=("a",))})
    due = run.instance.steps["a"].due
    run.reply("a", "failed")
    run.now = BEGAN + 10_000
    assert timer(run, "a", due) == []
    assert run.note == "void"
    run.reply("a")
    assert timer(run, "a", due) == []
    assert run.note == "void"


@pytest.mark.parametrize("step", ["a", ""])
def test_s26_a_timer_that_comes_early_changes_nothing(step: str) -> None:
    run = started({"a": Part()}, deadline=60)
    due = run.instance.steps["a"].due if step else run.instance.deadline
    assert timer(run, step, due) == []
    assert run.note == "early"


def test_s26_the_deadline_fires_once() -> None:
    run = started({"a": Part(timeout=500)}, deadline=60)
    run.deadline()
    assert run.deadline() == []
    assert run.note == "void"


def test_s26_the_next_timer_is_the_earliest_and_after_the_end_there_is_none() -> None:
    run = started({"a": Part(timeout=30), "b": Part(timeout=20)}, deadline=25)
    assert run.instance.next_timer() == (BEGAN + 20_000, "b")
    run.reply("b")
    assert run.instance.next_timer() == (BEGAN + 25_000, "")
    run.reply("a")
    assert run.instance.next_timer() is None
    assert timer(run, "", run.instance.deadline) == []
    assert run.note == "after-end"


def test_s27_times_in_the_state_are_those_that_were_given() -> None:
    run = started({"a": Part()})
    run.now += 4321
    run.reply("a", "failed")
    due = run.instance.steps["a"].due
    assert due is not None
    assert run.now + 500 <= due <= run.now + 1000
    assert run.instance.started == BEGAN


def test_s31_a_fold_of_the_journal_gives_the_live_state_without_the_definition() -> None:
    made = make(DIAMOND)
    run = Run(made.saga)
    run.start()
    for step, outcome in (("a", "done"), ("b", "failed"), ("c", "refused")):
        run.reply(step, outcome)
    run.silence()
    made.saga.steps.clear()
    folded: Instance | None = None
    for decision in run.decisions:
        folded = apply(folded, reread(decision))
    assert folded is not None
    assert folded.to_json() == run.instance.to_json(), "P3: the journal alone does not rebuild the state"


def test_s31_a_decision_out_of_turn_is_not_applied() -> None:
    run = started(DIAMOND)
    run.reply("a")
    with pytest.raises(AssertionError, match="decision 2 follows 2"):
        apply(run.instance, run.decisions[-1])
    with pytest.raises(AssertionError, match="decision 2 follows 0"):
        apply(None, run.decisions[-1])


def test_s31_a_state_is_plain_json_and_leaves_defaults_out() -> None:
    run = started(DIAMOND)
    value = orjson.loads(orjson.dumps(run.instance.to_json()))
    assert Instance.from_json(value) == run.instance
    assert "parked" not in value
    assert "kept" not in value


def test_s31_the_engine_imports_nothing_that_knows_time_chance_or_the_world() -> None:
    files = sorted(Path(saga.engine.__file__ or "").parent.glob("*.py"))
    assert len(files) > 10, "the engine was not found"
    forbidden = {"asyncio", "time", "random", "uuid", "os", "logging", "socket", "threading", "datetime.datetime"}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not forbidden & {name.split(".")[0] for name in names}, f"{file.name} imports {names}"


@pytest.mark.parametrize("key", ["k", "a:b", "%3A", "%", "ü:%25", "::"])
def test_s31_an_instance_id_gives_back_saga_and_key(key: str) -> None:
    assert split_instance(instance_id("shop", key, BEGAN)) == ("shop", key)
