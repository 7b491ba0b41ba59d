"""The alarm: its reply is the event that others listen to; the row is what a person finds who was not awake."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, MetaData, String, Table, insert

from saga import Participant, Work
from topics.nightly import AlarmRaised, RaiseAlarm

TABLES = MetaData()

alarms = Table(
    "alarms",
    TABLES,
    Column("night", String(200), primary_key=True),
    Column("off_minor", BigInteger, nullable=False),
    Column("what", String(1000), nullable=False),
)

alarm = Participant("alarm")


@alarm.handles(RaiseAlarm)
def raise_alarm(cmd: RaiseAlarm, work: Work) -> AlarmRaised:
    work.execute(insert(alarms), {"night": cmd.night, "off_minor": cmd.off_minor, "what": cmd.what})
    return AlarmRaised(night=cmd.night, off_minor=cmd.off_minor, what=cmd.what)
