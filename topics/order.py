"""The order service: takes orders, and knows what became of them."""

from __future__ import annotations

from pydantic import Field

from saga import Command, Event, Refusal
from topics.values import Address, CardToken, Customer, Line, Money, OrderId, Text


class OrderPlaced(Event, type="order.placed.v1"):
    order_id: OrderId
    customer: Customer
    address: Address
    lines: tuple[Line, ...] = Field(min_length=1)
    total: Money
    card: CardToken


class OrderAccepted(Event, type="order.accepted.v1"):
    order_id: OrderId


class OrderConfirmed(Event, type="order.confirmed.v1"):
    order_id: OrderId
    tracking: Text


class OrderCancelled(Event, type="order.cancelled.v1"):
    order_id: OrderId


class OrderUnknown(Refusal, type="order.unknown.v1"):
    """Nobody placed this order with the order service: its event came from elsewhere."""

    order_id: OrderId


class AcceptOrder(Command[OrderAccepted], service="order", refuses=(OrderUnknown,)):
    order_id: OrderId


class CancelOrder(Command[OrderCancelled], service="order"):
    order_id: OrderId


class ConfirmOrder(Command[OrderConfirmed], service="order"):
    order_id: OrderId
    tracking: Text
