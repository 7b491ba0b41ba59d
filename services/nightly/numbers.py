"""The numbers service: what was sold, by the journal and by the till, and which sales which report had.

A report has the sales that ended until its night and that no report before it had. Which those are is noted with its numbers, in one
transaction; so no sale is reported twice, however often a report is asked for, and none is left out if one is undone.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, MetaData, String, Table, create_engine, delete, func, insert, select

from saga import Nothing, Participant, Work
from saga.instances import instances
from services.nightly.till import sales
from services.stage.example import database
from topics.nightly import ForgetNumbers, GatherNumbers, NumbersForgotten, NumbersGathered

TABLES = MetaData()

reported = Table(
    "reported_sales",
    TABLES,
    Column("sale_id", String(200), primary_key=True),
    Column("night", String(200), nullable=False, index=True),
    Column("minor", BigInteger, nullable=False),
)
nights = Table("nights", TABLES, Column("night", String(200), primary_key=True), Column("until_ms", BigInteger, nullable=False))

numbers = Participant("numbers")


class Ended(NamedTuple):
    """A sale that has its outcome, as the journal tells it."""

    sale_id: str
    minor: int
    completed: bool
    ended: int


async def read_journal(cmd: GatherNumbers, _: Work) -> list[Ended]:
    until = _ms(cmd.until)
    found = await instances("sale")
    return [
        Ended(state.key, state.data["amount"]["minor"], state.phase == "completed", state.ended)
        for state in found
        if state.ended is not None and state.ended <= until
    ]


@numbers.handles(GatherNumbers, calls=read_journal)
def gather(cmd: GatherNumbers, work: Work, ended: list[Ended]) -> NumbersGathered:
    before = set(work.execute(select(reported.c.sale_id)).scalars())
    fresh = [sale for sale in ended if sale.sale_id not in before]
    last = work.execute(select(func.max(nights.c.until_ms))).scalar()
    sold = [sale for sale in fresh if sale.completed]
    if fresh:
        work.execute(insert(reported), [{"sale_id": s.sale_id, "night": cmd.night, "minor": s.minor} for s in fresh])
    work.execute(insert(nights), {"night": cmd.night, "until_ms": _ms(cmd.until)})
    return NumbersGathered(
        completed=len(sold),
        compensated=len(fresh) - len(sold),
        journal_minor=sum(sale.minor for sale in sold),
        till_minor=in_the_till([sale.sale_id for sale in sold]),
        since=None if last is None else datetime.fromtimestamp(last / 1000, cmd.until.tzinfo),
    )


@numbers.handles(ForgetNumbers)
def forget(cmd: ForgetNumbers, work: Work) -> NumbersForgotten:
    if not work.execute(delete(nights).where(nights.c.night == cmd.night)).rowcount:
        raise Nothing
    work.execute(delete(reported).where(reported.c.night == cmd.night))
    return NumbersForgotten(night=cmd.night)


def in_the_till(sale_ids: list[str]) -> int:
    """What the till's own database says of these sales."""
    engine = create_engine(database("till"))
    try:
        with engine.connect() as connection:
            rows = connection.execute(select(sales.c.sale_id, sales.c.minor)).all()
    finally:
        engine.dispose()
    wanted = set(sale_ids)
    return sum(row.minor for row in rows if row.sale_id in wanted)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
