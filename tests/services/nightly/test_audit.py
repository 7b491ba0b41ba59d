"""The audit of the nightly example finds what is broken."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from saga.engine.state import Instance, Phase
from services.nightly.audit import Books, audit
from services.nightly.press import files_of

ONE, TWO = "2026-01-01T02:00+01:00", "2026-01-02T02:00+01:00"
TAKEN = {"s3": 100}


def instance(saga: str, key: str, phase: Phase = Phase.COMPLETED, **data: object) -> Instance:
    state = Instance(f"{saga}:{key}:1", saga, key, 1, "", 0, 0, "")
    state.phase, state.ended, state.data = phase, 5 if phase is not Phase.RUNNING else None, data
    return state


def sale(key: str, minor: int, phase: Phase = Phase.COMPLETED) -> Instance:
    return instance("sale", key, phase, amount={"minor": minor, "currency": "EUR"})


def night(key: str, completed: int, compensated: int, journal: int, till: int) -> Instance:
    numbers = {"completed": completed, "compensated": compensated, "journal_minor": journal, "till_minor": till, "since": None}
    return instance("nightly", key, numbers=numbers)


def books() -> Books:
    """A night with two sales, one of them refused; and one whose till is short of what was taken."""
    rows = [("s1", ONE, 117), ("s2", ONE, 200), ("s3", TWO, 300)]
    lines = {ONE: f"{ONE},1,1,1.17,1.17", TWO: f"{TWO},1,0,3.00,2.00"}
    return Books(
        sold={"s1": sale("s1", 117), "s2": sale("s2", 200, Phase.COMPENSATED), "s3": sale("s3", 300)},
        told={ONE: night(ONE, 1, 1, 117, 117), TWO: night(TWO, 1, 0, 300, 200)},
        till=[SimpleNamespace(sale_id="s1", minor=117), SimpleNamespace(sale_id="s3", minor=200)],
        reported=[SimpleNamespace(sale_id=key, night=of, minor=minor) for key, of, minor in rows],
        nights=[SimpleNamespace(night=ONE, until_ms=5), SimpleNamespace(night=TWO, until_ms=10)],
        deliveries=[SimpleNamespace(night=ONE), SimpleNamespace(night=TWO)],
        alarms=[SimpleNamespace(night=TWO, off_minor=-100)],
        mails=[ONE, TWO],
        printed={
            file.name: f"heading\n{lines[of]}\n" if file.suffix == ".csv" else "" for of in (ONE, TWO) for file in files_of(of)
        },
    )


def off(books: Books) -> list[int]:
    """Which of the checks are off."""
    return [number for number, finding in enumerate(audit(books, TAKEN)) if finding.off]


def test_books_that_agree_are_fine() -> None:
    assert off(books()) == []
    said = [finding.what for finding in audit(books(), TAKEN)]
    assert said[0] == "3 sales and 2 nights, without an outcome: 0"
    assert said[-1] == "1 night with numbers that are off, 1 alarm"


def a_sale_lost_by_the_till(b: Books) -> None:
    """Everybody else agrees: its report is off, and there is an alarm for that, as it should be."""
    del b.till[0]
    b.told[ONE] = night(ONE, 1, 1, 117, 0)
    b.alarms.append(SimpleNamespace(night=ONE, off_minor=-117))
    b.printed[files_of(ONE)[1].name] = f"heading\n{ONE},1,1,1.17,0.00\n"


def a_sale_in_the_till_twice(b: Books) -> None:
    b.till.append(b.till[0])


def a_sale_counted_in_two_reports(b: Books) -> None:
    b.told[TWO] = night(TWO, 2, 0, 417, 317)
    b.printed[files_of(TWO)[1].name] = f"heading\n{TWO},2,0,4.17,3.17\n"


def a_report_of_a_night_that_was_undone(b: Books) -> None:
    b.told[ONE].phase = Phase.COMPENSATED


def a_report_that_prints_other_numbers(b: Books) -> None:
    b.printed[files_of(ONE)[1].name] = f"heading\n{ONE},1,1,1.18,1.17\n"


def a_plot_that_is_gone(b: Books) -> None:
    del b.printed[files_of(ONE)[2].name]


def a_draft_that_nobody_removed(b: Books) -> None:
    b.printed["x.html.draft"] = ""


def an_alarm_over_another_sum(b: Books) -> None:
    b.alarms[0].off_minor = -99


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        pytest.param(lambda b: b.sold.update(s4=sale("s4", 1, Phase.RUNNING)), 0, id="a sale without an outcome"),
        pytest.param(lambda b: b.sold.clear(), 0, id="no sale at all"),
        pytest.param(a_sale_lost_by_the_till, 1, id="a sale lost by the till"),
        pytest.param(a_sale_in_the_till_twice, 1, id="a sale in the till twice"),
        pytest.param(lambda b: b.reported.pop(), 2, id="a sale in no report"),
        pytest.param(a_report_of_a_night_that_was_undone, 2, id="a sale in the report of a night that was undone"),
        pytest.param(a_sale_counted_in_two_reports, 3, id="a sale counted in two reports"),
        pytest.param(a_report_that_prints_other_numbers, 4, id="a report that prints other numbers"),
        pytest.param(a_report_of_a_night_that_was_undone, 4, id="a report left of a night that was undone"),
        pytest.param(a_plot_that_is_gone, 4, id="a plot that is gone"),
        pytest.param(a_draft_that_nobody_removed, 4, id="a draft that nobody removed"),
        pytest.param(lambda b: b.mails.clear(), 5, id="a report without its mail"),
        pytest.param(lambda b: b.mails.append(ONE), 5, id="a report mailed twice"),
        pytest.param(lambda b: b.deliveries.clear(), 5, id="a mail that nobody noted"),
        pytest.param(lambda b: b.alarms.clear(), 6, id="nobody was told"),
        pytest.param(lambda b: b.alarms.append(SimpleNamespace(night=ONE, off_minor=-1)), 6, id="an alarm for nothing"),
        pytest.param(an_alarm_over_another_sum, 6, id="an alarm over another sum"),
    ],
)
def test_each_broken_book_is_found(broken: Callable[[Books], object], check: int) -> None:
    made = books()
    broken(made)
    assert check in off(made)
