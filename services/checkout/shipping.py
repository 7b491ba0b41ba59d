"""The shipping service: books parcels with carriers, who are outside our database.

So a booking is asked for first, under a key that is the same for every attempt, and then written down. Who falls over in between has
nothing in its own table, though the parcel is booked; and while a carrier does not answer, it may be booked any moment. That is why
whoever asks whether a shipment was booked is answered by the carrier, and not by that table.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import BigInteger, Column, Connection, DateTime, Integer, MetaData, String, Table, insert

from saga import Nothing, Participant, Refused, Work
from services.checkout.carriers import Carriers, NotServed, Parcel
from services.checkout.process import Service
from services.checkout.settings import SETTINGS
from topics.shipping import AddressRefused, BookShipment, FindShipment, ShipmentBooked

TABLES = MetaData()
ID = BigInteger().with_variant(Integer(), "sqlite")

shipments = Table(
    "shipments",
    TABLES,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("order_id", String(64), nullable=False, index=True),
    Column("carrier", String(40), nullable=False),
    Column("tracking", String(40), nullable=False),
    Column("recipient", String(200), nullable=False),
    Column("country", String(2), nullable=False),
    Column("postcode", String(16), nullable=False),
    Column("command_id", String(1000), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

carriers = Carriers(SETTINGS.carriers_books)
shipping = Participant("shipping")


async def ask_carrier(cmd: BookShipment, work: Work) -> Parcel:
    try:
        return await carriers.book(work.command_id, cmd.recipient, cmd.address)
    except NotServed as no:
        raise Refused(AddressRefused(order_id=cmd.order_id, reason=str(no))) from no


@shipping.handles(BookShipment, calls=ask_carrier)
def book(cmd: BookShipment, work: Work, parcel: Parcel) -> ShipmentBooked:
    return _note(work, cmd.order_id, parcel, work.command_id)


async def ask_or_close(_: FindShipment, work: Work) -> Parcel:
    """Asked only while nobody knows. What is not booked by now never will be: a booking still on its way finds its key closed."""
    parcel = await carriers.close(work.subject_id)
    if parcel is None:
        raise Nothing
    return parcel


@shipping.handles(FindShipment, calls=ask_or_close)
def find(cmd: FindShipment, work: Work, parcel: Parcel) -> ShipmentBooked:
    """We fell over between the booking and writing it down: the carrier knew, now our books do."""
    return _note(work, cmd.order_id, parcel, work.subject_id)


def _note(work: Work, order_id: str, parcel: Parcel, command_id: str) -> ShipmentBooked:
    row = {"order_id": order_id, **vars(parcel), "command_id": command_id, "at": datetime.now(UTC)}
    work.execute(insert(shipments), row)
    return ShipmentBooked(order_id=order_id, carrier=parcel.carrier, tracking=parcel.tracking)


def _prepare(_: Connection) -> None:
    carriers.prepare()


SERVICE = Service(shipping, TABLES, prepare=_prepare)
