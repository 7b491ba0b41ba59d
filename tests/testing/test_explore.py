"""`explore` finds what people forget, says it so that it can be mended, and finds nothing where nothing is wrong."""

from __future__ import annotations

import itertools

import pytest
from pydantic import SecretStr

from saga import Misconfigured, Saga
from saga.engine import advance
from saga.engine.decision import Send
from saga.testing import Failure, Replies, Report, explore
from saga.testing.exploration import judge, services
from saga.testing.exploration.mail import Mail
from saga.testing.exploration.world import World
from tests.engine.kit import DIAMOND, FORK, PIVOT, Do, Part, make
from tests.testing.flawed import Book, Booked, NoWay, Order, Ordered, PutBack, Release, Reserve, Reserved, Return, Shop, Take, Taken


def found(report: Report) -> Failure:
    assert len(report.failures) == 1, str(report)
    return report.failures[0]


# --- nothing is wrong -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [False, True])
def test_a_saga_without_a_mistake_has_no_failure(parallel: bool) -> None:
    report = explore(Shop(parallel=parallel).saga())
    report.assert_ok()
    assert report.ok
    assert min(report.outcomes["completed"], report.outcomes["compensated"]) > 5, "hardly anything was tried"
    assert report.runs[0] == 1, "without a fault there is one run"
    assert report.parked["compensation"], "no compensation ever failed"


@pytest.mark.parametrize(
    ("parts", "faults"),
    [(FORK, 2), (PIVOT, 2), (DIAMOND, 1), ({"a": Part(undo=False), "b": Part(after=("a",), pivot=True)}, 2)],
)
def test_the_engine_breaks_no_rule(parts: dict[str, Part], faults: int) -> None:
    no_effect = [Do] if any(not part.undo for part in parts.values()) else []
    explore(make(parts).saga, faults=faults, no_effect=no_effect).assert_ok()


def test_the_report_counts_what_was_done() -> None:
    report = explore(Shop().saga(), faults=1)
    text = str(report)
    assert text.startswith("shop, version 1: nothing is wrong\n")
    assert f"{report.faults[1]} faults: {sum(report.runs.values())} different runs, {report.states} states" in text
    assert f"{report.outcomes['completed']} completed" in text


def test_the_same_again_gives_the_same() -> None:
    shop = Shop(refund=None)
    assert str(explore(shop.saga(), faults=1)) == str(explore(shop.saga(), faults=1))


# --- mistakes -------------------------------------------------------------------------------------------------------------------------


def test_a_step_that_nothing_undoes_is_found_and_told() -> None:
    report = explore(Shop(refund=None).saga())
    failure = found(report)
    assert (failure.kind, failure.step) == ("left behind", "pay")
    assert failure.faults == ("book (Book) is refused: NoWay",), "a single fault shows it, and a simple one"
    assert failure.left == ("pay",)
    assert failure.runs[1] > 5
    assert failure.runs[2] > failure.runs[1]
    text = str(report)
    for line in (
        "1. an effect is left behind: pay (Take) took effect, the saga was compensated, and nothing undid it",
        "Write @pay.compensate. If Take leaves nothing that must be undone, say so: no_effect=[Take].",
        "Fault: book (Book) is refused: NoWay",
        "payment says payment.taken.v1",
        "✗ book is refused",
        "✓ reserve is compensated",
        "What has taken effect and was not undone: pay.",
    ):
        assert line in text, text
    with pytest.raises(AssertionError, match="an effect is left behind"):
        report.assert_ok()


def test_what_has_no_effect_need_not_be_undone() -> None:
    explore(Shop(refund=None).saga(), faults=1, no_effect=[Take]).assert_ok()


def test_a_compensation_that_needs_a_reply_which_may_be_missing_is_found() -> None:
    def by_payment(o: Order, _: Take) -> Return:
        return Return(payment_id=o.payment_id)

    failure = found(explore(Shop(refund=by_payment).saga(), faults=1))
    assert failure.kind == "varies"
    assert 'what Return says depends on what else has happened by then: payment_id "payment_id-1" → ""' in failure.what
    assert "the command as it was sent" in failure.advice
    assert len(failure.faults) == 1
    explore(Shop(refund=by_payment).saga(), faults=1, varying=[Return]).assert_ok()


def test_a_compensation_that_needs_what_a_later_step_brings_is_found() -> None:
    def by_tracking(o: Order, sent: Reserve) -> Release:
        return Release(order_id=sent.order_id, tracking=o.tracking)

    failure = found(explore(Shop(release=by_tracking).saga(), faults=1))
    assert (failure.kind, failure.step) == ("varies", "reserve:compensate")
    assert len(failure.faults) == 1


def test_a_function_that_raises_on_some_path_is_found_with_its_line() -> None:
    def strict(o: Order, sent: Take) -> Return:
        if not o.payment_id:
            raise LookupError("no payment")
        return Return(order_id=sent.order_id)

    failure = found(explore(Shop(refund=strict).saga(), faults=1))
    assert (failure.kind, failure.step) == ("code raises", "pay")
    assert "LookupError: no payment" in failure.what
    assert "flawed.py" in failure.what or "test_explore.py" in failure.what
    assert "parked: its own code raised at pay: LookupError: no payment" in failure.story


def test_what_needs_two_faults_is_shown_with_two() -> None:
    def strict(o: Order, sent: Reserve) -> Release:
        if not o.payment_id and not o.shelf:  # both replies are missing
            raise LookupError("nothing is known")
        return Release(order_id=sent.order_id)

    failure = found(explore(Shop(release=strict, parallel=True).saga()))
    assert failure.kind == "code raises"
    assert len(failure.faults) == 2
    assert "LookupError" in failure.what
    explore(Shop(release=strict, parallel=True).saga(), faults=1).assert_ok()


def test_a_function_that_raises_always_needs_no_fault() -> None:
    def wrong(_: Order, reply: Taken) -> Order:
        return {"payment": reply.payment_id}["id"]  # type: ignore[return-value]

    failure = found(explore(Shop(paid=wrong).saga(), faults=1))
    assert (failure.kind, failure.step, failure.faults) == ("code raises", "pay", ())
    assert "No fault is needed for that." in str(failure)


def test_data_that_do_not_survive_the_journal_are_found() -> None:
    def secret(o: Order, _: Taken) -> Order:
        return o.model_copy(update={"card": SecretStr("4711")})

    failure = found(explore(Shop(paid=secret).saga(), faults=0))
    assert (failure.kind, failure.step) == ("lost data", "pay")
    assert "what secret makes does not survive the journal: card was" in failure.what

    def private(o: Order, _: Taken) -> Order:
        o._note = "call back"
        return o

    assert "_note is private and does not come back" in found(explore(Shop(paid=private).saga(), faults=0)).what


def test_a_command_that_depends_on_a_parallel_branch_is_found() -> None:
    def hasty(o: Order) -> Reserve:
        return Reserve(order_id=o.order_id)

    def note(o: Order, reply: Reserved) -> Order:
        return o.model_copy(update={"shelf": reply.shelf + o.payment_id})

    def by_shelf(o: Order, sent: Reserve) -> Release:
        return Release(order_id=sent.order_id, tracking=o.shelf)

    failure = found(explore(Shop(reserve=hasty, reserved=note, release=by_shelf, parallel=True).saga(), faults=1))
    assert (failure.kind, failure.step) == ("varies", "hasty:compensate")


def test_a_compensation_by_another_service_is_found() -> None:
    def put_back(_: Order, sent: Reserve) -> PutBack:
        return PutBack(order_id=sent.order_id)

    failure = found(explore(Shop(release=put_back).saga(), faults=1))
    assert (failure.kind, failure.step) == ("other service", "reserve:compensate")
    assert failure.what == "PutBack goes to payment, but Reserve to stock"


def test_code_that_draws_an_id_is_no_mistake() -> None:
    numbers = itertools.count()

    def drawing(o: Order) -> Reserve:
        return Reserve(order_id=o.order_id, payment_id=f"draw-{next(numbers)}")

    explore(Shop(reserve=drawing).saga(), faults=1).assert_ok()


# --- what it is told ------------------------------------------------------------------------------------------------------------------


def test_samples_may_be_given() -> None:
    def by_payment(o: Order, _: Take) -> Return:
        return Return(payment_id=o.payment_id)

    replies: Replies = {
        Take: Taken(payment_id="p-77"),
        Book: [Booked(tracking="t"), NoWay(reason="snow")],
        Reserve: lambda c: Reserved(shelf=c.order_id),
    }
    report = explore(Shop(refund=by_payment).saga(), faults=1, start=Ordered(order_id="o-12", total=5), replies=replies)
    assert "shop o-12" in found(report).story
    assert 'payment_id "p-77" → ""' in found(report).what


def test_what_does_not_fit_is_refused() -> None:
    shop = Shop().saga()
    with pytest.raises(Misconfigured, match="Take is answered by Taken or Declined, not by"):
        explore(shop, replies={Take: Booked(tracking="t")})
    with pytest.raises(Misconfigured, match="replies= names PutBack, which shop neither sends nor waits for"):
        explore(shop, replies={PutBack: Taken(payment_id="p")})
    with pytest.raises(Misconfigured, match="no_effect= or varying= names PutBack"):
        explore(shop, no_effect=[PutBack])
    with pytest.raises(Misconfigured, match="faults= is 0 to 3"):
        explore(shop, faults=9)


# --- does the judge see anything? -------------------------------------------------------------------------------------------------------
# Each of these plants a bug into the engine or the services as the exploration sees them; some rule must be broken.


def test_services_that_forget_break_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = services._answer

    def forgetful(world: World, mail: Mail, send: Send, verdict: object) -> services.Row:
        """Without an inbox or tombstones: it does what it is told whenever it is told."""
        world.rows = {}
        return honest(world, mail, send, verdict)

    monkeypatch.setattr(services, "_answer", forgetful)
    assert kinds(Shop().saga())


def kinds(saga: Saga[Ordered, Order]) -> set[str]:
    return {failure.kind for failure in explore(saga, faults=1).failures}


def test_an_engine_that_forgets_to_compensate_breaks_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "_to_undo", lambda *_: False)
    assert kinds(Shop().saga()) == {"not undone"}


def test_an_engine_that_compensates_too_early_breaks_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "UNSETTLED", ())
    assert kinds(Shop(parallel=True).saga()), "S16 is broken, and nobody saw it"


def test_an_engine_that_goes_on_too_early_breaks_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "_settled", lambda draft, name: name in draft.state.steps)
    assert kinds(Shop().saga()), "I10 is broken, and nobody saw it"


def test_a_run_that_never_ends_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "MAX_DECISIONS", 5)
    assert kinds(Shop().saga()) == {"endless"}
