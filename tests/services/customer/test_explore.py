"""No fault, and no two, leave an effect of these sagas behind. What a remedy does is undone by the event that says so, not by a command."""

from __future__ import annotations

from saga.testing import explore
from services.customer.saga import change, withdrawal
from topics.customer import ImportContact, TellAgain


def test_a_change_of_plan() -> None:
    explore(change, no_effect=[ImportContact, TellAgain]).assert_ok()


def test_a_withdrawal() -> None:
    explore(withdrawal, no_effect=[TellAgain]).assert_ok()
