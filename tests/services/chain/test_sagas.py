"""Purchases, points and refunds on the bench: every outcome, with the real services of both packages, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from saga import Store, Work
from saga.testing import Bench, Case
from services.chain.cashier import CLOSED_LATER, DECLINED, cashier, entries
from services.chain.cashier import TABLES as CASHIER
from services.chain.loyalty.points import TABLES as LOYALTY
from services.chain.loyalty.points import accounts, grant, loyalty, movements, restore, take_back
from services.chain.loyalty.saga import loyalty_points, points_back, reward
from services.chain.purchases import TABLES as PURCHASES
from services.chain.purchases import purchases, purchases_made
from services.chain.saga import purchase, refund
from topics.chain import (
    GrantPoints,
    OpenRefund,
    PayBack,
    PointsTakenBack,
    PointsWanted,
    PurchaseConfirmed,
    PurchaseWanted,
    RefundOpened,
    RefundVerdict,
    RefundWanted,
    RestorePoints,
    RewardWanted,
    TakePointsBack,
)

WANTED = PurchaseWanted(purchase_id="p-1", customer_id="ada", total=4250, card="good")
BACK = RefundWanted(purchase_id="p-1", reason="does not fit")


class Play:
    """The bench with the three real services."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.purchases = bench.participant(purchases, tables=PURCHASES)
        self.cashier = bench.participant(cashier, tables=CASHIER)
        self.loyalty = bench.participant(loyalty, tables=LOYALTY)

    def buy(self, **other: object) -> Case:
        return self.bench.start(WANTED.model_copy(update=other))

    def refund(self, granted: bool, role: str = "support") -> Case:
        case = self.bench.start(BACK)
        if case.outcome is None:
            case.answer("verdict", RefundVerdict(granted=granted), role)
        return case

    def rows(self, store: Store, *columns: object) -> list[object]:
        with store.read() as connection:
            found = connection.execute(select(*columns))  # type: ignore[call-overload]
            return [row[0] if len(row) == 1 else tuple(row) for row in found]

    @property
    def balance(self) -> list[object]:
        return self.rows(self.loyalty, accounts.c.balance)

    @property
    def status(self) -> list[object]:
        return self.rows(self.purchases, purchases_made.c.status)


@pytest.fixture
def play() -> Iterator[Play]:
    with Bench(purchase, loyalty_points, points_back, reward, refund) as bench:
        yield Play(bench)


def test_a_purchase_leads_to_points_that_it_knows_nothing_of(play: Play) -> None:
    assert play.buy().outcome == "completed"
    assert play.bench.case("p-1", "loyalty").outcome == "completed"
    assert play.balance == [42]


def test_a_card_that_is_declined_leads_to_nothing(play: Play) -> None:
    assert play.buy(card=DECLINED).outcome == "compensated"
    assert play.status == play.balance == []
    assert [case.saga for case in play.bench.cases] == ["purchase"]


def test_a_refund_takes_the_points_back_and_then_pays(play: Play) -> None:
    play.buy()
    assert play.refund(granted=True).outcome == "completed"
    assert play.bench.case("p-1", "points-back").outcome == "completed"
    assert play.status == ["refunded"]
    assert play.balance == [0]
    assert play.rows(play.cashier, entries.c.kind, entries.c.amount) == [("taken", 4250), ("paid_back", 4250)]


def test_a_refund_that_support_denies_changes_nothing(play: Play) -> None:
    play.buy()
    assert play.refund(granted=False).outcome == "completed"
    assert not play.bench.commands(TakePointsBack)
    assert not play.bench.commands(PayBack)
    assert (play.status, play.balance) == (["confirmed"], [42])


def test_only_support_answers_and_the_manager_when_support_is_late() -> None:
    with Bench(
        refund, points_back
    ) as bench:  # played services: eight hours of real ones would be eight hours of looks into a database
        bench.answer(OpenRefund, RefundOpened(purchase_id="p-1", customer_id="ada", total=4250))
        bench.answer(TakePointsBack, PointsTakenBack(purchase_id="p-1", points=42))
        case = bench.start(BACK)
        with pytest.raises(AssertionError, match="answered by the role support, not by manager"):
            case.answer("verdict", RefundVerdict(granted=True), "manager")
        bench.advance(timedelta(hours=8, seconds=1))
        case.answer("verdict", RefundVerdict(granted=True), "manager")
        assert case.outcome == "completed"


def test_points_that_are_spent_stop_the_refund_before_any_money_is_paid(play: Play) -> None:
    play.buy()
    assert play.bench.start(RewardWanted(reward_id="r-1", customer_id="ada", points=40)).outcome == "completed"
    assert play.refund(granted=True).outcome == "compensated"
    assert play.bench.commands(PayBack) == []
    assert (play.status, play.balance) == (["confirmed"], [2])


def test_a_reward_for_more_points_than_there_are_is_refused(play: Play) -> None:
    play.buy()
    assert play.bench.start(RewardWanted(reward_id="r-1", customer_id="ada", points=43)).outcome == "compensated"
    assert play.balance == [42]


def test_a_card_that_is_closed_gives_the_points_back_again(play: Play) -> None:
    play.buy(card=CLOSED_LATER)
    assert play.refund(granted=True).outcome == "compensated"
    assert (play.status, play.balance) == (["confirmed"], [42])
    assert play.rows(play.loyalty, movements.c.kind) == ["granted", "taken_back", "restored"]


def test_what_was_never_bought_cannot_be_refunded(play: Play) -> None:
    assert play.refund(granted=True).outcome == "compensated"


def test_a_refund_under_the_same_key_is_not_run_twice(play: Play) -> None:
    play.buy()
    play.refund(granted=True)
    play.bench.start(BACK)
    assert play.rows(play.cashier, entries.c.kind) == ["taken", "paid_back"]


def test_points_that_are_taken_back_before_they_were_granted_are_never_granted() -> None:
    with Bench(points_back, loyalty_points) as bench:
        store = bench.participant(loyalty, tables=LOYALTY)
        assert bench.start(PointsWanted(purchase_id="p-1", customer_id="ada")).outcome == "completed"
        confirmed = PurchaseConfirmed(purchase_id="p-1", customer_id="ada", total=4250)
        assert bench.start(confirmed).outcome == "completed"
        assert len(bench.commands(GrantPoints)) == 1
        with store.read() as connection:
            assert connection.execute(select(accounts.c.balance)).scalars().all() == [0]


@pytest.mark.parametrize("order", ["take grant restore", "take restore grant", "grant take restore", "take grant restore take"])
def test_whichever_was_first_what_is_undone_leaves_the_points_that_the_purchase_brings(tmp_path: Path, order: str) -> None:
    """One key keeps its order, so a grant that comes late is one that failed at first, and was tried again."""
    store = Store(f"sqlite:///{tmp_path / 'loyalty.db'}", tables=LOYALTY)
    handlers: dict[str, Callable[[Work], object]] = {
        "grant": lambda work: grant(GrantPoints(purchase_id="p-1", customer_id="ada", total=4250), work),
        "take": lambda work: take_back(TakePointsBack(purchase_id="p-1", customer_id="ada"), work),
        "restore": lambda work: restore(RestorePoints(purchase_id="p-1"), work),
    }
    with store.begin() as connection:
        for number, what in enumerate(order.split()):
            id = "take" if what == "take" and number < 2 else f"{what} {number}"
            handlers[what](Work(id, "take" if what == "restore" else "", "execute", 1, "p-1", "i", "", connection=connection))
        balance = connection.execute(select(accounts.c.balance)).scalar_one()
        moved = [points for points in connection.execute(select(movements.c.points)).scalars() if points]
    store.close()
    assert balance == sum(moved) == (0 if order.endswith("take") else 42)


def test_whatever_crashes_points_and_money_move_once(play: Play) -> None:
    play.buy()
    for participant in (None, loyalty, cashier, purchases):
        play.bench.crash(participant)
    case = play.bench.start(BACK)
    play.bench.crash()
    case.answer("verdict", RefundVerdict(granted=True), "support")
    play.bench.crash(loyalty)
    play.bench.settle()
    assert case.outcome == "completed"
    assert play.rows(play.loyalty, movements.c.kind) == ["granted", "taken_back"]
    assert play.rows(play.cashier, entries.c.kind) == ["taken", "paid_back"]
