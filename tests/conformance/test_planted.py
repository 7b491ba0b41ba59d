"""Each mistake of a participant is found, by the checks that are about it and by no other; and the right one is told to be right."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from saga.conformance import Asked, Checked, Finding, Result, Samples, check, plan, subject
from saga.conformance.garbage import NO_SUBJECT, PIECES, Piece
from saga.log.base import StoredRecord
from saga.testing.clock import run
from tests.conformance import planted
from tests.conformance.cup import HUGE_SIZE, REMEMBERS, Cup, Stopped, TellsEvents, app, working

SAMPLES = {"cup.make.v1": [{"cup_id": "{key}", "size": 1}, {"cup_id": "{key}", "size": HUGE_SIZE}]}


def checked(kind: type[Cup], samples: Samples | None = None, **asked: object) -> Checked:
    async def scene() -> Checked:
        async with working(kind) as (log, _):
            wanted = Asked(**{"remembers": REMEMBERS} | asked)  # type: ignore[arg-type]
            return await check(log, subject(app.book.sagas, "cup", samples or Samples(SAMPLES)), wanted)

    return run(scene())


def by_result(findings: Sequence[Finding], result: Result) -> set[str]:
    return {finding.check for finding in findings if finding.result is result}


def test_the_right_one_is_right() -> None:
    found = checked(Cup)
    assert by_result(found.findings, Result.FAILED) == set(), told(found)
    assert by_result(found.findings, Result.SKIPPED) == {"once"}, "it tells no events"
    assert len(found.findings) == 39
    assert found.left == 0
    assert found.undone > 10


def test_one_that_tells_events_is_right_too_and_its_effects_can_be_counted() -> None:
    found = checked(TellsEvents)
    assert {finding.result for finding in found.findings} == {Result.OK}, told(found)


def test_no_more_is_done_than_was_planned_and_it_is_undone() -> None:
    async def scene() -> None:
        async with working(Cup) as (log, cup):
            of, asked = subject(app.book.sagas, "cup", Samples()), Asked(keys=7)
            planned = await plan(log, of, asked)
            assert cup.made == 0
            checked = await check(log, of, asked)
            assert 0 < cup.made <= planned.done_at_most
            assert checked.left == 0
            undone = [row for id, row in cup.inbox.items() if id.endswith(":compensate") and row.state == "done"]
            assert len(undone) == cup.made

    run(scene())


def test_without_garbage_none_is_sent() -> None:
    found = checked(planted.StopsAtGarbage, garbage=False)
    assert by_result(found.findings, Result.FAILED) == set(), told(found)
    assert not [finding for finding in found.findings if finding.check.startswith("garbage")]


def test_garbage_that_the_topic_does_not_take_is_no_fault_of_the_participant() -> None:
    async def scene() -> Checked:
        async with working(Cup, {"max.message.bytes": "500000"}) as (log, _):
            return await check(log, subject(app.book.sagas, "cup", Samples()), Asked())

    found = run(scene())
    assert by_result(found.findings, Result.FAILED) == set(), told(found)
    (huge,) = [finding for finding in found.findings if finding.check == "garbage-huge-header"]
    assert huge.remark.startswith("the topic does not take it: ")


def test_where_nothing_can_be_done_it_says_what_is_missing() -> None:
    found = checked(Cup, Samples({"cup.make.v1": [{"cup_id": "{key}", "size": HUGE_SIZE}]}))
    assert by_result(found.findings, Result.FAILED) == set()
    (why,) = {f.remark for f in found.findings if f.check in ("compensation", "compensation-repeat", "late-copy", "verify")}
    assert why == "every sample was refused (cup.no-clay.v1); give one that is done: --samples FILE"


MISTAKES: dict[str, set[str]] = {
    "NoInbox": {"repeat", "late-copy"},
    "NewIdOnRepeat": {"repeat", "late-copy", "compensation-repeat", "verify-repeat", "early-compensation", "early-verify"},
    "SilentOnRepeat": {"repeat", "late-copy", "compensation-repeat", "verify-repeat", "early-compensation", "early-verify"},
    "SecondEffectInSecret": {"once"},
    "NoTombstone": {"tombstone", "verify-tombstone"},
    "DoneWithoutUndoing": {"early-compensation"},
    "NothingAfterDone": {"compensation"},
    "ForgetsWhatWasUndone": {"late-copy"},
    "CannotFind": {"verify"},
    "FindsAnother": {"verify"},
    "RefusesAnew": {"repeat"},
    "BreaksWhatWasRefused": {"refused"},
    "StoresFailed": {"failed"},
    "SameIdForFailures": {"failed"},
    "NoEcho": {"echo"},
    "EchoesNoAttempt": {"echo"},
    "LosesTheTrace": {"trace"},
    "ByKey": {"place"},
    "WithoutKey": {"key"},
    "AnotherSource": {"headers"},
    "LacksAField": {"payload"},
    "DoneUnderAnotherName": {"payload"},
    "StopsAtGarbage": {"garbage-no-value"},
    "DoesWhatItCannotRead": {"garbage-action"},
    "DeadLettersWithoutReason": {"deadletters"},
    "OutOfOrder": {"order"},
    "DeafOnOnePartition": {"many-keys"},
    "NeverForgets": {"expired"},
    "ClosesWhatItForgot": {"forgotten"},
    "Silent": {"answered"},
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_by_what_is_about_it(name: str) -> None:
    found = checked(getattr(planted, name))
    failed = by_result(found.findings, Result.FAILED)
    assert failed == MISTAKES[name] or (name == "DeafOnOnePartition" and failed >= MISTAKES[name]), told(found)
    for finding in found.findings:
        if finding.result is Result.FAILED:
            assert finding.expected, finding
            assert finding.came, finding


@pytest.mark.parametrize(
    ("number", "piece"), list(enumerate((*PIECES, NO_SUBJECT))), ids=lambda value: getattr(value, "name", None)
)
def test_a_piece_of_garbage_at_which_it_stops_is_named(number: int, piece: Piece) -> None:
    class StopsAtOne(Cup):
        seen = 0

        async def set_aside(self, record: StoredRecord, why: str) -> None:
            if self.seen == number:
                raise Stopped
            self.seen += 1
            await super().set_aside(record, why)

    found = checked(StopsAtOne)
    assert by_result(found.findings, Result.FAILED) == {f"garbage-{piece.name}"}, told(found)
    assert found.left > 0, "what could not be undone is not told"


def test_each_check_is_failed_by_some_mistake() -> None:
    checks = {finding.check for finding in checked(Cup).findings if not finding.check.startswith("garbage-")}
    assert checks - set().union(*MISTAKES.values()) == set()


def test_every_mistake_of_the_module_is_here() -> None:
    kinds = {name for name, kind in vars(planted).items() if isinstance(kind, type) and issubclass(kind, Cup)}
    assert kinds == {"Cup", *MISTAKES}


def told(found: Checked) -> str:
    return "\n".join(f"{f.result} {f.check} {f.about}: {f.expected} | {f.came} | {f.where} | {f.remark}" for f in found.findings)
