"""Schedules, on decide and apply with a clock of the test's: one run for each slot, whoever crashes; missed slots, overlaps, changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from saga.engine.book import Book
from saga.engine.calendar import Slot
from saga.engine.decision import Decision, Input, Kind, Request
from saga.engine.definition import Saga
from saga.engine.policy import MAX_DECISIONS
from saga.engine.schedules import SCHEDULED, announcement, schedules
from tests.engine.families import Family
from tests.engine.kit import Ordered, Part, Run, Work, make, started

DAILY = "0 2 * * *"


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def report(cron: str = DAILY, tz: str = "UTC", **options: Any) -> Saga[Ordered, Work]:
    """A saga of one step that begins by the clock, under the local time of its slot."""
    saga = make({"x": Part(undo=False, timeout=1e7)}, name="report", deadline=1e8).saga

    @saga.every(cron, tz=tz, **options)
    def due(slot: Slot) -> Ordered:
        return Ordered(key=slot.at.isoformat(timespec="minutes"))

    return saga


class Clockwork:
    """A schedule and what it started, from `begin` on."""

    def __init__(self, begin: str, saga: Saga[Ordered, Work]) -> None:
        self.family = Family(saga)
        self.schedule = self.family.run("report-due", "report-due")
        self.schedule.now = ms(begin)
        self.tell()
        self.until(begin)

    def tell(self, saga: Saga[Ordered, Work] | None = None) -> Decision:
        """An orchestrator finds the schedule in its app, perhaps as it is in another version of the app."""
        if saga is not None:
            self.family.book = Family(saga).book
            self.schedule.saga = self.family.book.sagas["report-due"]
        assert self.schedule.saga is not None
        data = announcement(self.schedule.saga).model_dump(mode="json")
        id = f"{data['cron']} {data['tz']} {data['missed']} {data['overlap']}"
        self.schedule.feed(Input(Kind.START, SCHEDULED, id, "saga", "saga.requests:0:1", data=data))
        return self.schedule.decisions[-1]

    def until(self, time: str) -> Clockwork:
        """Time goes on, and each timer fires at its time."""
        while (due := self.schedule.instance.next_timer()) is not None and due[0] <= ms(time):
            self.schedule.timer()
            self.family.settle()
        self.schedule.now = ms(time)
        return self

    def outage(self, time: str) -> Clockwork:
        """Nobody runs until then; then what is due fires."""
        self.schedule.now = ms(time)
        return self.until(time)

    def ends(self, key: str, time: str) -> Clockwork:
        """A run that was begun ends at this time."""
        self.until(time)
        run = self.family.run("report", key)
        run.now = ms(time)
        run.reply("x")
        self.family.settle()
        return self.until(time)

    def begun(self) -> list[str]:
        """The slots that were run, in the order in which they were begun."""
        return [said.key for said in self.family.said() if said.type == Ordered.__type__]


def at(*hours: str) -> list[str]:
    return [f"2026-03-{hour}+00:00" for hour in hours]


def test_one_run_for_each_slot_and_none_before_the_first() -> None:
    clock = Clockwork("2026-03-01T12:00", report(overlap="allow")).until("2026-03-04T02:00")
    assert clock.begun() == at("02T02:00", "03T02:00", "04T02:00")
    assert clock.until("2026-03-05T01:59").begun() == at("02T02:00", "03T02:00", "04T02:00")


def test_a_crash_is_a_second_delivery_and_makes_no_second_run() -> None:
    clock = Clockwork("2026-03-01T12:00", report(overlap="allow")).until("2026-03-02T02:00")
    (begin,) = [said for said in clock.family.said() if said.type == Ordered.__type__]
    assert clock.family.deliver(begin).note == "duplicate", "the new owner publishes again what is not marked as published"
    fired = [decision.input for decision in clock.schedule.decisions if decision.input.kind is Kind.TIMER]
    for timer in fired:
        clock.schedule.feed(timer)
        assert clock.schedule.decisions[-1].ignored, "S26: a timer of another run fired again"
    assert clock.begun() == at("02T02:00")


def test_every_start_of_an_orchestrator_tells_the_schedule_and_changes_nothing() -> None:
    clock = Clockwork("2026-03-01T12:00", report(overlap="allow"))
    assert clock.tell().note in ("duplicate", "repeated-start")
    clock.until("2026-03-02T03:00")
    assert clock.tell().note in ("duplicate", "repeated-start")
    assert clock.until("2026-03-03T03:00").begun() == at("02T02:00", "03T02:00")


MISSED = {"skip": [], "once": at("04T02:00"), "all": at("02T02:00", "03T02:00", "04T02:00")}


@pytest.mark.parametrize("missed", MISSED)
def test_slots_that_passed_while_nobody_ran(missed: str) -> None:
    clock = Clockwork("2026-03-01T12:00", report(missed=missed, overlap="allow")).outage("2026-03-04T08:00")
    assert clock.begun() == MISSED[missed]
    assert clock.until("2026-03-05T02:00").begun() == [*MISSED[missed], *at("05T02:00")]


def test_a_short_outage_is_not_missed() -> None:
    clock = Clockwork("2026-03-01T12:00", report(missed="skip", overlap="allow")).outage("2026-03-02T02:00:30")
    assert clock.begun() == at("02T02:00"), "an orchestrator may be restarted"


OVERLAP = {
    "skip": at("02T02:00", "05T02:00"),
    "queue": at("02T02:00", "03T02:00", "04T02:00", "05T02:00"),
    "allow": at("02T02:00", "03T02:00", "04T02:00", "05T02:00"),
}


@pytest.mark.parametrize("overlap", OVERLAP)
def test_slots_that_come_while_a_run_goes_on(overlap: str) -> None:
    clock = Clockwork("2026-03-01T12:00", report(overlap=overlap)).until("2026-03-04T12:00")
    assert len(clock.begun()) == (3 if overlap == "allow" else 1)
    clock.ends("2026-03-02T02:00+00:00", "2026-03-04T12:00")
    if overlap == "queue":
        assert clock.begun() == at("02T02:00", "03T02:00"), "queued runs go one after the other"
        clock.ends("2026-03-03T02:00+00:00", "2026-03-04T13:00").ends("2026-03-04T02:00+00:00", "2026-03-04T14:00")
    assert clock.until("2026-03-05T02:00").begun() == OVERLAP[overlap]


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_no_slot_is_run_twice_whatever_the_policies(missed: str, overlap: str) -> None:
    clock = Clockwork("2026-03-01T12:00", report("0 * * * *", missed=missed, overlap=overlap))
    clock.until("2026-03-01T14:30").outage("2026-03-02T00:10")
    for hour in range(1, 6):
        clock.until(f"2026-03-02T0{hour}:10")
        running = [key for (name, key), run in clock.family.runs.items() if name == "report" and run.instance.live]
        for key in running[:1]:
            clock.ends(key, f"2026-03-02T0{hour}:20")
    begun = clock.begun()
    assert len(begun) == len(set(begun)), f"missed={missed}, overlap={overlap}: a slot was run twice"
    assert begun == sorted(begun)
    assert len(begun) > 2


def test_a_run_that_fails_or_parks_is_no_reason_to_stop() -> None:
    clock = Clockwork("2026-03-01T12:00", report()).until("2026-03-02T02:00")
    clock.family.run("report", "2026-03-02T02:00+00:00").reply("x", "refused")
    clock.family.settle()
    assert not clock.schedule.parked
    assert clock.until("2026-03-03T02:00").begun() == at("02T02:00", "03T02:00")


def test_a_key_that_stands_already_is_a_run_that_fails() -> None:
    clock = Clockwork("2026-03-01T12:00", report())
    clock.family.run("report", "2026-03-02T02:00+00:00").start(text="by hand")
    assert clock.until("2026-03-03T02:00").begun() == at("02T02:00", "03T02:00")


def test_when_the_clock_is_put_forward_and_back_each_day_has_its_run() -> None:
    spring = Clockwork("2026-03-28T12:00", report("30 2 * * *", "Europe/Berlin", overlap="allow")).until("2026-03-30T12:00")
    assert spring.begun() == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]
    autumn = Clockwork("2026-10-24T12:00", report("30 2 * * *", "Europe/Berlin", overlap="allow")).until("2026-10-26T12:00")
    assert autumn.begun() == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]


def test_a_changed_cron_line_counts_from_when_it_is_told() -> None:
    clock = Clockwork("2026-03-01T12:00", report(overlap="allow"))
    assert clock.tell(report("0 5 * * *", overlap="allow")).note == "rescheduled"
    assert clock.until("2026-03-02T06:00").begun() == at("02T05:00")
    assert clock.tell(report(overlap="allow")).note == "rescheduled", "a line that it had once before is a change too"
    assert clock.until("2026-03-03T06:00").begun() == at("02T05:00", "03T02:00")


def test_a_line_that_the_code_at_hand_does_not_have_changes_nothing() -> None:
    """While a deployment rolls, the old code's line may come late, or again."""
    clock = Clockwork("2026-03-01T12:00", report(overlap="allow"))
    old = clock.schedule.decisions[0].input
    clock.tell(report("0 5 * * *", overlap="allow"))
    clock.schedule.feed(replace(old, id="the old code's, told again"))
    assert clock.schedule.decisions[-1].note == "repeated-start"
    assert clock.until("2026-03-02T06:00").begun() == at("02T05:00")


def test_a_change_while_a_run_goes_on_is_no_conflict_and_counts_afterwards() -> None:
    clock = Clockwork("2026-03-01T12:00", report()).until("2026-03-02T02:00")
    decision = clock.tell(report("0 5 * * *"))
    assert (decision.note, decision.outputs) == ("repeated-start", ())
    clock.ends("2026-03-02T02:00+00:00", "2026-03-02T03:00")
    assert clock.until("2026-03-02T06:00").begun() == at("02T02:00", "02T05:00")


def test_user_code_of_a_slot_that_raises_parks_the_schedule_and_retry_runs_it() -> None:
    saga = report(overlap="allow")
    (name, (schedule, right)) = next(iter(saga.timetable.items()))
    broken = True

    def make_event(slot: Slot) -> Ordered:
        if broken:
            raise RuntimeError("no report today")
        return right(slot)

    saga.timetable[name] = schedule, make_event
    clock = Clockwork("2026-03-01T12:00", saga).until("2026-03-02T02:00")
    assert clock.schedule.parked == "user-code"
    broken = False
    clock.schedule.retry()
    assert clock.begun() == at("02T02:00")


def test_s32_a_schedule_goes_on_after_more_slots_than_an_instance_may_have_decisions() -> None:
    clock = Clockwork("2026-03-01T12:00", report(overlap="allow")).until("2026-03-02T02:00")
    clock.schedule.instance.seq = 3 * MAX_DECISIONS  # as after some years
    clock.until("2026-03-03T02:00")
    clock.schedule.retry()  # what it was given before its numbers were changed
    assert clock.until("2026-03-05T02:00").begun()[-1] == "2026-03-05T02:00+00:00"
    assert not clock.schedule.parked
    assert clock.schedule.instance.limit > clock.schedule.instance.seq, "a saga that begins anew has ever fewer decisions left"


# --- renew --------------------------------------------------------------------------------------------------------------------------------


def test_s28_a_saga_that_begins_anew_is_many_runs_each_with_its_outcome() -> None:
    saga = make({"a": Part()}).saga
    saga.renew(lambda data, _at: data if len(data.log) < 3 else None)
    run = Run(saga)
    run.start()
    ids = [run.instance.id]
    for _ in range(2):
        assert run.reply("a") == ["completed", "started", "execute a#1"]
        ids.append(run.instance.id)
    assert run.reply("a") == ["completed"]
    assert len(set(ids)) == 3
    assert run.log == ["a", "a", "a"]
    assert [decision.seq for decision in run.decisions] == list(range(1, 5)), "I6: the numbers of decisions go on"


def test_s10_a_reply_to_the_run_before_changes_nothing() -> None:
    saga = make({"a": Part()}).saga
    saga.renew(lambda data, _at: data)
    run = Run(saga)
    run.start()
    old = run.answer("a")
    run.reply("a")
    assert run.feed(old) == []
    assert run.note == "unmatched"


def test_s29_a_saga_that_would_begin_anew_for_ever_parks() -> None:
    made = make({"a": Part(), "b": Part(after=("a",), when="?")})
    saga = make({"m": Part(items=0)}).saga
    saga.renew(lambda data, _at: data)
    run = Run(saga)
    run.start()
    assert run.parked == "user-code"
    assert "must lead to something that waits" in (run.instance.parked.detail if run.instance.parked else "")
    made.saga.renew(lambda _data, _at: "no data")  # type: ignore[arg-type,return-value]
    other = Run(made.saga)
    other.start()
    other.reply("a")
    assert other.reply("b") == ["parked"]


def test_s06_a_start_that_is_repeated_is_answered_with_the_run_that_goes_on() -> None:
    saga = make({"a": Part()}).saga
    saga.renew(lambda data, _at: data)
    run = Run(saga)
    run.start()
    run.reply("a")
    assert run.start(id="again") == ["started"]
    assert run.start(id="other", text="other") == ["rejected", "deadletter conflict"]


def test_two_schedules_of_an_app_begin_only_themselves() -> None:
    """All start on the same type of event; once each of them started all, and a slot was run as often as there were schedules."""
    other = make({"y": Part()}, name="stocktake").saga

    @other.every("0 3 * * *", tz="UTC")
    def tonight(slot: Slot) -> Ordered:
        return Ordered(key=slot.at.isoformat())

    book = Book([report(), other])
    for saga in (one for one in book.sagas.values() if one.schedule is not None):
        told = announcement(saga).model_dump(mode="json")
        assert [(target.saga, target.key) for target in book.route(SCHEDULED, {}, told)] == [(saga.name, saga.name)]


@pytest.mark.parametrize(("missed", "made_up"), [("once", 1), ("all", 4), ("skip", 0)])
def test_slots_missed_before_a_changed_line_are_made_up_for(missed: str, made_up: int) -> None:
    clock = Clockwork("2026-03-01T12:00", report(missed=missed, overlap="allow"))
    clock.schedule.now = ms("2026-03-04T08:00")  # nobody ran for three nights; what runs now tells its line before any timer fires
    assert clock.tell(report("30 2 * * *", missed=missed, overlap="allow")).note == "repeated-start"
    clock.until("2026-03-04T09:00")
    assert len(clock.begun()) == made_up, (
        "of all: the slot it waited for, and then those of the new line, the only one that is known"
    )
    clock.until("2026-03-05T02:30")
    assert clock.begun()[made_up:] == at("05T02:30"), "from then on by the new line"


def test_a_line_that_changed_while_a_run_went_on_costs_no_slot_later() -> None:
    clock = Clockwork("2026-03-01T12:00", report()).until("2026-03-02T02:00")
    new = report("0 5 * * *")
    assert clock.tell(new).note == "repeated-start", "a run goes on"
    clock.ends(at("02T02:00")[0], "2026-03-02T03:00")
    clock.until("2026-03-02T05:00").ends(at("02T05:00")[0], "2026-03-02T06:00")
    clock.schedule.now = ms("2026-03-03T08:00")  # nobody ran at five
    clock.tell(new)
    clock.until("2026-03-03T09:00")
    assert clock.begun() == at("02T02:00", "02T05:00", "03T05:00")


def test_s30_a_schedule_that_the_app_has_no_more_is_ended_by_cancel_and_may_come_back() -> None:
    clock = Clockwork("2026-03-01T12:00", report())
    schedule, definition = clock.schedule, clock.schedule.saga
    assert schedule.operate("cancel", saga="report-due", key="report-due") == []
    assert schedule.note == "operator-refused", "as long as the app has it, it is to run"
    schedule.saga = None
    clock.until("2026-03-02T02:00")
    assert schedule.parked == "version"
    assert schedule.operate("retry", saga="report-due", key="report-due") == []
    assert schedule.note == "operator-refused"
    assert schedule.operate("cancel", saga="report-due", key="report-due") == ["compensated", "resumed"]
    assert (schedule.note, schedule.instance.live) == ("cancelled", False)
    assert schedule.instance.keep_until == schedule.now, "it is forgotten at once"
    schedule.saga, schedule.state = definition, None
    clock.tell()
    clock.until("2026-03-03T02:00")
    assert clock.begun() == at("03T02:00")


def test_s30_an_instance_of_a_saga_that_is_gone_is_not_ended_for_what_it_did() -> None:
    run = started({"a": Part(), "b": Part(after=("a",))})
    run.saga = None
    assert run.operate("cancel") == []
    assert run.note == "operator-refused"


def test_a_schedule_is_a_saga_of_its_own_with_one_instance() -> None:
    (made,) = schedules(report())
    assert made.name == "report-due"
    event = announcement(made)
    assert (event.name, event.cron, event.missed, event.overlap) == ("report-due", DAILY, "once", "skip")
    assert made.key(event) == "report-due"
    assert not [said for said in Clockwork("2026-03-01T12:00", report()).family.said() if isinstance(said, Request)]
