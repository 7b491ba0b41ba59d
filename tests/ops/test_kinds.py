"""The stories of every kind of step and of every operator action, as people read them, against kept texts."""

from __future__ import annotations

import pytest

from saga.engine.definition import hours, minutes
from saga.ops.awaited import questions
from saga.ops.lines import page
from saga.ops.listing import cells
from saga.ops.story import story
from saga.ops.why import why
from saga.testing import Bench, Case
from tests.ops import office as o
from tests.ops.test_story import check


def shop(bench: Bench) -> Bench:
    """Everybody does what is asked."""
    bench.answer(o.Take, o.Taken())
    bench.answer(o.Return, o.Returned())
    bench.answer(o.Tell, o.Told())
    bench.answer(o.Reserve, lambda c: o.Reserved(shelf=len(c.sku)))
    bench.answer(o.Release, o.Released())
    bench.answer(o.Courier, o.Sent())
    bench.answer(o.Post, o.Sent())
    bench.answer(o.Chase, o.Chased())
    return bench


def shops() -> Bench:
    return Bench(o.order, o.loyalty)


def placed(bench: Bench, key: str, *lines: str, express: bool = False) -> Case:
    return bench.start(o.OrderPlaced(order_id=key, lines=lines, express=express))


def told(*cases: Case) -> str:
    """The stories, as they stand in a pipe; on a terminal no line may be wider than it is."""
    for case in cases:
        lines = story(case._history, case._bench.now, case._bench.sagas[case.saga])
        for width in (40, 60, 120):
            wide = [margin + text for _, margin, text in page(lines, width) if len(margin + text) > width]
            assert not wide, f"wider than {width} columns: {wide}"
    return "\n\n".join(case.story() for case in cases) + "\n"


def test_items_of_a_mapped_step_and_the_other_side_of_an_if() -> None:
    with shop(shops()) as bench:
        case = placed(bench, "o-1", "pen", "paper", "ink", "clip")
        check("items", told(case))
        bench.send(o.Picked(order_id="o-1"), key="o-1")
        assert case.outcome == "completed"


def test_an_item_that_is_refused_undoes_those_before_it() -> None:
    with shop(shops()) as bench:
        bench.answer(o.Reserve, lambda c: o.Out() if c.sku == "ink" else o.Reserved())
        case = placed(bench, "o-2", "pen", "paper", "ink", "clip", "glue")
        check("items-refused", told(case))


def test_best_effort_that_fails_and_a_chain_and_runs_that_begin_anew() -> None:
    with shop(shops()) as bench:
        bench.refuse(o.Tell, o.Unwilling())
        case = placed(bench, "o-3", express=True)
        bench.send(o.Picked(order_id="o-3"), key="o-3")
        check("best-effort-and-chain", told(case))
        points = bench.case("o-3", "loyalty")
        bench.advance(hours(2.5))
        check("renewed", told(points))
        bench.advance(hours(6))
        check("renewed-often", told(points))


def test_an_event_that_comes_too_early_and_is_kept() -> None:
    with shop(shops()) as bench:
        bench.send(o.Picked(order_id="o-4"), key="o-4")
        case = bench.case("o-4")
        bench.advance(minutes(3))
        check("early", told(case))
        placed(bench, "o-4")
        check("early-started", told(case))


def test_what_nobody_ever_starts() -> None:
    with shop(shops()) as bench:
        bench.send(o.Picked(order_id="o-5"), key="o-5")
        bench.advance(hours(25))
        check("never-started", told(Case(bench, "order", "o-5")))


def test_what_is_late_its_remedy_and_an_operator_who_skips_it() -> None:
    with shop(shops()) as bench:
        case = placed(bench, "o-6")
        assert case.why().startswith(
            "order o-6 waits for carrier.picked.v1 (picked), until 04:00:00 UTC (in 4 h), then carrier.chase.v1"
        )
        bench.silence(o.Chase, times=1)
        bench.advance(hours(4))
        assert "for the reply of carrier to the remedy of picked (attempt 1 of 5, sent just now)" in case.why()
        bench.advance(hours(5))
        check("late-parked", told(case))
        with pytest.raises(AssertionError, match="crm is not stuck; picked is"):
            case.skip("crm", why="I was told to")
        case.skip("picked", o.Picked(order_id="o-6"), why="the driver said so on the phone")
        check("late-skipped", told(case))


def test_a_question_that_is_escalated_and_a_child_that_is_undone() -> None:
    with Bench(o.refunds, o.payout) as bench:
        bench.answer(o.Take, o.Taken())
        bench.answer(o.Return, o.Returned())
        bench.refuse(o.Close, o.NotClosed())
        case = bench.start(o.RefundAsked(order_id="r-1", amount=3))
        assert case.why() == (
            "refund r-1 waits for the answer of finance to approval (office.verdict.v1), until 02:00:00 UTC (in 2 h), "
            "then cfo is asked; its deadline is in 5 d."
        )
        with pytest.raises(AssertionError, match="approval is answered by the role finance, not by cfo"):
            case.answer("approval", o.Verdict(ok=True), "cfo", why="she is away")
        bench.advance(hours(2))
        assert "the answer of finance or cfo to approval" in case.why()
        bench.silence(o.Take, times=1)
        case.answer("approval", o.Verdict(ok=True), "cfo", why="she is away")
        assert "for the child payout r-1-out of pay_out to end (`saga why r-1-out --saga payout` says more)" in case.why()
        bench.settle()
        check("question-and-child", told(case, bench.case("r-1-out")))


def test_a_question_that_nobody_answers() -> None:
    with Bench(o.refunds, o.payout) as bench:
        case = bench.start(o.RefundAsked(order_id="r-2", amount=3))
        bench.advance(hours(5))
        check("never-answered", told(case))


def test_a_schedule() -> None:
    with Bench(o.report) as bench:
        check("schedule", told(schedule(bench)))


def schedule(bench: Bench) -> Case:
    """It needs no start: an orchestrator that finds it in its app begins it."""
    bench.advance(hours(30))
    return bench.case("report-nightly")


def test_cancelled_while_it_waits_and_while_the_pivot_is_out() -> None:
    with shop(shops()) as bench:
        bench.silence(o.Reserve, times=1)
        early = placed(bench, "o-7", "pen")
        early.cancel(why="the customer called")
        assert "compensates since it was cancelled (bench: the customer called)" in early.why()
        bench.settle()
        bench.silence(o.Post, times=1)
        late = placed(bench, "o-8")
        late.cancel(why="the customer called")
        assert "; it is cancelled, unless that succeeds." in late.why()
        bench.settle()
        check("cancelled", told(early, late))
        with pytest.raises(AssertionError, match="nobody knows whether its pivot happened"):
            late.cancel(why="do it now")
        late.skip("post", why="the carrier has no parcel")
        check("cancelled-skipped", told(late))


def test_compensated_by_an_operator() -> None:
    with Bench(o.refunds, o.payout) as bench:
        bench.answer(o.Take, o.Taken())
        bench.silence(o.Close)
        stuck = bench.start(o.RefundAsked(order_id="r-3", amount=3))
        stuck.answer("approval", o.Verdict(ok=False), "finance")
        bench.settle()
        stuck.compensate(why="the bank is closed for good")
        check("compensated-by-hand", told(stuck))


def test_code_that_raised_on_data_that_is_edited_and_goes_on_with_what_was_kept() -> None:
    with Bench(o.refunds, o.payout) as bench:
        bench.answer(o.Close, o.Closed())
        case = bench.start(o.RefundAsked(order_id="r-4", amount=0))
        case.answer("approval", o.Verdict(ok=False), "finance", why="the photo is clear")
        assert case.parked == "user-code"
        case.edit(case.data.model_copy(update={"amount": 50}), why="the form said 50")
        case.resume(why="try it again")
        check("resumed", told(case))


def test_data_that_is_edited_and_what_was_kept_then_taken() -> None:
    with Bench(o.order, o.loyalty) as bench:
        shop(bench)
        bench.answer(o.Reserve, o.Reserved(shelf=1))
        bench.silence(o.Post)
        case = placed(bench, "o-9", "pen")
        bench.settle()
        with pytest.raises(AssertionError, match="lines"):
            case._bench.operate(case, "saga.edit.v1", "typo", data={"order_id": "o-9"})
        data = case.data.model_copy(update={"lines": ["ink"], "express": True})
        case.edit(data, why="typo in the order")
        bench.answer(o.Post, o.Sent())
        case.retry(why="the post is back")
        case.signal(o.Picked(order_id="o-9"), why="seen it myself")
        check("edited", told(case))


def row(case: Case) -> str:
    """As `saga list` shows it."""
    state = case._history.state
    assert state is not None
    _, texts = cells(state, case._bench.now, case._bench.sagas[case.saga])
    return " | ".join(texts)


def test_why_and_list_say_how_far_a_list_is() -> None:
    with shop(shops()) as bench:
        bench.silence(o.Reserve)
        case = placed(bench, "o-10", "pen", "paper", "ink", "clip")
        assert case.why() == (
            'order o-10 waits for 3 items of reserve (0 of 4 done), the first for the reply of stock to reserve/0 "pen" '
            "(attempt 1 of 5, sent just now), time-out in 30 s, then attempt 2; its deadline is in 30 min."
        )
        assert row(case) == "running | order | o-10 | 0 ms | reserve 0/4 | 3 times attempt 1, time-out in 30 s"


def test_why_and_list_say_which_child_which_time_and_what_was_said_before() -> None:
    with Bench(o.refunds, o.payout) as bench:
        bench.silence(o.Take)
        case = bench.start(o.RefundAsked(order_id="r-5", amount=3))
        assert row(case).endswith("| approval | answer of finance, due in 2 h")
        case.answer("approval", o.Verdict(ok=True), "finance")
        assert row(case).endswith("| pay_out | child payout r-5-out")
        case.cancel(why="wrong customer")
        assert row(case).endswith("| pay_out | child payout r-5-out to undo itself; it was cancelled (bench: wrong customer)")
        assert case.why() == (
            "refund r-5 compensates since it was cancelled (bench: wrong customer): it waits for the child payout r-5-out of pay_out "
            "to undo itself (`saga why r-5-out --saga payout` says more)."
        )
        child = bench.case("r-5-out")
        assert child.why().startswith("payout r-5-out compensates since its parent turned back: it waits for ")
    with shop(shops()) as bench:
        bench.send(o.Picked(order_id="o-11"), key="o-11")
        assert row(bench.case("o-11")) == "early | order | o-11 | 0 ms |  | keeps 1 event for its start for 1 d more"
        placed(bench, "o-11")
        points = bench.case("o-11", "loyalty")
        assert row(points).endswith("| rest | time in 1 h")
        assert points.why().startswith("loyalty o-11 waits for the time of rest, 01:00:00 UTC, in 1 h; its deadline is in 3 d.")


def test_without_the_definition_less_is_said_and_nothing_wrong() -> None:
    with Bench(o.refunds, o.payout) as bench:
        case = bench.start(o.RefundAsked(order_id="r-6", amount=3))
        state = case._history.state
        assert state is not None
        assert why(state, bench.now) == "refund r-6 waits for approval, until 02:00:00 UTC (in 2 h); its deadline is in 5 d."
        assert cells(state, bench.now)[1][-1] == "event, due in 2 h"
        assert list(questions(state, None)) == []
        assert [one.roles for one in questions(state, o.refunds)] == [("finance",)]
        bench.advance(hours(2))
        state = case._history.state
        assert state is not None
        assert [one.roles for one in questions(state, o.refunds)] == [("finance", "cfo")]
