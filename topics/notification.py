"""The notification service: writes to customers."""

from __future__ import annotations

from saga import Command, Event
from topics.values import Customer, Money, OrderId, Text


class MailSent(Event, type="notification.mail-sent.v1"):
    order_id: OrderId
    message_id: Text


class SendReceipt(Command[MailSent], service="notification"):
    """We have received your order."""

    order_id: OrderId
    customer: Customer
    total: Money


class SendApology(Command[MailSent], service="notification"):
    """Your order was cancelled. `charged`: money was taken, and is returned."""

    order_id: OrderId
    customer: Customer
    total: Money
    charged: bool


class SendTracking(Command[MailSent], service="notification"):
    """Your order is on its way."""

    order_id: OrderId
    customer: Customer
    tracking: Text
