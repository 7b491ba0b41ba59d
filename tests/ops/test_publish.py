"""`saga publish`: what it puts into the log starts a saga, and what cannot start one is refused before it is there."""

from __future__ import annotations

import pytest

from saga.errors import Misconfigured, Unreadable
from saga.log.base import TopicPartition
from saga.log.memory import MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.ops.publish import publish
from saga.testing.clock import run
from tests.ops import shop as s
from tests.ops.shop import Shop, ended, play

SAGAS = {"shop": s.make()}
PLACED = "order.placed.v1"


def test_what_is_published_starts_its_saga_and_a_repetition_changes_nothing() -> None:
    async def scene(shop: Shop) -> None:
        data = {"order_id": "o-1", "total": 42}
        published = await publish(shop.log, SAGAS, PLACED, data)
        assert (published.to, published.instances) == (TopicPartition("order.events", home("o-1", s.PARTITIONS)), [("shop", "o-1")])
        await shop.until("o-1", ended)
        again = await publish(shop.log, SAGAS, PLACED, data)
        assert again.id != published.id
        await shop.until("o-1", lambda history: len(history.moments) > 1 and history.moments[-1].decision.input.id == again.id)
        history = await shop.history("o-1")
        assert history.state is not None
        assert history.state.phase == "completed"
        assert history.moments[0].decision.input.id == published.id
        assert not history.earlier, "it ran twice"

    play({}, scene)


@pytest.mark.parametrize(
    ("type", "data", "error", "said"),
    [
        ("order.placed.v2", {"order_id": "o-1", "total": 42}, Misconfigured, "starts no saga here; what does: order.placed.v1"),
        ("payment.taken.v1", {"payment_id": "p"}, Misconfigured, "starts no saga here"),
        (PLACED, {"order_id": "o-1"}, Unreadable, "order.placed.v1: total: Field required"),
        (PLACED, [1], Unreadable, "order.placed.v1"),
        (PLACED, {"order_id": "", "total": 42}, Unreadable, "the key of shop must be printable text"),
        (PLACED, {"order_id": "o-1", "total": 42}, Misconfigured, "no topic order.events here: `saga topics apply` makes it"),
    ],
)
def test_what_cannot_start_a_saga_is_not_published(type: str, data: object, error: type[Exception], said: str) -> None:
    async def scene() -> None:
        log = MemoryLog(MemoryBroker(), "test")  # without topics, so nothing could be published unseen
        await log.open()
        try:
            with pytest.raises(error, match=said):
                await publish(log, SAGAS, type, data)
        finally:
            await log.close()

    run(scene())
