"""Loyalty's sagas: points for a purchase, points taken back, a reward for points.

loyalty:       grant                 starts on the shop's own event; the shop neither starts it nor waits for it
points-back:   take                  a child of the shop's refund; it can be undone as long as the refund can
reward:        give
"""

from __future__ import annotations

from pydantic import BaseModel

from saga import START, Retry, Saga, minutes, seconds
from topics.chain import (
    GiveReward,
    GrantPoints,
    PointsWanted,
    PurchaseConfirmed,
    RestorePoints,
    RewardWanted,
    TakePointsBack,
)

SOON = seconds(5)  # our own services answer within milliseconds; one that restarts needs a few seconds
PATIENT = Retry(attempts=50)  # who has bought gets points, however long loyalty is down


class Points(BaseModel):
    purchase_id: str
    customer_id: str
    total: int


loyalty_points = Saga(
    "loyalty", version=1, starts_on=PurchaseConfirmed, key=lambda p: p.purchase_id, data=Points, deadline=minutes(30)
)


@loyalty_points.start
def bought(p: PurchaseConfirmed) -> Points:
    return Points.model_validate(p.model_dump())


@loyalty_points.step(after=START, timeout=SOON, pivot=True, retry=PATIENT)
def grant(p: Points) -> GrantPoints:
    return GrantPoints.model_validate(p.model_dump())


class Back(BaseModel):
    purchase_id: str
    customer_id: str


points_back = Saga("points-back", version=1, starts_on=PointsWanted, key=lambda p: p.purchase_id, data=Back, deadline=minutes(10))


@points_back.start
def back_wanted(p: PointsWanted) -> Back:
    return Back.model_validate(p.model_dump())


@points_back.step(after=START, timeout=SOON)
def take(b: Back) -> TakePointsBack:
    return TakePointsBack(purchase_id=b.purchase_id, customer_id=b.customer_id)


@take.compensate
def restore(_: Back, sent: TakePointsBack) -> RestorePoints:
    return RestorePoints(purchase_id=sent.purchase_id)


class Reward(BaseModel):
    reward_id: str
    customer_id: str
    points: int


reward = Saga("reward", version=1, starts_on=RewardWanted, key=lambda r: r.reward_id, data=Reward, deadline=minutes(10))


@reward.start
def reward_wanted(r: RewardWanted) -> Reward:
    return Reward.model_validate(r.model_dump())


@reward.step(after=START, timeout=SOON, compensation=None)
def give(r: Reward) -> GiveReward:
    return GiveReward.model_validate(r.model_dump())
