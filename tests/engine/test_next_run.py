"""What was kept for one run of a saga that begins anew is not for the next: a late reply, and a person's answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from saga import START, Command, Event, Saga, hours
from saga.cloudevents import CloudEvent
from saga.engine.actions import SIGNAL
from saga.testing import Bench


class Wanted(Event, type="meter.wanted.v1"):
    key: str


class Done(Event, type="work.done.v1"):
    number: int = 0


class Do(Command[Done], service="work"):
    key: str


class Verdict(Event, type="office.verdict.v1"):
    ok: bool


class Data(BaseModel):
    key: str
    run: int = 0
    heard: list[str] = []


def meter(broken: set[str], *, asks: bool) -> Saga[Wanted, Data]:
    """Three runs; user code raises as long as `broken` says so, so that inputs are kept."""
    saga = Saga("meter", version=1, starts_on=Wanted, key=lambda w: w.key, data=Data, deadline=hours(9))

    @saga.start
    def begin(w: Wanted) -> Data:
        return Data(key=w.key)

    @saga.step(after=START, compensation=None)
    def do(d: Data) -> Do:
        return Do(key=d.key)

    @do.done
    def did(d: Data, reply: Done) -> Data:
        if broken:
            raise RuntimeError("broken")
        return d.model_copy(update={"heard": [*d.heard, f"run {d.run} heard {reply.number}"]})

    if asks:
        approval = saga.ask(Verdict, after=START, within=hours(1), role="office", name="approval")

        @approval.done
        def decided(d: Data, verdict: Verdict) -> Data:
            return d.model_copy(update={"heard": [*d.heard, f"run {d.run}: {verdict.ok}"]})

    @saga.renew
    def again(d: Data, _at: datetime) -> Data | None:
        return Data(key=d.key, run=d.run + 1, heard=d.heard) if d.run < 3 else None

    return saga


def reply(bench: Bench, run: str, number: int) -> None:
    """A reply to that run's command, of one attempt among several."""
    about = {"sagacommand": f"{run}:do:execute", "sagaoutcome": "done", "sagaattempt": str(number)}
    sent = CloudEvent("work.done.v1", f"reply-{number}", "work", {"number": number}, subject="x", attributes=about)
    bench._put("work.events", sent.record(b"x"))


def test_s10_a_second_reply_that_was_kept_with_the_first_is_not_the_next_runs() -> None:
    broken = {"yes"}
    with Bench(meter(broken, asks=False)) as bench:
        bench.silence(Do)
        case = bench.start(Wanted(key="x"))
        first = case.id
        reply(bench, first, 1)
        reply(bench, first, 2)
        assert case.parked == "user-code"
        broken.clear()
        case.resume()
        assert case.id != first
        assert (case.data.run, case.data.heard, case.steps["do"]) == (1, ["run 0 heard 1"], "executing")


def test_s30_a_second_answer_that_was_kept_does_not_answer_the_next_runs_question() -> None:
    broken: set[str] = {"yes"}
    with Bench(meter(broken, asks=True)) as bench:
        bench.answer(Do, Done(), times=1)
        bench.silence(Do)
        case = bench.start(Wanted(key="x"))
        first = case.id
        said: dict[str, Any] = {"type": Verdict.__type__, "step": "approval", "role": "office", "data": {"ok": True}}
        for _ in range(2):  # two people answer, and mean this run
            bench.operate(case, SIGNAL, "a test", instance=first, **said)
        broken.clear()
        case.resume()
        assert case.id != first
        assert case.data.heard == ["run 0 heard 0", "run 0: True"]
        assert case.steps["approval"] == "waiting"
