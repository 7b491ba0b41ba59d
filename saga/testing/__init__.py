"""Sagas in a test: on the log in memory, in virtual time, with the production worker and journal; no Kafka, no waiting.

    from saga.testing import Bench

    def test_no_stock_gives_the_money_back() -> None:
        with Bench(checkout) as bench:
            bench.answer(TakePayment, PaymentTaken(payment_id="p1"))
            bench.refuse(ReserveStock, OutOfStock(sku="x"))
            order = bench.start(OrderPlaced(order_id="1", total=42))
            assert order.outcome == "compensated"
            assert bench.commands(ReturnPayment) == [ReturnPayment(order_id="1")]

`explore` plays every single and double fault of a definition; `given` tests single decisions. Nothing of the package imports this;
`docs/TESTING.md` tells more.
"""

from typing import TYPE_CHECKING

from saga.lazy import on_demand

if TYPE_CHECKING:
    from saga.testing.bench import Bench
    from saga.testing.case import Case
    from saga.testing.exploration.explore import explore
    from saga.testing.exploration.report import Failure, Report
    from saga.testing.exploration.samples import Replies
    from saga.testing.given_when_then import Given, given
    from saga.testing.plugin import MakeBench
    from saga.testing.script import Silence, Unanswered, WrongAnswer

__getattr__ = on_demand(
    __name__,
    {
        "saga.testing.bench": "Bench",
        "saga.testing.case": "Case",
        "saga.testing.exploration.explore": "explore",
        "saga.testing.exploration.report": "Failure Report",
        "saga.testing.exploration.samples": "Replies",
        "saga.testing.given_when_then": "Given given",
        "saga.testing.plugin": "MakeBench",
        "saga.testing.script": "Silence Unanswered WrongAnswer",
    },
)

__all__ = [
    "Bench",
    "Case",
    "Failure",
    "Given",
    "MakeBench",
    "Replies",
    "Report",
    "Silence",
    "Unanswered",
    "WrongAnswer",
    "explore",
    "given",
]
