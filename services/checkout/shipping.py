"""The shipping service: books parcels with carriers. Some refuse an address, and one answers later than anybody waits."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, insert, select

from saga import Nothing, Participant, Refused, Work
from services.checkout.process import Service
from topics.shipping import AddressRefused, BookShipment, FindShipment, ShipmentBooked
from topics.values import Address


@dataclass(frozen=True)
class Carrier:
    """Who delivers where: ISO 3166 countries, postcodes it does not go to by their beginnings, seconds until it answers."""

    name: str
    countries: frozenset[str]
    not_to: tuple[tuple[str, str], ...] = ()
    answers_after: float = 0.0


CARRIERS = (
    Carrier(
        "Continental Parcel", frozenset({"DE", "FR", "NL", "BE", "ES", "IT"}), not_to=(("FR", "97"), ("ES", "35"), ("ES", "38"))
    ),
    Carrier("Royal Wagon", frozenset({"GB", "IE"}), not_to=(("GB", "JE"), ("GB", "GY"), ("GB", "IM"))),
    Carrier("Prairie Express", frozenset({"US", "CA"}), not_to=(("US", "96"), ("US", "99"))),
    Carrier("Sakura Bin", frozenset({"JP"})),
    # Over the pass with mules: the saga stops waiting after three seconds, asks, and learns that it was booked after all.
    Carrier("Alpine Freight", frozenset({"AT", "CH"}), answers_after=4.0),
)

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


@dataclass(frozen=True)
class Booking:
    carrier: str
    tracking: str


shipping = Participant("shipping")


async def ask_carrier(cmd: BookShipment, work: Work) -> Booking:
    """The carrier's answer; its number is made from the command's id, so it knows a repeated booking for what it is."""
    carrier = next((c for c in CARRIERS if cmd.address.country in c.countries), None)
    if carrier is None:
        raise Refused(AddressRefused(order_id=cmd.order_id, reason=f"nobody delivers to {cmd.address.country}"))
    await asyncio.sleep(carrier.answers_after)
    if not_served(carrier, cmd.address):
        reason = f"{carrier.name} does not deliver to {cmd.address.country} {cmd.address.postcode}"
        raise Refused(AddressRefused(order_id=cmd.order_id, reason=reason))
    number = hashlib.blake2b(work.command_id.encode(), digest_size=6).hexdigest().upper()
    initials = "".join(word[0] for word in carrier.name.split())
    return Booking(carrier.name, f"{initials}{number}")


def not_served(carrier: Carrier, address: Address) -> bool:
    return any(address.country == country and address.postcode.upper().startswith(start) for country, start in carrier.not_to)


@shipping.handles(BookShipment, calls=ask_carrier)
def book(cmd: BookShipment, work: Work, booking: Booking) -> ShipmentBooked:
    work.execute(
        insert(shipments).values(
            order_id=cmd.order_id,
            carrier=booking.carrier,
            tracking=booking.tracking,
            recipient=cmd.recipient,
            country=cmd.address.country,
            postcode=cmd.address.postcode,
            command_id=work.command_id,
            at=datetime.now(UTC),
        )
    )
    return ShipmentBooked(order_id=cmd.order_id, carrier=booking.carrier, tracking=booking.tracking)


@shipping.handles(FindShipment)
def find(cmd: FindShipment, work: Work) -> ShipmentBooked:
    """Asked only while nobody knows: what is in the table was booked, and what is not never will be, since the kit closes it."""
    row = work.execute(select(shipments).where(shipments.c.command_id == work.subject_id)).first()
    if row is None:
        raise Nothing
    return ShipmentBooked(order_id=cmd.order_id, carrier=row.carrier, tracking=row.tracking)


SERVICE = Service(shipping, TABLES)
