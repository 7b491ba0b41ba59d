"""The payment service: takes money through the payment gateway, and gives it back."""

from __future__ import annotations

from saga import Command, Event, Refusal
from topics.values import CardToken, Money, OrderId, Text


class PaymentTaken(Event, type="payment.taken.v1"):
    order_id: OrderId
    payment_id: Text
    amount: Money


class PaymentReturned(Event, type="payment.returned.v1"):
    order_id: OrderId
    amount: Money


class PaymentDeclined(Refusal, type="payment.declined.v1"):
    order_id: OrderId
    reason: Text


class TakePayment(Command[PaymentTaken], service="payment", refuses=(PaymentDeclined,)):
    order_id: OrderId
    amount: Money
    card: CardToken


class ReturnPayment(Command[PaymentReturned], service="payment"):
    order_id: OrderId
