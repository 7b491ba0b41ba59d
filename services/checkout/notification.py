"""The notification service: one real e-mail for each command, as a file in a mail drop that a mail server would pick up.

A file's name comes from the command's id, and it gets that name only when it is complete and on the disk. So however often a command
is repeated there is one mail, and never half of one.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, insert

from saga import Participant, Work
from services.checkout.process import Service
from services.checkout.settings import SETTINGS
from topics.notification import MailSent, SendApology, SendReceipt, SendTracking
from topics.values import Customer

SENDER = "Corner Shop <orders@corner-shop.example>"
DOMAIN = "corner-shop.example"

TABLES = MetaData()
ID = BigInteger().with_variant(Integer(), "sqlite")

mails = Table(
    "mails",
    TABLES,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("order_id", String(64), nullable=False, index=True),
    Column("kind", String(16), nullable=False),  # receipt | apology | tracking
    Column("recipient", String(254), nullable=False),
    Column("message_id", String(200), nullable=False),
    Column("file", String(200), nullable=False),
    Column("command_id", String(1000), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)


class MailDrop:
    """A folder of .eml files (RFC 5322)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, command_id: str, order_id: str, customer: Customer, subject: str, text: str) -> str:
        """Leave one mail for this command, once; returns its Message-ID."""
        name = mail_name(command_id)
        message_id = f"<{name.removesuffix('.eml')}@{DOMAIN}>"
        final = self.folder / name
        if final.exists():
            return message_id
        message = EmailMessage(policy=SMTP)
        message["From"] = SENDER
        # A line break in a name would be refused by the policy, and the command would fail for ever: so it is taken out.
        name_shown = "".join(character for character in customer.name if character.isprintable())
        message["To"] = Address(name_shown, addr_spec=customer.email)
        message["Subject"] = subject
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = message_id
        message["X-Order"] = order_id
        message["X-Command"] = command_id
        message.set_content(text)
        self._write(final, message.as_bytes())
        return message_id

    def _write(self, final: Path, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = final.with_suffix(f".{os.getpid()}.draft")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(final)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too, must survive a power cut before we say that the mail is there
        finally:
            os.close(folder)


def mail_name(command_id: str) -> str:
    """A command's file: any id gives a safe name, and two ids never the same."""
    return hashlib.blake2b(command_id.encode(), digest_size=16).hexdigest() + ".eml"


mail_drop = MailDrop(SETTINGS.mail_drop)
notification = Participant("notification")


def drop_receipt(cmd: SendReceipt, work: Work) -> str:
    text = f"Dear {cmd.customer.name},\n\nwe have received your order {cmd.order_id} over {cmd.total}.\n\nYour corner shop\n"
    return mail_drop.put(work.command_id, cmd.order_id, cmd.customer, f"Your order {cmd.order_id}", text)


@notification.handles(SendReceipt, calls=drop_receipt)
def receipt(cmd: SendReceipt, work: Work, message_id: str) -> MailSent:
    return _note(work, "receipt", cmd.order_id, cmd.customer, message_id)


def drop_apology(cmd: SendApology, work: Work) -> str:
    # A mail cannot be taken back. A receipt that is only now on its way does no harm: it is about what was true then.
    money = f"Your money ({cmd.total}) is on its way back to you." if cmd.charged else "You have not been charged."
    text = (
        f"Dear {cmd.customer.name},\n\nwe are sorry: your order {cmd.order_id} had to be cancelled. {money}\n\nYour corner shop\n"
    )
    return mail_drop.put(work.command_id, cmd.order_id, cmd.customer, f"Your order {cmd.order_id} was cancelled", text)


@notification.handles(SendApology, calls=drop_apology)
def apology(cmd: SendApology, work: Work, message_id: str) -> MailSent:
    return _note(work, "apology", cmd.order_id, cmd.customer, message_id)


def drop_tracking(cmd: SendTracking, work: Work) -> str:
    text = f"Dear {cmd.customer.name},\n\nyour order {cmd.order_id} is on its way: {cmd.tracking}.\n\nYour corner shop\n"
    return mail_drop.put(work.command_id, cmd.order_id, cmd.customer, f"Your order {cmd.order_id} is on its way", text)


@notification.handles(SendTracking, calls=drop_tracking)
def tracking(cmd: SendTracking, work: Work, message_id: str) -> MailSent:
    return _note(work, "tracking", cmd.order_id, cmd.customer, message_id)


def _note(work: Work, kind: str, order_id: str, customer: Customer, message_id: str) -> MailSent:
    work.execute(
        insert(mails).values(
            order_id=order_id,
            kind=kind,
            recipient=customer.email,
            message_id=message_id,
            file=mail_name(work.command_id),
            command_id=work.command_id,
            at=datetime.now(UTC),
        )
    )
    return MailSent(order_id=order_id, message_id=message_id)


SERVICE = Service(notification, TABLES)
