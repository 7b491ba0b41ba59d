"""A completed purchase leads to loyalty points in a saga elsewhere in the graph; a refund takes them back, and then the money."""

from __future__ import annotations

from saga import App
from services.chain.cashier import cashier
from services.chain.loyalty.points import loyalty
from services.chain.loyalty.saga import loyalty_points, points_back, reward
from services.chain.purchases import purchases
from services.chain.saga import purchase, refund

app = App(
    sagas=[purchase, loyalty_points, reward, refund, points_back],
    participants=[purchases, cashier, loyalty],
    begin="earliest",
    partitions=4,
)
