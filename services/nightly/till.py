"""The till: rings up a sale, once; a card that begins with `bad` is refused."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, MetaData, String, Table, insert

from saga import Participant, Refused, Work
from topics.nightly import CardRefused, RingUp, RungUp

TABLES = MetaData()

sales = Table(
    "sales",
    TABLES,
    Column("sale_id", String(200), primary_key=True),
    Column("minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("command_id", String(1000), nullable=False),
)

till = Participant("till")


@till.handles(RingUp)
def ring_up(cmd: RingUp, work: Work) -> RungUp:
    if cmd.card.startswith("bad"):
        raise Refused(CardRefused(sale_id=cmd.sale_id))
    row = {"sale_id": cmd.sale_id, "minor": cmd.amount.minor, "currency": cmd.amount.currency, "command_id": work.command_id}
    work.execute(insert(sales), row)
    return RungUp(sale_id=cmd.sale_id)
