"""`saga check`: code that fits its journal passes, and each break that is planted in it is found and told. It changes nothing."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter
from rich.console import Console
from typer.testing import CliRunner

from saga.cli import cli
from saga.engine.book import Book
from saga.engine.definition import Saga, minutes, seconds
from saga.engine.messages import Command, Event
from saga.engine.nodes import START
from saga.errors import Misconfigured
from saga.log.base import Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.file import FileLog
from saga.log.memory import MemoryBroker, MemoryLog
from saga.ops.check import Asked, Code, check
from saga.ops.look import Journals, Readable
from saga.ops.output import Format, Output
from saga.ops.recorded import Recorded, export
from saga.runtime.codec import JOURNAL
from saga.testing import Bench
from saga.testing.clock import run
from tests.ops.shop import (
    PARTITIONS,
    SILENCE,
    Order,
    OrderPlaced,
    PaymentDeclined,
    PaymentTaken,
    Shop,
    TakePayment,
    ended,
    make,
    parked,
    place,
    play,
)
from tests.simulation.sagas import book, broken
from tests.simulation.world import World

Records = dict[TopicPartition, list[StoredRecord]]
Plant = Callable[[Saga[OrderPlaced, Order]], object]


async def day(shop: Shop) -> Records:
    """o1 completes, o2 turns back, o3 waits for its stock, and o4 is parked with the reply on which its code raised."""
    await place(shop.log, "o1", "o2")
    for key in ("o1", "o2"):
        await shop.until(key, ended)
    await shop.orchestrate(broken=True)
    await place(shop.log, "o4")
    await shop.until("o4", parked)
    await shop.orchestrate()
    await place(shop.log, "o3")
    await shop.until("o3", lambda history: history.state is not None and "reserve" in history.state.steps)
    await shop.stop()
    return journal(shop.broker)


def journal(broker: MemoryBroker, partitions: int = PARTITIONS) -> Records:
    tps = [TopicPartition(JOURNAL, number) for number in range(partitions)]
    return {tp: broker.slice(tp, *broker.bounds(tp)) for tp in tps}


@pytest.fixture(scope="module")
def records() -> Records:
    return play(
        {
            "o2 ship execute": [("refused", "shipping.refused.v1", {"reason": "no such street"})],
            "o3 reserve execute": [SILENCE] * 9,
        },
        day,
    )


class Told:
    """What a check of these records says."""

    def __init__(
        self,
        records: Records,
        *sagas: Saga[Any, Any],
        asked: Asked | None = None,
        format: Format = Format.JSON,
        partitions: int = PARTITIONS,
        log: Readable | None = None,
    ) -> None:
        async def main() -> int:
            broker = MemoryBroker()
            broker.create([TopicSpec(JOURNAL, len(records), 1, {"max.message.bytes": "4194304"})])
            for tp, held in records.items():
                if held and held[0].offset:
                    broker.append(tp, [Record(None, b"{}")] * held[0].offset)
                broker.append(tp, [Record(record.key, record.value) for record in held])
                broker.trim(tp, held[0].offset if held else 0)
            before = journal(broker, len(records))
            memory = MemoryLog(broker)
            await memory.open()
            messages = Console(file=err, width=300)
            code = await check(log or memory, Code(Book(sagas), partitions), asked or Asked(), Output(format, out), messages)
            assert journal(broker, len(records)) == before, "a check wrote"
            return code

        out, err = io.StringIO(), io.StringIO()
        self.code = run(main())
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out)
        return found

    def findings(self, weight: str) -> list[dict[str, Any]]:
        return [finding for row in self.rows for finding in row["findings"] if finding["weight"] == weight]

    def said(self, weight: str) -> str:
        return "\n".join(finding["what"] for finding in self.findings(weight))


def shop(plant: Plant = lambda _: None, *, broken: bool = False, version: int = 1) -> Saga[OrderPlaced, Order]:
    """The saga of the journal, with a change planted in it."""
    saga = make(broken=broken)
    saga.version = version
    plant(saga)
    return saga


def on(step: str, **changed: Any) -> Plant:
    def plant(saga: Saga[OrderPlaced, Order]) -> None:
        for name, value in changed.items():
            setattr(saga.steps[step], name, value)

    return plant


def raising(*_: Any) -> Any:
    raise KeyError("coupon")


# --- code that fits -----------------------------------------------------------------------------------------------------------------


def test_the_code_that_wrote_a_journal_fits_it(records: Records) -> None:
    told = Told(records, shop())
    assert told.code == 0, told.out
    (row,) = told.rows
    written = [value for held in records.values() for r in held if (value := json.loads(r.value or b""))["kind"] == "decision"]
    assert (row["saga"], row["version"], row["live"]) == ("shop", 1, 2)
    assert row["decisions"] == sum(value["seq"] > 0 for value in written) == 15
    assert not told.findings("breaks")
    assert not told.findings("unchecked")
    (differs,) = told.findings("differs")
    assert (differs["what"], differs["count"]) == ("on payment.taken.v1 it does not park: user-code", 1), "the code was broken then"
    assert differs["example"].startswith("shop:o4:")


def test_code_that_raises_as_it_did_then_is_the_same(records: Records) -> None:
    told = Told(records, shop(broken=True), asked=Asked(last=2))
    assert "shop:o4" not in told.out, "a traceback has other lines now, and raises the same"


def test_people_get_a_table_and_the_sum(records: Records) -> None:
    told = Told(records, shop(), format=Format.TABLE)
    first, second, *rest = told.out.splitlines()
    assert first.split() == ["SAGA", "VERSION", "LIVE", "DECISIONS", "RESULT", "WHAT"]
    assert second.startswith("shop  1        2     ")
    assert not rest
    assert "2 live instances and" in told.err
    assert "1 differs" in told.err


# --- definitions --------------------------------------------------------------------------------------------------------------------


def test_a_structure_that_changed_without_a_new_version_is_told_with_the_difference(records: Records) -> None:
    def plant(saga: Saga[OrderPlaced, Order]) -> None:
        del saga.steps["tell"]
        saga._graph = None

    told = Told(records, shop(plant))
    assert told.code == 3
    assert "its structure changed, but its version did not: saga run refuses" in told.said("breaks")
    assert "tell: was [after ship; mail.tell.v1 → mail.told.v1], is [not there]" in told.said("breaks")
    assert "its structure is another, so what it decided was not decided again" in told.said("unchecked")


def test_a_version_that_is_gone_while_instances_run_it_is_told_with_how_many_and_since_when(records: Records) -> None:
    def plant(saga: Saga[OrderPlaced, Order]) -> None:
        del saga.steps["tell"]
        saga._graph = None

    told = Told(records, shop(plant, version=2))
    assert told.code == 3
    (found,) = told.findings("breaks")
    assert "the app has version 2 only, but 2 instances run it, the oldest since 20" in found["what"]
    assert "no definition names mail.tell.v1, mail.told.v1 any more" in found["what"]
    assert [(row["version"], row["live"], row["result"]) for row in told.rows] == [(1, 2, "breaks"), (2, 0, "fine")]
    both = Told(records, shop(plant, version=2), shop())
    assert both.code == 0
    assert [row["result"] for row in both.rows] == ["differs", "fine"]


def test_a_saga_that_is_gone_is_told(records: Records) -> None:
    def plant(saga: Saga[OrderPlaced, Order]) -> None:
        saga.name = "store"

    told = Told(records, shop(plant))
    assert told.code == 3
    assert "the saga shop is not in the app, but 2 instances run it" in told.said("breaks")


def test_another_number_of_partitions_is_told(records: Records) -> None:
    told = Told(records, shop(), partitions=16)
    assert told.code == 3
    assert f"it was written for {PARTITIONS} partitions, the app says 16: saga run refuses" in told.said("breaks")
    assert told.rows[0]["saga"] is None


# --- live instances -----------------------------------------------------------------------------------------------------------------


class WithCoupon(Order):
    coupon: str


class WithDefault(Order):
    coupon: str = ""


class Without(BaseModel):
    order_id: str
    total: int
    tracking: str = ""


class InCents(Order):
    total: float  # type: ignore[assignment]

    def model_post_init(self, _: Any) -> None:
        self.total = self.total / 100


class Strict(TakePayment, service="payment", type="payment.take_payment.v1", refuses=(PaymentDeclined,)):
    currency: str


class Receipt(PaymentTaken, type="payment.taken.v1"):
    receipt: str


@pytest.mark.parametrize(
    ("plant", "what", "count"),
    [
        (lambda saga: setattr(saga, "data", WithCoupon), "its data is no valid WithCoupon: coupon: Field required", 2),
        (lambda saga: setattr(saga, "data", Without), "Without does not give its data back as it is: payment_id is gone", 2),
        (lambda saga: setattr(saga, "data", InCents), "InCents does not give its data back as it is: total is another", 2),
        (
            on("pay", command_class=Strict),
            "the command of pay as it was sent is no valid Strict, and may be needed to undo it: currency: Field required",
            2,
        ),
    ],
    ids=["a field more", "a field less", "another value", "a command"],
)
def test_what_a_live_instance_holds_must_be_readable(records: Records, plant: Plant, what: str, count: int) -> None:
    told = Told(records, shop(plant), asked=Asked(last=0))
    assert told.code == 3
    (found,) = told.findings("breaks")
    assert (found["what"], found["count"]) == (what, count)
    assert found["example"].split(":")[1] in ("o3", "o4")
    assert told.rows[0]["decisions"] == 0


def test_a_field_with_a_default_breaks_nothing_and_is_told(records: Records) -> None:
    told = Told(records, shop(lambda saga: setattr(saga, "data", WithDefault)), asked=Asked(last=0))
    assert told.code == 0
    assert [(found["what"], found["count"]) for found in told.findings("differs")] == [("its data gets a new field: coupon", 2)]


def test_an_input_that_is_kept_must_be_readable(records: Records) -> None:
    class Take(Command[Receipt], service="payment", type="payment.take_payment.v1", refuses=(PaymentDeclined,)):
        order_id: str
        amount: int

    told = Told(records, shop(on("pay", command_class=Take)), asked=Asked(last=0))
    (found,) = told.findings("breaks")
    assert found["what"] == "payment.taken.v1, which is kept for it, is not valid: receipt: Field required"
    assert found["example"].startswith("shop:o4:")


# --- decisions ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plant", "what"),
    [
        (on("pay", receive=raising), "on payment.taken.v1 the code of pay raises, and the instance parks: KeyError: 'coupon'"),
        (
            lambda saga: setattr(saga, "begin", raising),
            "on order.placed.v1 the code of start raises, and the instance parks: KeyError",
        ),
        (on("reserve", compensation=raising), "on shipping.refused.v1 the code of reserve raises"),
        (
            on("ship", command=lambda _: None),
            "the code of ship raises, and the instance parks: ship must return a Ship, not NoneType",
        ),
        (on("reserve", answered_on=lambda _: "store.events"), "what was taken is passed over: wrong-service"),
        (
            on("reserve", answers=lambda *_: {"stock.reserved.v1": Receipt}),
            "on stock.reserved.v1 what was taken becomes a dead letter: payment_id: Field required; receipt: Field required",
        ),
    ],
    ids=["done", "start", "compensate", "command", "service", "reply"],
)
def test_code_that_would_not_take_what_was_taken_is_told(records: Records, plant: Plant, what: str) -> None:
    told = Told(records, shop(plant))
    assert told.code == 3
    assert what in told.said("breaks")


def less(o: Order) -> TakePayment:
    return TakePayment(order_id=o.order_id, amount=o.total - 1)


@pytest.mark.parametrize(
    ("plant", "what"),
    [
        (on("pay", command=less), "on order.placed.v1 payment.take_payment.v1 has another amount"),
        (
            lambda saga: setattr(saga, "begin", lambda o: Order(order_id=o.order_id, total=0)),
            "payment.take_payment.v1 has another amount; the data has another total",
        ),
        (on("reserve", timeout=seconds(9)), "on payment.taken.v1 other times"),
    ],
    ids=["a command", "the data", "times"],
)
def test_what_would_be_decided_otherwise_breaks_nothing_and_is_told(records: Records, plant: Plant, what: str) -> None:
    told = Told(records, shop(plant))
    assert told.code == 0, told.out
    assert what in told.said("differs"), told.out


def test_the_last_decisions_of_each_instance_are_enough_where_the_journal_is_long(records: Records) -> None:
    assert [Told(records, shop(), asked=Asked(last=last)).rows[0]["decisions"] for last in (0, 1, 2)] == [0, 4, 8]
    assert "KeyError" in Told(records, shop(on("tell", receive=raising)), asked=Asked(last=1)).said("breaks")
    assert Told(records, shop(lambda saga: setattr(saga, "begin", raising)), asked=Asked(last=1)).code == 0


def test_one_partition_alone_can_be_checked(records: Records) -> None:
    each = [sum(row["live"] for row in Told(records, shop(), asked=Asked(number)).rows) for number in range(PARTITIONS)]
    assert sum(each) == 2
    with pytest.raises(Misconfigured, match=f"there is no {PARTITIONS}"):
        Told(records, shop(), asked=Asked(PARTITIONS))


def test_exceptions_that_name_another_key_each_time_do_not_flood() -> None:
    def raising_each(o: Order) -> TakePayment:
        raise KeyError(o.order_id)

    async def many(shop: Shop) -> Records:
        await place(shop.log, *(f"k{n}" for n in range(60)))
        await asyncio.sleep(60)
        await shop.stop()
        return journal(shop.broker)

    told = Told(play({}, many), shop(on("pay", command=raising_each)))
    found = told.findings("breaks")
    assert len(found) == 21
    assert sum(one["count"] for one in found) == 60
    assert found[-1]["what"] == "more of other kinds"


# --- what cannot be checked ---------------------------------------------------------------------------------------------------------


def test_a_trimmed_journal_is_checked_as_far_as_it_goes_and_the_rest_is_told() -> None:
    async def scene(shop: Shop) -> Records:
        await place(shop.log, *(f"a{n}" for n in range(6)))
        for number in range(6):
            await shop.until(f"a{number}", ended)
        await shop.orchestrate(snapshot_bytes=100, history_days=1e-6)
        await place(shop.log, *(f"b{n}" for n in range(6)))
        for number in range(6):
            await shop.until(f"b{number}", ended)
        await shop.stop()
        return journal(shop.broker)

    records = play({}, scene)
    assert any(held[0].offset for held in records.values()), "nothing was trimmed"
    told = Told(records, shop())
    assert told.code == 0
    assert "was trimmed: what was decided before" in told.said("unchecked")
    assert not told.findings("differs")
    assert told.rows[-1]["decisions"] > 0


def test_all_that_a_simulation_decides_is_decided_again_the_same() -> None:
    """Crashes, retries, repeats, dead letters, operators: what decides is a function of what stands in the journal, and of no more."""

    async def scene() -> World:
        world = World(3)
        await world.play()
        return world

    world = run(scene(), seed=3)
    everything = {tp: held for tp, held in world.broker.everything().items() if tp.topic == JOURNAL}
    broken.clear()
    told = Told(everything, *book().all(), partitions=len(everything))
    assert told.rows[0]["decisions"] > 100
    assert {found["what"] for row in told.rows for found in row["findings"]} <= {"on payment.taken.v1 it does not park: user-code"}


def test_what_was_decided_without_its_version_is_not_held_against_anybody(records: Records) -> None:
    told = Told(records, shop(version=3))
    assert told.findings("unchecked")[0]["what"].startswith("its version is not in the app")
    assert told.findings("unchecked")[0]["count"] == 15


# --- more kinds of steps ------------------------------------------------------------------------------------------------------------


class Line(BaseModel):
    sku: str


class Basket(Event, type="basket.filled.v1"):
    basket_id: str
    lines: list[Line]


class Reserved(Event, type="store.reserved.v1"):
    pass


class Released(Event, type="store.released.v1"):
    pass


class Reserve(Command[Reserved], service="store"):
    sku: str


class Release(Command[Released], service="store"):
    sku: str


class Arrived(Event, type="basket.arrived.v1"):
    basket_id: str


def baskets() -> Saga[Basket, Basket]:
    saga = Saga("baskets", version=1, starts_on=Basket, key=lambda b: b.basket_id, data=Basket, deadline=minutes(30))

    @saga.start
    def begin(b: Basket) -> Basket:
        return b

    @saga.each(lambda b: b.lines, after=START)
    def reserve(_: Basket, line: Line) -> Reserve:
        return Reserve(sku=line.sku)

    @reserve.compensate
    def release(_: Basket, _line: Line, sent: Reserve) -> Release:
        return Release(sku=sent.sku)

    saga.expect(Arrived, key=lambda e: e.basket_id, after=reserve, within=None, name="arrived")
    return saga


def test_items_and_events_that_came_early_are_checked_too() -> None:
    with Bench(baskets()) as bench:
        bench.answer(Reserve, Reserved())
        bench.answer(Release, Released())
        bench.start(Basket(basket_id="1", lines=[Line(sku="a"), Line(sku="b")]))
        bench.send(Arrived(basket_id="2"), key="2")
        bench.advance(seconds(1))
        records = journal(bench._broker, 1)
    told = Told(records, baskets(), partitions=1)
    assert told.code == 0, told.out
    assert not told.findings("differs")
    assert told.rows[0]["live"] == 1

    class Numbered(Line):
        number: int

    class Dated(Arrived, type="basket.arrived.v1"):
        day: str

    changed = baskets()
    changed.steps["reserve"].item = TypeAdapter(Numbered)  # type: ignore[attr-defined]
    changed.steps["arrived"].event = Dated  # type: ignore[attr-defined]
    told = Told(records, changed, partitions=1, asked=Asked(last=0))
    assert {found["what"] for found in told.findings("breaks")} == {
        "an item of reserve is not valid: number: Field required",
        "basket.arrived.v1, which is kept for it, is not valid: day: Field required",
    }
    gone = Told(records, shop(), partitions=1, asked=Asked(last=0))
    assert "events wait for its start, but it is not in the app" in gone.said("breaks")


# --- a journal in a file ------------------------------------------------------------------------------------------------------------


def test_an_exported_journal_is_checked_like_the_log(records: Records, tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"

    async def write() -> int:
        broker = MemoryBroker()
        broker.create([TopicSpec(JOURNAL, PARTITIONS, 1, {"max.message.bytes": "4194304"})])
        for tp, held in records.items():
            broker.append(tp, [Record(record.key, record.value) for record in held])
        log = MemoryLog(broker)
        await log.open()
        with file.open("w", encoding="utf-8") as to:
            return await export(log, to, await Journals(log).partitions())

    assert run(write()) == sum(map(len, records.values()))
    from_log, from_file = Told(records, shop()), Told(records, shop(), log=Recorded(file))
    assert from_file.out == from_log.out
    values = [r.value or b"" for held in records.values() for r in held]
    read = [r.value or b"" for held in Recorded(file)._records.values() for r in held]
    assert sorted(read) == sorted(values), "it is another journal, byte for byte"


@pytest.mark.parametrize("text", ["", "garbage\n", '{"partition":0}\n', '{"partition":3,"of":3,"offset":0,"time":0,"value":{}}\n'])
def test_a_file_that_is_no_journal_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=str(file)):
        Recorded(file)


def test_the_command_checks_a_log_and_a_file(tmp_path: Path, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_LOG", f"file:{tmp_path}/log")
    assert CliRunner().invoke(cli, ["topics", "apply", "--app", "tests.ops.shop:app"]).exit_code == 0

    async def fill() -> None:
        log = FileLog(tmp_path / "log")
        await log.open()
        for tp, held in records.items():
            await log.append(tp, [Record(record.key, record.value) for record in held])
        await log.close()

    asyncio.run(fill())
    fine = CliRunner().invoke(cli, ["check", "--app", "tests.ops.shop:app", "-o", "json"])
    assert (fine.exit_code, json.loads(fine.stdout)[0]["result"]) == (0, "differs"), fine.output
    file = str(tmp_path / "journal.jsonl")
    assert CliRunner().invoke(cli, ["journal", "export", file]).exit_code == 0
    breaks = CliRunner().invoke(cli, ["check", "--app", "tests.ops.shop:broken_app", "--journal", file])
    assert breaks.exit_code == 3
    assert "the code of pay raises, and the instance parks: KeyError: 'payment_ref'" in breaks.output
