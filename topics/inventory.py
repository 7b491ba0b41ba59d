"""The inventory service: reserves stock for the lines of orders, each by itself."""

from __future__ import annotations

from pydantic import Field

from saga import Command, Event, Refusal
from topics.values import OrderId, Sku


class StockReserved(Event, type="inventory.reserved.v1"):
    order_id: OrderId
    sku: Sku
    quantity: int


class StockReleased(Event, type="inventory.released.v1"):
    order_id: OrderId
    sku: Sku
    quantity: int


class OutOfStock(Refusal, type="inventory.out-of-stock.v1"):
    """There are fewer of the article than the line wants; none of it is reserved."""

    order_id: OrderId
    sku: Sku
    wanted: int
    on_hand: int


class ReserveStock(Command[StockReserved], service="inventory", refuses=(OutOfStock,)):
    """One line of an order. An article may stand on several lines; each is reserved by itself."""

    order_id: OrderId
    sku: Sku
    quantity: int = Field(ge=1)


class ReleaseStock(Command[StockReleased], service="inventory"):
    """What the command that this one compensates had reserved."""

    order_id: OrderId
    sku: Sku
