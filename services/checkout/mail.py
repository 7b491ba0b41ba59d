"""What the notification service does with an outcome: one real e-mail to the customer, as a file and, if wanted, by SMTP.

    completed     it is on its way, with the tracking number
    compensated   we are sorry, and what became of the money
    parked        nothing: people of ours look at it, and the customer hears of the outcome

A mail's file name and Message-ID come from the event's id, and the file gets that name only when it is complete and on the disk. So
however often an outcome is told there is one mail, and never half of one. Over SMTP nobody can promise that: a server may have taken a
mail just before we crashed. It then gets the very same bytes again, under the same Message-ID, by which servers know a repeat.
"""

from __future__ import annotations

import hashlib
import os
import smtplib
from collections.abc import Callable
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, insert, select

from saga import Store
from saga.cloudevents import CloudEvent
from saga.errors import Unreadable
from services.checkout.outcomes import Outcome, outcome_of
from services.checkout.saga import Checkout

SENDER = "orders@corner-shop.example"
DOMAIN = "corner-shop.example"
SMTP_SECONDS = 10.0  # for any one answer of the mail server

TABLES = MetaData()
ID = BigInteger().with_variant(Integer(), "sqlite")

mails = Table(
    "mails",
    TABLES,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("event_id", String(1000), nullable=False, unique=True),
    Column("order_id", String(64), nullable=False, index=True),
    Column("kind", String(16), nullable=False),  # tracking | apology
    Column("recipient", String(254), nullable=False),
    Column("message_id", String(200), nullable=False),
    Column("file", String(200), nullable=False),
    Column("posted", String(500), nullable=False),  # "" (no mail server is configured) | accepted | refused: what the server said
    Column("trace", String(55), nullable=False),  # W3C traceparent of the order; "" if it has none
    Column("at", DateTime(timezone=True), nullable=False),
)

Post = Callable[[bytes, str], str]


class Letter(NamedTuple):
    """What a customer reads, and whether it is a tracking mail or an apology."""

    kind: str
    subject: str
    text: str


class Mailer:
    """Handles outcomes, each once in effect. `post(mail, recipient)` says what became of it, or raises OSError to be tried again."""

    def __init__(self, folder: Path, store: Store, post: Post | None = None) -> None:
        self.folder = folder
        self._store = store
        self._post = post

    def prepare(self) -> None:
        """Create what is missing, so that somebody who looks finds nothing, rather than no database. It blocks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._store.read():
            pass

    def handle(self, event: CloudEvent) -> bool:
        """Write to the customer if this is news; False if there is nothing to write. It blocks: call it in a thread.

        Raises OSError if the disk or the mail server is not there and Unavailable or SQLAlchemyError if the database is not: later
        it may work. Raises Unreadable for what the coordinator did not write, and for what no mail can be made of.
        """
        outcome = outcome_of(event)
        if outcome is None or self._is_noted(outcome):
            return False
        name, letter = mail_name(outcome.id), compose(outcome)
        file = self.folder / name
        if not file.exists():
            _write(file, _mail(outcome, letter))
        posted = self._post(file.read_bytes(), outcome.data.customer.email) if self._post else ""
        row = {
            "event_id": outcome.id,
            "order_id": outcome.data.order_id,
            "kind": letter.kind,
            "recipient": outcome.data.customer.email,
            "message_id": _message_id(name),
            "file": name,
            "posted": posted[:500],
            "trace": outcome.trace,
            "at": datetime.now(UTC),
        }
        with self._store.begin() as connection:
            if connection.execute(select(mails.c.id).where(mails.c.event_id == outcome.id)).first() is None:
                connection.execute(insert(mails).values(row))
        return True

    def _is_noted(self, outcome: Outcome) -> bool:
        with self._store.read() as connection:
            return connection.execute(select(mails.c.id).where(mails.c.event_id == outcome.id)).first() is not None


def compose(outcome: Outcome) -> Letter:
    """The letter for an outcome. It says only what is true at the end: by then all that was taken has been returned."""
    c, number = outcome.data, outcome.data.order_id
    if outcome.completed:
        return Letter(
            "tracking", f"Your order {number} is on its way", _text(c, f"your order {number} is on its way: {c.tracking}.")
        )
    money = f"Your money ({c.total}) has been returned." if c.payment_id else "Nothing is charged for it."
    return Letter(
        "apology",
        f"Your order {number} was cancelled",
        _text(c, f"we are sorry: your order {number} had to be cancelled. {money}"),
    )


def mail_name(event_id: str) -> str:
    """An event's file: any id gives a safe name, and two ids never the same."""
    return hashlib.blake2b(event_id.encode(), digest_size=16).hexdigest() + ".eml"


def by_smtp(host: str, port: int) -> Post:
    """Post to this mail server (RFC 5321). A mail that it refuses for good must not hold up all that come after it."""

    def post(mail: bytes, recipient: str) -> str:
        try:
            with smtplib.SMTP(host, port, timeout=SMTP_SECONDS) as server:
                server.sendmail(SENDER, [recipient], mail)
        except smtplib.SMTPRecipientsRefused as refused:
            code, said = refused.recipients[recipient]
            return _refusal(code, said, refused)
        except smtplib.SMTPResponseException as refused:
            return _refusal(refused.smtp_code, refused.smtp_error, refused)
        return "accepted"

    return post


def _refusal(code: int, said: bytes | str, error: smtplib.SMTPException) -> str:
    """5xx is for good; anything else, like a full mailbox, may pass (RFC 5321, section 4.2.1)."""
    if code < 500:
        raise error
    return f"refused: {code} {said.decode(errors='replace') if isinstance(said, bytes) else said}"


def _message_id(name: str) -> str:
    return f"<{name.removesuffix('.eml')}@{DOMAIN}>"


def _text(c: Checkout, what: str) -> str:
    return f"Dear {c.customer.name},\n\n{what}\n\nYour corner shop\n"


def _mail(outcome: Outcome, letter: Letter) -> bytes:
    """The mail as it is sent. Raises Unreadable if there can be none: what never works must not hold up all that come after it."""
    try:
        return _message(outcome, letter).as_bytes()
    except (MessageError, ValueError) as error:
        what = f"no mail can be made of {outcome.id!r}: {type(error).__name__}: {error}"
        raise Unreadable("mail", what) from error


def _message(outcome: Outcome, letter: Letter) -> EmailMessage:
    customer = outcome.data.customer
    message = EmailMessage(policy=SMTP)
    message["From"] = Address("Corner Shop", addr_spec=SENDER)
    # A line break in a name would be refused by the policy, for ever: so it is taken out.
    name_shown = "".join(character for character in customer.name if character.isprintable())
    message["To"] = Address(name_shown, addr_spec=customer.email)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = _message_id(mail_name(outcome.id))
    message["X-Order"] = outcome.data.order_id
    message["X-Event"] = outcome.id
    message.set_content(letter.text)
    return message


def _write(final: Path, content: bytes) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = final.with_suffix(f".{os.getpid()}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too, must survive a power cut before we say that the mail is there
    finally:
        os.close(folder)
