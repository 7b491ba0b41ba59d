"""Notification: one readable mail for each outcome, whatever the customer is called, and a mail server that is really there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select

from infra.broker.settings import free_ports
from saga import Store
from saga.cloudevents import CloudEvent, iso_time
from saga.errors import Unreadable
from services.checkout.mail import TABLES, Mailer, by_smtp, mail_name, mails
from services.checkout.saga import Checkout
from tests.services.shop import ADA, BERLIN, PRICE, TEA
from topics.values import Customer

INSTANCE = "checkout:o-1:abc"


def told(what: str = "completed", customer: Customer = ADA, payment_id: str = "p-1", **more: Any) -> CloudEvent:
    """What the coordinator says of order o-1."""
    data = Checkout(
        order_id="o-1",
        customer=customer,
        address=BERLIN,
        lines=(TEA,),
        total=PRICE,
        card="tok_visa",
        payment_id=payment_id,
        tracking="CP123",
    )
    said = {"saga": "checkout", "key": "o-1", "instance": INSTANCE, "version": 1, "data": data.model_dump(mode="json")} | more
    return CloudEvent(f"saga.{what}.v1", f"{INSTANCE}:{what}", "saga", said, iso_time(1_790_000_000_000), "o-1")


class Post:
    """A mailer on real files, and what it left."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder / "mail"
        self.store = Store(f"sqlite:///{folder / 'notification.db'}", tables=TABLES)
        self.mailer = Mailer(self.folder, self.store, by_smtp("127.0.0.1", port) if port else None)

    def mail(self) -> list[EmailMessage]:
        """All mails that are there, read as a mail server reads them."""
        return [message_from_bytes(file.read_bytes(), policy=POLICY) for file in sorted(self.folder.iterdir())]

    def rows(self) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(select(mails)))


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    opened = Post(tmp_path)
    yield opened
    opened.store.close()


def text(message: EmailMessage) -> str:
    return " ".join(message.get_content().split())


def test_an_outcome_is_one_mail_however_often_it_is_told(post: Post) -> None:
    assert post.mailer.handle(told())
    assert not post.mailer.handle(told())
    (sent,) = post.mail()
    (row,) = post.rows()
    assert "is on its way: CP123" in text(sent)
    assert sent["To"] == "Ada Example <ada@customer.example>"
    assert (row.kind, row.file, row.message_id, row.posted) == ("tracking", mail_name(told().id), sent["Message-ID"], "")


def test_a_mail_that_was_written_before_the_crash_is_not_written_again(post: Post) -> None:
    post.mailer.prepare()
    (post.folder / mail_name(told().id)).write_bytes(b"Subject: as it was first written\r\n\r\n")
    assert post.mailer.handle(told())
    (sent,) = post.mail()
    assert sent["Subject"] == "as it was first written"
    assert len(post.rows()) == 1


@pytest.mark.parametrize(("payment_id", "said"), [("p-1", "Your money (19.90 EUR) has been returned."), ("", "Nothing is charged")])
def test_the_apology_says_what_became_of_the_money(post: Post, payment_id: str, said: str) -> None:
    post.mailer.handle(told("compensated", payment_id=payment_id))
    (sent,) = post.mail()
    assert said in text(sent)
    assert post.rows()[0].kind == "apology"


@pytest.mark.parametrize("what", ["started", "parked", "resumed", "rejected"])
def test_only_an_outcome_is_written_about(post: Post, what: str) -> None:
    assert not post.mailer.handle(told(what))
    assert not post.mailer.handle(told(saga="another"))
    assert not post.rows()


@pytest.mark.parametrize("wrong", [{"data": None}, {"data": {"order_id": "o-1"}}, {"instance": None, "data": []}])
def test_what_the_coordinator_did_not_write_is_named(post: Post, wrong: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match=r"saga\.completed\.v1"):
        post.mailer.handle(told(**wrong))
    with pytest.raises(Unreadable, match="time"):
        post.mailer.handle(CloudEvent("saga.completed.v1", "x", "saga", told().data, "yesterday"))
    assert not post.rows()


@pytest.mark.parametrize(
    "name", ["Zoë Müller", "山田 太郎", 'Rob "Bobby" Tables', "Eve\r\nBcc: all@world.example", "back\\slash", "<script>", "a" * 200]
)
def test_no_name_can_break_out_of_its_header(post: Post, name: str) -> None:
    post.mailer.handle(told(customer=ADA.model_copy(update={"name": name})))
    (sent,) = post.mail()
    (to,) = sent["To"].addresses
    assert to.addr_spec == ADA.email
    assert to.display_name == "".join(c for c in name if c.isprintable())
    assert sent["Bcc"] is None


@pytest.mark.parametrize(
    "email", ["a@b.example", "a.b.c@b.example", "%+-_@b-c.d.example", "-@b.-", "1@2.3", "a" * 64 + "@b.example"]
)
def test_every_address_that_an_order_may_have_can_be_written_to(post: Post, email: str) -> None:
    post.mailer.handle(told(customer=ADA.model_copy(update={"email": email})))
    (sent,) = post.mail()
    assert [to.addr_spec for to in sent["To"].addresses] == [email]


def test_what_no_mail_can_be_made_of_is_unreadable_so_that_it_holds_up_nobody(post: Post) -> None:
    event = told()
    with pytest.raises(Unreadable, match="no mail can be made of"):
        post.mailer.handle(CloudEvent(event.type, "x\nBcc: y", "saga", event.data, event.time))
    event.data["data"]["customer"]["email"] = ".a@b.example"
    with pytest.raises(Unreadable, match="email"):
        post.mailer.handle(event)
    assert post.mailer.handle(CloudEvent(event.type, "next", "saga", told().data, event.time))


class Mailbox:
    """A mail server's customer side: keeps what comes in, or refuses with `answer`."""

    def __init__(self) -> None:
        self.answer = ""
        self.received: list[bytes] = []

    async def handle_RCPT(self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]) -> str:
        if self.answer:
            return self.answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        assert envelope.rcpt_tos == [ADA.email]
        self.received.append(envelope.content)
        return "250 OK"


@pytest.fixture
def server() -> Iterator[tuple[Mailbox, Controller]]:
    mailbox = Mailbox()
    loop = asyncio.new_event_loop()  # the controller would ask for one that is not there any more
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_ports(1)[0], loop=loop)
    controller.start()
    yield mailbox, controller
    if controller.server is not None:
        controller.stop()


@pytest.fixture
def posted(tmp_path: Path, server: tuple[Mailbox, Controller]) -> Iterator[Post]:
    opened = Post(tmp_path, server[1].port)
    yield opened
    opened.store.close()


def test_a_mail_server_gets_the_mail_once_as_it_lies_in_the_drop(posted: Post, server: tuple[Mailbox, Controller]) -> None:
    mailbox, _ = server
    assert posted.mailer.handle(told(name="Zoë Müller"))
    assert not posted.mailer.handle(told(name="Zoë Müller"))
    (received,) = mailbox.received
    assert received == (posted.folder / mail_name(told().id)).read_bytes()
    assert posted.rows()[0].posted == "accepted"


def test_a_mail_that_is_refused_for_good_holds_nobody_up_and_one_that_is_not_comes_again(
    posted: Post, server: tuple[Mailbox, Controller]
) -> None:
    mailbox, _ = server
    mailbox.answer = "452 mailbox full"
    with pytest.raises(OSError, match="mailbox full"):
        posted.mailer.handle(told())
    assert not posted.rows()
    mailbox.answer = "550 no such mailbox"
    assert posted.mailer.handle(told())
    assert posted.rows()[0].posted == "refused: 550 no such mailbox"
    assert not mailbox.received


def test_a_mail_server_that_is_away_gets_the_same_bytes_when_it_is_back(posted: Post, server: tuple[Mailbox, Controller]) -> None:
    mailbox, controller = server
    controller.stop()
    with pytest.raises(OSError):
        posted.mailer.handle(told())
    (written,) = posted.folder.iterdir()
    before = written.read_bytes()
    again = Controller(mailbox, hostname="127.0.0.1", port=controller.port, loop=asyncio.new_event_loop())
    again.start()
    try:
        assert posted.mailer.handle(told())
    finally:
        again.stop()
    assert mailbox.received == [before]
