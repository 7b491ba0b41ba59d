"""The payment gateway's books. It is somebody else's software, so nothing of ours is used here: plain sqlite3.

A charge is known by its idempotency key for ever, and its payload with it: the same key again is the same charge, and the same key
with another payload is a mistake of the caller's. A key can be voided before it was ever used; then it will never charge.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    key TEXT PRIMARY KEY,
    charge_id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('captured', 'declined', 'voided')),
    reference TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    currency TEXT NOT NULL,
    card TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS refunds (
    key TEXT PRIMARY KEY,
    refund_id TEXT NOT NULL UNIQUE,
    charge_key TEXT NOT NULL UNIQUE REFERENCES charges (key),
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS requests (key TEXT PRIMARY KEY, seen INTEGER NOT NULL);
"""
DECLINED = "tok_declined"


class Conflict(Exception):
    """The caller contradicts what is in the books; the message says how."""


@dataclass(frozen=True)
class Charge:
    key: str
    charge_id: str
    status: str
    reference: str
    amount: int
    currency: str
    card: str


@dataclass(frozen=True)
class Refund:
    key: str
    refund_id: str
    charge_key: str
    amount: int
    currency: str


class Ledger:
    """One connection, one transaction at a time, each durable when it returns. Usable from any thread."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._one = threading.Lock()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(SCHEMA)

    def count_request(self, key: str) -> int:
        """How often this key was asked for, this time included."""
        with self._transaction() as db:
            db.execute("INSERT INTO requests VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET seen = seen + 1", (key,))
            return int(db.execute("SELECT seen FROM requests WHERE key = ?", (key,)).fetchone()[0])

    def charge(self, key: str, reference: str, amount: int, currency: str, card: str) -> tuple[Charge, bool]:
        """The charge under this key, and whether it is new. Raises Conflict for another payload under a key that was used."""
        status = "declined" if card == DECLINED else "captured"
        with self._transaction() as db:
            there = _charge(db, key)
            if there is None:
                charge = Charge(key, f"ch_{uuid.uuid4().hex[:16]}", status, reference, amount, currency, card)
                _write(db, charge)
                return charge, True
            if there.status != "voided" and (there.reference, there.amount, there.currency, there.card) != (
                reference,
                amount,
                currency,
                card,
            ):
                raise Conflict(f"key {key} was used for {there.amount} {there.currency} of {there.reference}, not for this")
            return there, False

    def find(self, key: str) -> Charge | None:
        with self._transaction() as db:
            return _charge(db, key)

    def void(self, key: str) -> Charge:
        """See to it that this key never charges, if it has not yet. What was captured or declined stays as it is."""
        with self._transaction() as db:
            there = _charge(db, key)
            if there is None:
                there = Charge(key, f"ch_{uuid.uuid4().hex[:16]}", "voided", "", 0, "", "")
                _write(db, there)
            return there

    def refund(self, key: str, charge_key: str) -> tuple[Refund, bool]:
        """Give back a whole charge, once. Raises Conflict if there is nothing to give back (any more)."""
        with self._transaction() as db:
            row = db.execute("SELECT key, refund_id, charge_key, amount, currency FROM refunds WHERE key = ?", (key,)).fetchone()
            if row is not None:
                there = Refund(*row)
                if there.charge_key != charge_key:
                    raise Conflict(f"key {key} was used for a refund of {there.charge_key}, not of {charge_key}")
                return there, False
            charge = _charge(db, charge_key)
            if charge is None or charge.status != "captured":
                raise Conflict(f"{charge_key} is {charge.status if charge else 'not known'}: there is nothing to give back")
            if db.execute("SELECT 1 FROM refunds WHERE charge_key = ?", (charge_key,)).fetchone():
                raise Conflict(f"{charge_key} was given back under another key")
            refund = Refund(key, f"re_{uuid.uuid4().hex[:16]}", charge_key, charge.amount, charge.currency)
            db.execute("INSERT INTO refunds VALUES (?, ?, ?, ?, ?, ?)", (*_values(refund), time.time()))
            return refund, True

    def close(self) -> None:
        with self._one:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._one:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def _charge(db: sqlite3.Connection, key: str) -> Charge | None:
    asked = "SELECT key, charge_id, status, reference, amount, currency, card FROM charges WHERE key = ?"
    row = db.execute(asked, (key,)).fetchone()
    return None if row is None else Charge(*row)


def _write(db: sqlite3.Connection, charge: Charge) -> None:
    db.execute("INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*_values(charge), time.time()))


def _values(row: Charge | Refund) -> tuple[object, ...]:
    return tuple(vars(row).values())
