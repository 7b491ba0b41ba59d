"""The carriers, as a shop finds them behind one address: who delivers where, and what is booked. Some refuse, and one is slow to answer.

They are somebody else's, so nothing of ours is used here: plain sqlite3. A booking is known by its key for ever: the same key again is
the same parcel. A key that was closed before it was ever used books nothing any more.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

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

SCHEMA = """
CREATE TABLE IF NOT EXISTS bookings (
    key TEXT PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('booked', 'closed')),
    carrier TEXT NOT NULL,
    tracking TEXT NOT NULL,
    recipient TEXT NOT NULL,
    country TEXT NOT NULL,
    postcode TEXT NOT NULL,
    at REAL NOT NULL
);
"""


@dataclass(frozen=True)
class Parcel:
    """A booking, as its carrier has it."""

    carrier: str
    tracking: str
    recipient: str
    country: str
    postcode: str


class NotServed(Exception):
    """Nobody goes there; the message says who does not, and where to."""


class Closed(Exception):
    """This key was closed before it was used: it books nothing."""


class Carriers:
    """All of them, and their books in this file. Every call is durable when it returns."""

    def __init__(self, file: Path, carriers: tuple[Carrier, ...] = CARRIERS) -> None:
        self.file = file
        self._carriers = carriers

    def prepare(self) -> None:
        """Make the books, so that somebody who looks finds that nothing is booked, rather than no books."""
        self._look("")

    async def book(self, key: str, recipient: str, to: Address) -> Parcel:
        """Book a parcel, once for a key. Raises NotServed; Closed for a key that was closed."""
        carrier = next((each for each in self._carriers if to.country in each.countries), None)
        if carrier is None:
            raise NotServed(f"nobody delivers to {to.country}")
        if not_served(carrier, to):
            await asyncio.sleep(carrier.answers_after)
            raise NotServed(f"{carrier.name} does not deliver to {to.country} {to.postcode}")
        number = hashlib.blake2b(key.encode(), digest_size=6).hexdigest().upper()
        initials = "".join(word[0] for word in carrier.name.split())
        wanted = Parcel(carrier.name, f"{initials}{number}", recipient, to.country, to.postcode)
        booked = await asyncio.to_thread(self._note, key, wanted)
        await asyncio.sleep(carrier.answers_after)
        if booked is None:
            raise Closed(f"{carrier.name} books nothing under {key}: it was closed")
        return booked

    async def close(self, key: str) -> Parcel | None:
        """See to it that this key books nothing, if it has not yet; what it has booked stays booked, and is the answer."""
        return await asyncio.to_thread(self._note, key, None)

    def _note(self, key: str, parcel: Parcel | None) -> Parcel | None:
        """Write this under the key, unless something is there; what is there."""
        status, values = ("booked", vars(parcel)) if parcel else ("closed", dict.fromkeys(Parcel.__annotations__, ""))
        with closing(self._open()) as db, db:
            db.execute(
                "INSERT OR IGNORE INTO bookings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, status, *values.values(), time.time())
            )
        return self._look(key)

    def _look(self, key: str) -> Parcel | None:
        asked = "SELECT carrier, tracking, recipient, country, postcode FROM bookings WHERE key = ? AND status = 'booked'"
        with closing(self._open()) as db:
            row = db.execute(asked, (key,)).fetchone()
        return Parcel(*row) if row else None

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.file, timeout=10.0)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            db.execute(f"PRAGMA {pragma}")
        db.executescript(SCHEMA)
        return db


def not_served(carrier: Carrier, address: Address) -> bool:
    return any(address.country == country and address.postcode.upper().startswith(start) for country, start in carrier.not_to)
