"""The audit of the nightly example finds what is broken."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from saga.engine.state import Instance, Phase
from services.nightly.demo import Books, audit

NIGHT = "2026-01-01T02:00+01:00"


def instance(saga: str, key: str, phase: Phase = Phase.COMPLETED, **data: object) -> Instance:
    state = Instance(f"{saga}:{key}:1", saga, key, 1, "", 0, 0, "")
    state.phase, state.ended, state.data = phase, 5 if phase is not Phase.RUNNING else None, data
    return state


def books() -> Books:
    """Two sales, a night whose till is short, its mail and its alarm."""
    return Books(
        sold={"s1": instance("sale", "s1"), "s2": instance("sale", "s2", Phase.COMPENSATED)},
        told={NIGHT: instance("nightly", NIGHT, numbers={"till_minor": 1, "journal_minor": 2})},
        reported=[SimpleNamespace(sale_id="s1"), SimpleNamespace(sale_id="s2")],
        nights=[SimpleNamespace(until_ms=10)],
        deliveries=[SimpleNamespace(night=NIGHT)],
        alarms=[SimpleNamespace(night=NIGHT)],
        mails=[NIGHT],
    )


def off(books: Books) -> list[int]:
    """Which of the checks are off."""
    return [number for number, finding in enumerate(audit(books)) if finding.off]


def test_books_that_agree_are_fine() -> None:
    assert off(books()) == []


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        pytest.param(lambda b: b.sold.update(s3=instance("sale", "s3", Phase.RUNNING)), 0, id="a sale without an outcome"),
        pytest.param(lambda b: b.sold.clear(), 0, id="no sale at all"),
        pytest.param(lambda b: b.reported.pop(), 1, id="a sale in no report"),
        pytest.param(lambda b: b.mails.clear(), 2, id="a report without its mail"),
        pytest.param(lambda b: b.mails.append(NIGHT), 2, id="a report mailed twice"),
        pytest.param(lambda b: b.deliveries.clear(), 2, id="a mail that nobody noted"),
        pytest.param(lambda b: b.alarms.clear(), 3, id="nobody was told"),
        pytest.param(lambda b: b.alarms.append(SimpleNamespace(night="x")), 3, id="an alarm for nothing"),
    ],
)
def test_each_broken_book_is_found(broken: Callable[[Books], object], check: int) -> None:
    made = books()
    broken(made)
    assert check in off(made)
