"""The pager: a process dies again and again, so a person is called; the row is what they find."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, String, Table, insert

from saga import Participant, Work
from topics.platform import CallSomebody, SomebodyCalled

TABLES = MetaData()

pages = Table(
    "pages",
    TABLES,
    Column("n", Integer, primary_key=True),
    Column("version", String(100), nullable=False),
    Column("name", String(100), nullable=False),
    Column("what", String(1000), nullable=False),
)

pager = Participant("pager")


@pager.handles(CallSomebody)
def call(cmd: CallSomebody, work: Work) -> SomebodyCalled:
    work.execute(insert(pages), {"version": cmd.version, "name": cmd.name, "what": cmd.what[:1000]})
    return SomebodyCalled(what=cmd.what)
