"""The loyalty service: a balance for each customer, never below none, and every movement that led to it.

The event that leads to points and the refund that takes them back come on different ways, so either may be first. Points that are to be
taken back before they were granted leave a movement of none behind; the grant that comes later finds it, and takes its points back at
once, in that command's name. So whoever undoes the refund gives back what was taken in its name, whichever was first.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, Column, Integer, MetaData, String, Table, func, insert, select
from sqlalchemy import update as change

from saga import Nothing, Participant, Refused, Work
from topics.chain import (
    GiveReward,
    GrantPoints,
    NotEnoughPoints,
    PointsGranted,
    PointsRestored,
    PointsSpent,
    PointsTakenBack,
    RestorePoints,
    RewardGiven,
    TakePointsBack,
)

TABLES = MetaData()

accounts = Table(
    "accounts",
    TABLES,
    Column("customer_id", String(64), primary_key=True),
    Column("balance", Integer, nullable=False),
    CheckConstraint("balance >= 0", name="never_negative"),
)

# What was done, in the order it was done; never changed, only added to.
movements = Table(
    "movements",
    TABLES,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("customer_id", String(64), nullable=False),
    Column("about", String(64), nullable=False, index=True),  # a purchase, or a reward
    Column("kind", String(10), nullable=False),  # granted | taken_back | restored | spent
    Column("points", Integer, nullable=False),  # what the balance is more by; less, if negative
    Column("command_id", String(1000), nullable=False),
)

loyalty = Participant("loyalty")


def points_for(total: int) -> int:
    """One for each whole euro."""
    return total // 100


@loyalty.handles(GrantPoints)
def grant(cmd: GrantPoints, work: Work) -> PointsGranted:
    points, taker = points_for(cmd.total), _taker(work, cmd.purchase_id)
    _move(work, cmd.customer_id, cmd.purchase_id, "granted", points)
    if taker:
        _move(work, cmd.customer_id, cmd.purchase_id, "taken_back", -points, taker)
    return PointsGranted(purchase_id=cmd.purchase_id, points=0 if taker else points)


@loyalty.handles(TakePointsBack)
def take_back(cmd: TakePointsBack, work: Work) -> PointsTakenBack:
    points = _of(work, cmd.purchase_id)
    if (missing := points - _balance(work, cmd.customer_id)) > 0:
        raise Refused(PointsSpent(customer_id=cmd.customer_id, missing=missing))
    _move(work, cmd.customer_id, cmd.purchase_id, "taken_back", -points)
    return PointsTakenBack(purchase_id=cmd.purchase_id, points=points)


@loyalty.handles(RestorePoints)
def restore(cmd: RestorePoints, work: Work) -> PointsRestored:
    taken = work.execute(select(movements).where(movements.c.command_id == work.subject_id)).all()
    if not taken:
        raise Nothing
    _move(work, taken[0].customer_id, taken[0].about, "restored", -sum(row.points for row in taken))
    return PointsRestored(purchase_id=cmd.purchase_id)


@loyalty.handles(GiveReward)
def give(cmd: GiveReward, work: Work) -> RewardGiven:
    if _balance(work, cmd.customer_id) < cmd.points:
        raise Refused(NotEnoughPoints(reward_id=cmd.reward_id))
    _move(work, cmd.customer_id, cmd.reward_id, "spent", -cmd.points)
    return RewardGiven(reward_id=cmd.reward_id)


def _of(work: Work, about: str) -> int:
    """How many points a purchase has brought so far."""
    return int(work.execute(select(func.sum(movements.c.points)).where(movements.c.about == about)).scalar() or 0)


def _taker(work: Work, about: str) -> str:
    """The command that took the points of a purchase back, if they were not given back since; "" if there is none."""
    rows = work.execute(select(movements.c.kind, movements.c.command_id).where(movements.c.about == about).order_by(movements.c.id))
    last = [row for row in rows if row.kind in ("taken_back", "restored")][-1:]
    return last[0].command_id if last and last[0].kind == "taken_back" else ""


def _balance(work: Work, customer_id: str) -> int:
    return int(work.execute(select(accounts.c.balance).where(accounts.c.customer_id == customer_id)).scalar() or 0)


def _move(work: Work, customer_id: str, about: str, kind: str, points: int, command_id: str = "") -> None:
    """`command_id`: of whom it is done in the name; else of the command at hand."""
    values: dict[str, Any] = {"customer_id": customer_id, "about": about, "kind": kind, "points": points}
    work.execute(insert(movements), {**values, "command_id": command_id or work.command_id})
    account = change(accounts).where(accounts.c.customer_id == customer_id)
    if work.execute(account.values(balance=accounts.c.balance + points)).rowcount == 0:
        work.execute(insert(accounts), {"customer_id": customer_id, "balance": points})
