"""pytest finds this by itself once the package is installed: a `bench` for the asking, whose stories stand in the report of a failure.

    def test_no_stock_gives_the_money_back(bench: MakeBench) -> None:
        b = bench(checkout)
        b.refuse(ReserveStock, OutOfStock(sku="x"))
        assert b.start(OrderPlaced(order_id="1", total=42)).outcome == "compensated"

It is loaded at the start of every pytest, also of those that know no saga. So it loads nothing of the package before it is used, asks no
option, and gives way: a fixture of the same name in a project is taken instead.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from saga.engine.definition import Saga
    from saga.testing.bench import Bench


class MakeBench(Protocol):
    """What the fixture `bench` is: `bench(checkout)` makes a Bench that is open until the test is over."""

    def __call__(self, *sagas: Saga[Any, Any], seed: int | None = None) -> Bench: ...


_BENCHES = pytest.StashKey[list[Any]]()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[MakeBench]:
    """A bench for these sagas, open until the test is over."""
    from saga.testing.bench import Bench

    with ExitStack() as benches:

        def make(*sagas: Saga[Any, Any], seed: int | None = None) -> Bench:
            made = benches.enter_context(Bench(*sagas, seed=seed))
            request.node.stash.setdefault(_BENCHES, []).append(made)
            return made

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that fails tells the stories of its benches, as it does inside `with Bench(...)`."""
    try:
        return (yield)
    except Exception as error:
        for made in item.stash.get(_BENCHES, []):
            made.tell_stories(error)
        raise
