"""No fault, and no two, leave an effect of these sagas behind or do one twice."""

from __future__ import annotations

import pytest

from saga.testing import explore
from services.chain.loyalty.saga import loyalty_points, points_back, reward
from services.chain.saga import purchase, refund
from topics.chain import DropRefund, GiveReward, RefundVerdict


def test_purchase() -> None:
    explore(purchase).assert_ok()


def test_loyalty() -> None:
    explore(loyalty_points).assert_ok()
    explore(points_back).assert_ok()


def test_reward() -> None:
    explore(reward, no_effect=[GiveReward]).assert_ok()


@pytest.mark.parametrize("granted", [True, False])
def test_refund(granted: bool) -> None:
    explore(refund, replies={RefundVerdict: [RefundVerdict(granted=granted)]}, no_effect=[DropRefund]).assert_ok()
