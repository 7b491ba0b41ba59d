"""The shipped examples, put together the way any user's project is."""

from __future__ import annotations

from saga import App, Reactor
from services.checkout.inventory import inventory
from services.checkout.order import order
from services.checkout.payment import payment
from services.checkout.saga import checkout
from services.checkout.shipping import shipping

app = App(
    sagas=[checkout],
    participants=[order, payment, inventory, shipping],
    reactors=[Reactor("notification", listens=["saga.events"]), Reactor("analytics", listens=["saga.events"])],
    begin="earliest",
)
