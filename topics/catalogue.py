"""The catalogue: every message class of the shipped examples, and the topics they travel on.

How many partitions a topic has and how long it keeps its records is said in one place for all apps, `saga.topics.specs`.
"""

from __future__ import annotations

from saga import Message
from saga.engine.messages import topic_of
from topics.inventory import OutOfStock, ReleaseStock, ReserveStock, StockReleased, StockReserved
from topics.order import (
    AcceptOrder,
    CancelOrder,
    ConfirmOrder,
    OrderAccepted,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    OrderUnknown,
)
from topics.payment import PaymentDeclined, PaymentReturned, PaymentTaken, ReturnPayment, TakePayment
from topics.shipping import AddressRefused, BookShipment, FindShipment, ShipmentBooked

MESSAGES: tuple[type[Message], ...] = (
    OrderPlaced,
    AcceptOrder,
    OrderAccepted,
    OrderUnknown,
    ConfirmOrder,
    OrderConfirmed,
    CancelOrder,
    OrderCancelled,
    TakePayment,
    PaymentTaken,
    PaymentDeclined,
    ReturnPayment,
    PaymentReturned,
    ReserveStock,
    StockReserved,
    OutOfStock,
    ReleaseStock,
    StockReleased,
    BookShipment,
    ShipmentBooked,
    AddressRefused,
    FindShipment,
)

TOPICS: tuple[str, ...] = tuple(dict.fromkeys(topic_of(message) for message in MESSAGES))
