"""The mailroom: puts a report into the mail drop, once."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from sqlalchemy import Column, MetaData, String, Table, insert

from saga import Participant, Work
from services.nightly.press import files_of, reports
from services.stage.example import data_folder
from services.stage.files import write_whole
from topics.nightly import DeliverReport, ReportDelivered

TABLES = MetaData()

deliveries = Table(
    "deliveries", TABLES, Column("night", String(200), primary_key=True), Column("mail", String(200), nullable=False)
)

mailroom = Participant("mailroom")


def mail_drop() -> Path:
    return data_folder() / "mail"


def drop(cmd: DeliverReport, _: Work) -> str:
    """The file is named for the night, so a second call writes the same mail to the same place."""
    final = mail_drop() / files_of(cmd.night)[0].with_suffix(".eml").name
    write_whole(final, lambda draft: draft.write_bytes(_mail(cmd).as_bytes()))
    return final.name


@mailroom.handles(DeliverReport, calls=drop)
def deliver(cmd: DeliverReport, work: Work, mail: str) -> ReportDelivered:
    work.execute(insert(deliveries), {"night": cmd.night, "mail": mail})
    return ReportDelivered(night=cmd.night, mail=mail)


def _mail(cmd: DeliverReport) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"] = "reports@shop.example", "owner@shop.example"
    message["Subject"] = f"The day until {cmd.night}"
    message["X-Night"] = cmd.night
    message.set_content("The report is in HTML; the numbers are attached as CSV.")
    message.add_alternative((reports() / cmd.html).read_text(encoding="utf-8"), subtype="html")
    pages = message.get_payload()[1]  # type: ignore[index]
    pages.add_related((reports() / cmd.plot).read_bytes(), "image", "png", cid="<plot>")  # type: ignore[union-attr]
    message.add_attachment((reports() / cmd.csv).read_bytes(), "text", "csv", filename="numbers.csv")
    return message
