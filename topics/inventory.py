"""The inventory service: reserves stock for orders, all lines of an order or none."""

from __future__ import annotations

from pydantic import Field

from saga import Command, Event, Refusal
from topics.values import OrderId, Pieces, Sku


class StockReserved(Event, type="inventory.reserved.v1"):
    order_id: OrderId
    pieces: tuple[Pieces, ...]


class StockReleased(Event, type="inventory.released.v1"):
    order_id: OrderId
    pieces: tuple[Pieces, ...]


class OutOfStock(Refusal, type="inventory.out-of-stock.v1"):
    """The first article of the order of which there are too few."""

    order_id: OrderId
    sku: Sku
    wanted: int
    on_hand: int


class ReserveStock(Command[StockReserved], service="inventory", refuses=(OutOfStock,)):
    order_id: OrderId
    pieces: tuple[Pieces, ...] = Field(min_length=1)


class ReleaseStock(Command[StockReleased], service="inventory"):
    order_id: OrderId
