"""Gauges of age and lag: they rise while something is late, fall when it is over, and tell nothing of what is another's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from pydantic import BaseModel

from saga import START, Command, Event, Saga, days, minutes
from saga.engine.book import Book
from saga.engine.decision import Decision, Input, Kind
from saga.engine.state import ACTION_OF, Action, Instance, Parked, Status, StepState, Waits
from saga.log.memory import MemoryBroker, MemoryLog
from saga.log.memory_faults import Faults
from saga.metrics import Metrics
from saga.runtime.census import Census
from saga.runtime.states import Slot
from saga.runtime.worker import LOOK_AROUND_SECONDS, Worker, WorkerSettings
from saga.testing.clock import run
from saga.testing.decisions import start_of, take, timer_of
from tests.ops import office
from tests.runtime.kit import specs
from tests.runtime.shop import PARTITIONS, Shop
from tests.simulation.sagas import SERVICES, book

TWO_LOOKS = 2.5 * LOOK_AROUND_SECONDS


class Nothing(BaseModel):
    pass


class Rung(Event, type="phone.rung.v1"):
    name: str


class Told(Event, type="phone.told.v1"):
    name: str


class Call(Command[Told], service="phone"):
    name: str = "k"


def _nothing(_: Rung) -> Nothing:
    return Nothing()


def _call(_: Nothing) -> Call:
    return Call()


def _other(_: Nothing) -> Call:
    return Call()


def _again(_: Nothing, _sent: Call) -> Call:
    return Call()


@asynccontextmanager
async def faulty() -> AsyncIterator[tuple[Shop, Faults]]:
    """A shop whose orchestrator has a log of its own, which may fail; its customers and participants have a good one."""
    broker, faults = MemoryBroker(), Faults(Random(1))
    good, bad = MemoryLog(broker, "good"), MemoryLog(broker, "bad", faults)
    await good.open()
    await bad.open()
    await good.create(specs(PARTITIONS))
    shop = Shop(good)
    shop.worker = Worker(book(), bad, WorkerSettings(PARTITIONS, "earliest", owner="ann"), shop.metrics)
    tasks = [asyncio.create_task(shop.participant(service)) for service in SERVICES]
    working = asyncio.create_task(shop.worker.run())
    try:
        await shop.until(lambda: shop.worker.ready and len(shop.worker.tasks) == PARTITIONS, "the worker")
        yield shop, faults
    finally:
        faults.off()
        shop.worker.stop()
        await asyncio.wait([working], timeout=30)
        for task in [*tasks, working]:
            task.cancel()
        await asyncio.gather(*tasks, working, return_exceptions=True)


def test_what_stands_still_is_told_and_then_it_is_over() -> None:
    async def scene() -> None:
        async with faulty() as (shop, faults):
            faults.publish_lost = 1.0  # nothing leaves, so nothing more is decided
            keys = [await shop.place() for _ in range(8)]
            await asyncio.sleep(1)
            keys += [await shop.place() for _ in range(8)]
            await asyncio.sleep(6 * TWO_LOOKS)
            stands = 6 * TWO_LOOKS - LOOK_AROUND_SECONDS
            assert shop.count("saga_input_lag_seconds") >= stands
            assert shop.count("saga_oldest_live_seconds", saga="order") >= stands
            assert shop.count("saga_oldest_waiting_seconds", saga="order", step="pay") >= stands
            assert shop.count("saga_timer_lag_seconds") > 0, "the command's time-out is due, and nobody lets it fire"
            lag = [shop.count("saga_input_lag_records", topic="order.events", partition=str(n)) for n in range(PARTITIONS)]
            assert sum(lag) > 0
            faults.off()
            for key in keys:
                await shop.completed(key)
            await asyncio.sleep(TWO_LOOKS)
            for name in ("saga_input_lag_seconds", "saga_timer_lag_seconds"):
                assert shop.count(name) == 0, f"{name} does not fall"
            assert shop.count("saga_oldest_live_seconds", saga="order") == 0
            assert shop.count("saga_snapshot_age_seconds") > 0

    run(scene())


def test_a_restore_says_how_much_is_still_to_be_read() -> None:
    async def scene() -> None:
        async with faulty() as (shop, faults):
            for _ in range(5):
                await shop.order()
            assert shop.count("saga_restore_remaining_records") == 0
            numbers = frozenset(shop.worker.tasks)
            await shop.worker.revoked(numbers)
            shop.worker._kept.clear()  # as another process would find it
            faults.latency = 2.0
            shop.worker.assigned(numbers)
            await shop.until(lambda: shop.count("saga_restore_remaining_records") > 5, "a restore that says what is left")
            faults.off()
            await shop.until(lambda: shop.worker.ready, "the restore")
            assert shop.count("saga_restore_remaining_records") == 0

    run(scene())


def test_lag_of_partitions_that_went_is_no_longer_told() -> None:
    async def scene() -> None:
        async with faulty() as (shop, _):
            await shop.order()
            await asyncio.sleep(TWO_LOOKS)
            here = {"topic": "order.events", "partition": "0"}
            assert shop.metrics.registry.get_sample_value("saga_input_lag_records", here) == 0
            await shop.worker.revoked(frozenset(shop.worker.tasks))
            await asyncio.sleep(TWO_LOOKS)
            assert shop.metrics.registry.get_sample_value("saga_input_lag_records", here) is None

    run(scene())


def test_a_command_waits_until_a_person_is_awaited() -> None:
    """NoProgress is for participants that do not answer; what an operator is awaited for has its own alert."""
    census = Census(Metrics(["checkout"]))
    state = Instance("checkout:k:1", "checkout", "k", 1, "h", started=0, deadline=0, digest="")

    def waiting() -> set[str]:
        census.see(Slot("checkout", "k"), state)
        return {step for _, step, _ in census.ages(5000) if step}

    state.steps = {"pay": StepState(decided=1000), "ship": StepState(waits=Waits.RETRY, decided=1000)}
    assert waiting() == {"pay", "ship"}
    state.steps["pay"] = StepState(waits=Waits.OPERATOR, decided=1000)
    assert waiting() == {"ship"}
    state.parked = Parked("unknown", since=4000, step="pay")
    assert waiting() == set()


def test_neither_a_child_nor_a_person_is_waited_for_as_a_participant_is() -> None:
    """A child may wait for a person for days; its commands are counted where it is."""
    census = Census(Metrics(["refund"]), Book([office.refunds, office.payout]))
    state = Instance("refund:k:1", "refund", "k", 1, "h", started=0, deadline=0, digest="")
    state.steps = {
        "approval": StepState(Status.WAITING, Waits.EVENT, decided=1000),
        "pay_out": StepState(decided=1000, sent={"key": "k-out", "data": {}}),
        "close": StepState(decided=1000),
    }
    census.see(Slot("refund", "k"), state)
    assert {step for _, step, _ in census.ages(5000) if step} == {"close"}


def test_an_attempt_without_an_answer_is_counted_under_its_action() -> None:
    """Nobody ever answers: what is executed, asked about and compensated, and the remedy of what is late."""
    saga = Saga("deaf", version=1, starts_on=Rung, key=lambda e: e.name, data=Nothing, deadline=days(1))
    saga.start(_nothing)
    call = saga.step(after=START, unknown="verify")(_call)
    call.compensate(_again)
    call.verify(_again)
    saga.step(after=START, unknown="compensate")(_other).compensate(_again)
    saga.expect(Told, key=lambda e: e.name, after=START, within=minutes(1), name="told", best_effort=True).late(_call)
    saga.check()
    metrics = Metrics([saga.name, *saga.steps])
    census, expected = Census(metrics), Counter[tuple[str, str]]()
    state = take(saga, "k", None, start_of(Rung(name="k")), 0).after
    while state is not None and (timer := timer_of(state)) is not None:
        due, given = timer
        moment = take(saga, "k", state, given, due)
        assert moment.after is not None
        if moment.decision.note == "timed-out":
            step = given.data["step"]
            expected[step, ACTION_OF[state.steps[step].status]] += 1
        census.count(moment.decision, moment.after, due)
        state = moment.after
    assert {action for _, action in expected} == set(Action), "not all of them timed out"
    assert ("told", Action.EXECUTE) in expected, "the remedy did not time out"
    for (step, action), times in expected.items():
        labels = {"saga": saga.name, "step": step, "action": action, "result": "timed-out"}
        assert metrics.registry.get_sample_value("saga_step_attempts_total", labels) == times, labels


def test_what_came_before_its_start_is_no_start_even_if_both_are_decided_together() -> None:
    metrics = Metrics(["refund"])
    census = Census(metrics)
    live = Instance("refund:k:1", "refund", "k", 1, "h", started=0, deadline=0, digest="")
    came = Decision("refund:k:early", 1, "k", Input(Kind.EVENT), "early", patch={"id": "refund:k:early", "phase": "early"})
    began = Decision(live.id, 2, "k", Input(Kind.START), "started", patch={"id": live.id, "phase": "running"})
    for decision in (came, began):
        census.count(decision, live, 0)  # a batch's decisions are counted with what all of it left
    assert metrics.registry.get_sample_value("saga_started_total", {"saga": "refund"}) == 1


def test_a_partition_that_went_is_told_of_no_longer() -> None:
    """Its next owner counts its instances; whoever adds both up would see them twice."""

    async def scene() -> None:
        async with faulty() as (shop, faults):
            faults.publish_lost = 1.0  # nothing leaves, so the order stays where it is
            await shop.place()
            await shop.until(lambda: shop.count("saga_live", saga="order", phase="running") == 1, "an order that is on its way")
            await shop.worker.revoked(frozenset(shop.worker.tasks))
            assert shop.count("saga_live", saga="order", phase="running") == 0
            phases = [
                one for metric in shop.metrics.registry.collect() for one in metric.samples if one.name == "saga_partition_phase"
            ]
            assert len(phases) > PARTITIONS, "hardly a phase was ever told"
            assert not any(one.value for one in phases)

    run(scene())
