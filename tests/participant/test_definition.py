"""A participant's definition: mistakes are errors at import, with file and line, or mypy's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import saga.participant
from saga.errors import DefinitionError
from saga.participant import Participant, Work
from tests.participant.kit import NotePayment, PaymentNoted, PaymentTaken, TakePayment

HEAD = """
from saga.participant import Nothing, Participant, Refused, Work
from tests.participant.kit import FindPayment, NotePayment, PaymentNoted, PaymentTaken, ReturnPayment, TakePayment

payment = Participant("payment")

def charge(cmd: TakePayment, work: Work) -> int: return cmd.amount
async def charge_async(cmd: TakePayment, work: Work) -> int: return cmd.amount
"""
ACCEPTED = """
@payment.handles(NotePayment)
def note(cmd: NotePayment, work: Work) -> PaymentNoted: return PaymentNoted(note=cmd.note)
@payment.handles(FindPayment)
async def find(cmd: FindPayment, work: Work) -> PaymentTaken: return PaymentTaken(payment_id=work.subject_id, amount=0)
@payment.handles(TakePayment, calls=charge)
def take(cmd: TakePayment, work: Work, charged: int) -> PaymentTaken: return PaymentTaken(payment_id="", amount=charged)
@payment.handles(TakePayment, calls=charge_async)
async def take_async(cmd: TakePayment, work: Work, charged: int) -> PaymentTaken: return PaymentTaken(payment_id="", amount=charged)
"""
REJECTED = """
@payment.handles(TakePayment)
def wrong_answer(cmd: TakePayment, work: Work) -> PaymentNoted: return PaymentNoted(note="")
@payment.handles(TakePayment)
async def wrong_answer_async(cmd: TakePayment, work: Work) -> PaymentNoted: return PaymentNoted(note="")
@payment.handles(TakePayment)
def wrong_command(cmd: NotePayment, work: Work) -> PaymentTaken: return PaymentTaken(payment_id="", amount=0)
@payment.handles(TakePayment, calls=charge)
def wrong_result(cmd: TakePayment, work: Work, charged: str) -> PaymentTaken: return PaymentTaken(payment_id=charged, amount=0)
@payment.handles(TakePayment, calls=charge_async)
def coroutine_as_result(cmd: TakePayment, work: Work, charged: str) -> PaymentTaken: return PaymentTaken(payment_id="", amount=0)
@payment.handles(TakePayment, calls=charge)
async def wrong_called(cmd: TakePayment, work: Work, charged: int) -> PaymentNoted: return PaymentNoted(note="")
@payment.handles(TakePayment, calls=charge)
def no_result(cmd: TakePayment, work: Work) -> PaymentTaken: return PaymentTaken(payment_id="", amount=0)
@payment.handles(NotePayment, calls=charge)
def calls_of_another(cmd: NotePayment, work: Work, charged: int) -> PaymentNoted: return PaymentNoted(note="")
@payment.handles(PaymentTaken)
def no_command(cmd: PaymentTaken, work: Work) -> PaymentTaken: return cmd
"""


def test_mypy_accepts_right_handlers_and_rejects_each_wrong_one(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(HEAD + ACCEPTED + REJECTED)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(snippet)]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout
    errors = {int(line) for line in re.findall(r"snippet\.py:(\d+): error", said)}
    lines = snippet.read_text().splitlines()
    rejected = len((HEAD + ACCEPTED).splitlines())
    for number, line in enumerate(lines, 1):
        if line.startswith("@"):
            found = bool(errors & {number, number + 1})
            assert found == (number > rejected), f"mypy on {lines[number].split('(')[0]!r}: {said}"
    assert all(number > rejected for number in errors), said


def test_a_definition_that_cannot_work_names_its_file_and_line() -> None:
    payment, shipping = Participant("payment"), Participant("shipping")

    def note(cmd: NotePayment, _work: Work) -> PaymentNoted:
        return PaymentNoted(note=cmd.note)

    def three(cmd: NotePayment, _work: Work, _more: int) -> PaymentNoted:
        return PaymentNoted(note=cmd.note)

    line = note.__code__.co_firstlineno
    with pytest.raises(DefinitionError, match=rf"test_definition\.py:{line}: NotePayment goes to 'payment'.*'shipping'"):
        shipping.handles(NotePayment)(note)
    payment.handles(NotePayment)(note)
    with pytest.raises(DefinitionError, match=rf"test_definition\.py:{line}: NotePayment has a handler already"):
        payment.handles(NotePayment)(note)
    with pytest.raises(DefinitionError, match="gets 2 arguments, but takes 3"):
        Participant("payment").handles(NotePayment)(three)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"test_definition\.py:\d+: a participant's name"):
        Participant("Payment Service")
    with pytest.raises(DefinitionError, match="payment handles commands; 'PaymentNoted' is none"):
        Participant("payment").handles(PaymentNoted)(note)  # type: ignore[type-var, arg-type, misc]

    def taken(cmd: NotePayment, _work: Work) -> PaymentTaken:
        return PaymentTaken(payment_id=cmd.note, amount=1)

    def anything(cmd: NotePayment, _work: Work) -> Any:
        return PaymentNoted(note=cmd.note)

    Participant("payment").handles(NotePayment)(anything)
    with pytest.raises(DefinitionError, match="is answered by PaymentNoted, but its handler says that it returns PaymentTaken"):
        Participant("payment").handles(NotePayment)(taken)  # type: ignore[arg-type]


def test_a_handler_stays_the_function_it_was() -> None:
    payment = Participant("payment")

    @payment.handles(TakePayment)
    def take(cmd: TakePayment, work: Work) -> PaymentTaken:
        return PaymentTaken(payment_id=work.command_id, amount=cmd.amount)

    work = Work("c", "", "execute", 1, "k", "i", "")
    assert take(TakePayment(order_id="o", amount=3), work) == PaymentTaken(payment_id="c", amount=3)


def test_the_public_names_are_sorted_and_exist() -> None:
    names = saga.participant.__all__
    assert names == sorted(names)
    assert all(hasattr(saga.participant, name) for name in names)
