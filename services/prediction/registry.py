"""The registry: which model is the current one. One goes on trial at a time, and either is released or gives way to the one before."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy import update as change

from saga import Nothing, Participant, Refused, Work
from topics.prediction import (
    FindRelease,
    ModelPromoted,
    ModelReleased,
    ModelRolledBack,
    PromoteModel,
    RegistryBusy,
    ReleaseModel,
    RollBackModel,
)

TABLES = MetaData()

# Every model that was ever promoted, in order. The current one is the last that was not rolled back.
versions = Table(
    "versions",
    TABLES,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("version", String(60), nullable=False, unique=True),
    Column("previous", String(60), nullable=False),
    Column("state", String(12), nullable=False),  # trial | released | rolled back
    Column("command_id", String(1000), nullable=False),
)

registry = Participant("registry")


@registry.handles(PromoteModel)
def promote(cmd: PromoteModel, work: Work) -> ModelPromoted:
    last = select(versions).where(versions.c.state != "rolled back").order_by(versions.c.id.desc()).limit(1)
    current = work.execute(last).first()
    if current is not None and current.state == "trial":
        raise Refused(RegistryBusy(on_trial=current.version))
    previous = current.version if current is not None else ""
    row = {"version": cmd.version, "previous": previous, "state": "trial", "command_id": work.command_id}
    work.execute(insert(versions), row)
    return ModelPromoted(version=cmd.version, previous=previous)


@registry.handles(RollBackModel)
def roll_back(cmd: RollBackModel, work: Work) -> ModelRolledBack:
    promoted = versions.c.command_id == work.subject_id
    row = work.execute(select(versions).where(promoted)).first()
    if row is None:
        raise Nothing
    work.execute(change(versions).where(promoted).values(state="rolled back"))
    return ModelRolledBack(version=cmd.version, current=row.previous)


@registry.handles(ReleaseModel)
def release(cmd: ReleaseModel, work: Work) -> ModelReleased:
    on_trial = (versions.c.version == cmd.version) & (versions.c.state == "trial")
    if work.execute(change(versions).where(on_trial).values(state="released")).rowcount != 1:
        raise ValueError(f"{cmd.version} is not on trial")  # a mistake of whoever sends this, and no business "no"
    return ModelReleased(version=cmd.version)


@registry.handles(FindRelease)
def find(cmd: FindRelease, work: Work) -> ModelReleased:
    released = (versions.c.version == cmd.version) & (versions.c.state == "released")
    if work.execute(select(versions.c.id).where(released)).first() is None:
        raise Nothing
    return ModelReleased(version=cmd.version)
