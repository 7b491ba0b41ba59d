"""The change of plan on the bench: every outcome, with the real customer service, billing and CRM book, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from saga import Store
from saga.testing import Bench, Case
from services.customer.billing import TABLES as BILLING
from services.customer.billing import billing, debts, entries
from services.customer.crm import TABLES as CRM
from services.customer.crm import changes as crm_changes
from services.customer.crm import crm
from services.customer.customer import TABLES as CUSTOMER
from services.customer.customer import changes, customer
from services.customer.saga import CRM_IS_LATE, INSIGHTS_IS_LATE, change, withdrawal
from topics.customer import (
    ChangeAsked,
    ChangeCounted,
    ChangeUncounted,
    ChangeWithdrawn,
    CrmReverted,
    CrmUpdated,
    ImportContact,
    PlanChanged,
    RevertBilling,
    TellAgain,
    WithdrawChange,
)

ASKED = ChangeAsked(change_id="c-1", customer_id="new-001", number=1, plan="plus", email="new-001@example.org")
MOMENT = timedelta(milliseconds=10)


class Play:
    """The bench with three real participants; the test says what the reactors say."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.customer = bench.participant(customer, tables=CUSTOMER)
        self.billing = bench.participant(billing, tables=BILLING)
        self.crm = bench.participant(crm, tables=CRM)

    def ask(self, **other: object) -> Case:
        return self.bench.start(ASKED.model_copy(update=other))

    def hear(self, *events: ChangeCounted | ChangeUncounted | CrmUpdated | CrmReverted) -> None:
        for event in events:
            self.bench.send(event, key=event.change_id)

    def rows(self, store: Store, column: object) -> list[object]:
        with store.read() as connection:
            return list(connection.execute(select(column)).scalars())  # type: ignore[call-overload]


@pytest.fixture
def play() -> Iterator[Play]:
    with Bench(change, withdrawal) as bench:
        yield Play(bench)


def test_when_all_have_said_that_they_are_done_it_is_complete(play: Play) -> None:
    one = play.ask()
    assert one.state == "running"
    play.hear(CrmUpdated(change_id="c-1"), ChangeCounted(change_id="c-1"))
    assert one.outcome == "completed"
    assert play.rows(play.billing, entries.c.kind) == ["updated"]
    assert len(play.bench.events(PlanChanged)) == 1


def test_what_the_crm_says_before_it_is_waited_for_is_kept(play: Play) -> None:
    play.hear(CrmUpdated(change_id="c-1"), ChangeCounted(change_id="c-1"))
    assert play.ask().outcome == "completed"


def test_whom_the_crm_did_not_know_it_takes_over_when_it_is_late_and_all_is_well(play: Play) -> None:
    one = play.ask()
    play.hear(ChangeCounted(change_id="c-1"))
    play.bench.advance(CRM_IS_LATE - MOMENT)
    assert play.bench.commands(ImportContact) == []
    play.bench.advance(2 * MOMENT)
    assert len(play.bench.commands(ImportContact)) == 1
    assert one.outcome == "completed", "the CRM says crm.updated while it takes the customer over"
    assert play.rows(play.crm, crm_changes.c.stands) == [True]


def test_whom_the_crm_never_takes_is_undone_everywhere_and_that_is_watched(play: Play) -> None:
    one = play.ask(email="")
    play.hear(ChangeCounted(change_id="c-1"))
    play.bench.advance(CRM_IS_LATE + MOMENT)
    assert one.outcome == "compensated"
    assert play.rows(play.billing, entries.c.kind) == ["updated", "reverted"]
    assert play.rows(play.customer, changes.c.stands) == [False]
    watch = play.bench.case("c-1", "customer-withdrawal")
    assert watch.state == "running"
    play.hear(CrmReverted(change_id="c-1"), ChangeUncounted(change_id="c-1"))
    assert watch.outcome == "completed"


def test_who_owes_money_is_turned_away_and_the_others_are_told(play: Play) -> None:
    with play.billing.begin() as connection:
        connection.execute(insert(debts), {"customer_id": "new-001", "owed": 1})
    one = play.ask()
    assert one.outcome == "compensated"
    assert play.bench.commands(RevertBilling) == [], "what was refused had no effect"
    assert len(play.bench.commands(WithdrawChange)) == len(play.bench.events(ChangeWithdrawn)) == 1


def test_insights_is_told_again_and_the_customer_is_not_turned_away_for_its_sake(play: Play) -> None:
    one = play.ask()
    play.hear(CrmUpdated(change_id="c-1"))
    play.bench.advance(INSIGHTS_IS_LATE + MOMENT)
    assert play.bench.commands(TellAgain) == [TellAgain(change_id="c-1")]
    first, again = play.bench.events(PlanChanged)
    assert first == again
    play.bench.advance(INSIGHTS_IS_LATE + MOMENT)
    assert one.outcome == "completed"
    assert one.steps["counted"] == "refused", "it was never counted, and that is noted"


def test_a_withdrawal_that_is_told_again_starts_no_second_watch(play: Play) -> None:
    play.ask(email="")
    play.bench.advance(CRM_IS_LATE + MOMENT)
    play.hear(CrmReverted(change_id="c-1"))
    play.bench.advance(timedelta(minutes=1))
    assert len(play.bench.events(ChangeWithdrawn)) == 2, "insights was late, so it was told again"
    play.hear(ChangeUncounted(change_id="c-1"))
    assert play.bench.case("c-1", "customer-withdrawal").outcome == "completed"
    assert play.bench.dead_letters == []


def test_a_customer_service_that_crashes_records_once(play: Play) -> None:
    one = play.ask()
    play.bench.crash(customer)
    play.bench.crash()
    play.hear(CrmUpdated(change_id="c-1"), ChangeCounted(change_id="c-1"))
    assert one.outcome == "completed"
    assert play.rows(play.customer, changes.c.change_id) == ["c-1"]
