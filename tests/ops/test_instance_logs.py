"""What the orchestrator logs of an instance: that it is parked, that it goes on, and what was set aside; each line says of which."""

from __future__ import annotations

import json
import logging
import re

import pytest

from saga.engine.trace import trace_id
from saga.log.base import Outgoing, Record, TopicPartition
from saga.logs import Json
from saga.ops.operate import Act, Operator, Target
from tests.ops import shop as s
from tests.ops.shop import Shop, ended, parked, play


def test_each_line_about_an_instance_says_which(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "saga.instances")
    traces: list[str] = []

    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "o-1")
        history = await shop.until("o-1", parked)
        assert history.state is not None
        traces.append(trace_id(history.state.trace))
        await shop.orchestrate()
        await Operator(shop.log, Act("ann", "fixed", 10, 5)).act_on([Target("shop", "o-1")])
        await shop.until("o-1", ended)
        garbage = Record(b"k", b"{", (("ce_type", b"order.placed.v1"), ("ce_id", b"1"), ("ce_source", b"order")))
        await shop.log.publish([Outgoing(TopicPartition("order.events", 0), garbage)])
        await s.place(shop.log, "o-2")
        await shop.until("o-2", ended)

    play({}, scene, broken=True)
    lines = [json.loads(Json().format(record)) for record in caplog.records if record.name == "saga.instances"]
    for line in lines:
        line.pop("time")
    about = {"logger": "saga.instances", "saga": "shop", "key": "o-1", "trace": traces[0]}
    for line in lines:
        line["message"] = re.sub(r"shop\.py:\d+", "shop.py:N", line["message"])
    why = "user-code: KeyError: 'payment_ref' (shop.py:N, in paid)"
    assert [line for line in lines if line.get("key") == "o-1"] == [
        {"level": "debug", "message": "shop o-1 is running", **about},
        {"level": "warning", "message": f"shop o-1 is parked: {why}; `saga why o-1` says more", **about, "step": "pay"},
        {"level": "info", "message": "shop o-1 goes on", **about},
        {"level": "debug", "message": "shop o-1 is completed", **about},
    ]
    aside = [line["message"] for line in lines if "dead letter" in line["message"]]
    assert len(aside) == 1
    assert aside[0].startswith("order.events:0:")
    assert aside[0].endswith(" is a dead letter: json: unexpected end of data: line 1 column 2 (char 1); `saga deadletters` has it")


def test_one_line_says_that_all_partitions_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "saga")

    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "o-1")
        await shop.until("o-1", ended)
        await shop.orchestrate()
        await s.place(shop.log, "o-2")
        await shop.until("o-2", ended)

    play({}, scene)
    told = [
        record.getMessage()
        for record in caplog.records
        if "partitions run" in record.getMessage() or "running" in record.getMessage()
    ]
    assert told == ["all 3 partitions run; instances: 0", "all 3 partitions run; instances: 1"]
