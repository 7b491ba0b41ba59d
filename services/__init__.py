"""The shipped examples, put together the way any user's project is."""

from __future__ import annotations

from saga.app import App
from services.checkout.saga import checkout

app = App(sagas=[checkout], begin="earliest")
