"""What an orchestrator says before it begins: which commands nobody would answer."""

from __future__ import annotations

from saga import App, Participant, Work
from saga.orchestrate import unhandled
from services.all import app as everything
from tests.ops.shop import ReserveStock, StockReserved, make


def test_a_participant_of_the_app_that_lacks_a_handler_is_told_of() -> None:
    stock = Participant("stock")

    @stock.handles(ReserveStock)
    def reserve(_: ReserveStock, _work: Work) -> StockReserved:
        raise AssertionError("nobody asks")

    found = unhandled(App(sagas=[make()], participants=[stock], begin="latest"))
    assert found == ["stock.release_stock.v1: the participant stock of this app has no handler for ReleaseStock"]
    assert unhandled(App(sagas=[make()], begin="latest")) == [], "who is not in the app may be in any language"


def test_every_command_of_the_examples_has_a_handler() -> None:
    assert unhandled(everything) == []
