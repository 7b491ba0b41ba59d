"""Notification: one readable mail for each command, whatever the customer is called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from services.checkout import notification
from tests.services.shop import ADA, PRICE, Desk, desk
from topics.notification import SendApology, SendReceipt, SendTracking

Tell = Callable[[Callable[[Desk], Coroutine[None, None, None]]], None]


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tell:
    monkeypatch.setattr(notification, "mail_drop", notification.MailDrop(tmp_path / "mail"))

    def run(story: Callable[[Desk], Coroutine[None, None, None]]) -> None:
        async def told() -> None:
            async with desk(notification.SERVICE, tmp_path) as at:
                await story(at)

        asyncio.run(told())

    return run


def mail(folder: Path) -> list[EmailMessage]:
    """All mails that are there, read as a mail server reads them."""
    files = sorted((folder / "mail").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert all(file.suffix == ".eml" for file in files), f"something else lies in the mail drop: {files}"
    return [message_from_bytes(file.read_bytes(), policy=SMTP) for file in files]


def receipt(name: str = ADA.name) -> SendReceipt:
    return SendReceipt(order_id="o-1", customer=ADA.model_copy(update={"name": name}), total=PRICE)


def test_a_command_is_one_mail_however_often_it_comes(tell: Tell, tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        first = await at.ask(receipt(), "o-1")
        again = await at.ask(receipt(), "o-1", attempt=2)
        assert first == again
        (sent,) = mail(tmp_path)
        assert sent["Message-ID"] == first.data["message_id"]
        assert sent["To"] == "Ada Example <ada@customer.example>"
        assert "19.90 EUR" in sent.get_content()
        (row,) = await at.rows(notification.mails)
        assert (tmp_path / "mail" / row.file).exists()

    tell(story)


def test_a_mail_that_was_written_before_the_crash_is_not_written_again(tell: Tell, tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        id = at.id("o-1")
        before = notification.mail_drop.put(id, "o-1", ADA, "Your order", "as it was first written")
        answer = await at.ask(receipt(), "o-1")
        assert answer.data["message_id"] == before
        (sent,) = mail(tmp_path)
        assert sent.get_content().strip() == "as it was first written"

    tell(story)


@pytest.mark.parametrize(("charged", "said"), [(True, "on its way back"), (False, "have not been charged")])
def test_the_apology_says_what_becomes_of_the_money(tell: Tell, tmp_path: Path, charged: bool, said: str) -> None:
    async def story(at: Desk) -> None:
        await at.ask(receipt(), "o-1")
        await at.ask(SendApology(order_id="o-1", customer=ADA, total=PRICE, charged=charged), "o-1", action="compensate")
        _, apology = mail(tmp_path)
        assert said in " ".join(apology.get_content().split())

    tell(story)


@pytest.mark.parametrize(
    "name", ["Zoë Müller", "山田 太郎", 'Rob "Bobby" Tables', "Eve\r\nBcc: all@world.example", "back\\slash", "<script>", "a" * 200]
)
def test_no_name_can_break_out_of_its_header(tell: Tell, tmp_path: Path, name: str) -> None:
    async def story(at: Desk) -> None:
        answer = await at.ask(receipt(name), "o-1")
        assert answer.outcome == "done"
        (sent,) = mail(tmp_path)
        (to,) = sent["To"].addresses
        assert to.addr_spec == ADA.email
        assert to.display_name == "".join(c for c in name if c.isprintable())
        assert sent["Bcc"] is None

    tell(story)


def test_the_tracking_number_reaches_the_customer(tell: Tell, tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        await at.ask(SendTracking(order_id="o-1", customer=ADA, tracking="CP123"), "o-1")
        (sent,) = mail(tmp_path)
        assert "CP123" in sent.get_content()

    tell(story)
