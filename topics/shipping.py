"""The shipping service: books parcels with carriers."""

from __future__ import annotations

from saga import Command, Event, Refusal
from topics.values import Address, OrderId, Text


class ShipmentBooked(Event, type="shipping.booked.v1"):
    order_id: OrderId
    carrier: Text
    tracking: Text


class AddressRefused(Refusal, type="shipping.address-refused.v1"):
    order_id: OrderId
    reason: Text


class BookShipment(Command[ShipmentBooked], service="shipping", refuses=(AddressRefused,)):
    order_id: OrderId
    recipient: Text
    address: Address


class FindShipment(Command[ShipmentBooked], service="shipping"):
    """Was the shipment of this order booked?"""

    order_id: OrderId
