"""What somebody's own code raised, in one line: what, with the field that pydantic names, and where in whose file."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, model_validator

from saga.app import find_app
from saga.errors import Misconfigured
from saga.ops.words import last_line
from saga.raised import place, raised, raised_at, told


class Booking(BaseModel):
    guest: str
    nights: int
    room: str = ""

    @model_validator(mode="after")
    def known(self) -> Booking:
        if self.room == "13":
            raise ValueError("there is no room 13\nand never was")
        return self


def raising(function: Callable[[], object]) -> str:
    try:
        function()
    except Exception as error:
        return told(error)
    raise AssertionError("it did not raise")


def book(**given: object) -> Booking:
    return Booking.model_validate(given)


def chained() -> None:
    try:
        book()
    except ValueError as error:
        raise KeyError("no such booking") from error


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda: book(nights=1), "ValidationError: Booking.guest: Field required (test_raised.py:0, in book)"),
        (
            lambda: book(nights="secret"),
            "ValidationError: Booking.guest: Field required; Booking.nights: Input should be a valid integer, unable to parse "
            "string as an integer (test_raised.py:0, in book)",
        ),
        (
            lambda: book(guest="a", nights=1, room="13"),
            "ValidationError: Booking: Value error, there is no room 13 (test_raised.py:0, in book)",
        ),
        (chained, "KeyError: 'no such booking' (test_raised.py:0, in chained)"),
        (lambda: int("x"), "ValueError: invalid literal for int() with base 10: 'x' (test_raised.py:0)"),
        (lambda: re.compile("("), "error: missing ), unterminated subpattern at position 0 (test_raised.py:0)"),
    ],
)
def test_what_was_raised_is_told_with_the_field_and_the_line_of_whoever_wrote_it(function: Callable[[], object], what: str) -> None:
    assert re.sub(r"py:\d+", "py:0", raised_at(raising(function))) == what


def test_of_many_fields_the_first_are_told_and_no_value_is() -> None:
    class Wide(BaseModel):
        a: int
        b: int
        c: int

    text = raised(raising(lambda: Wide.model_validate({"a": "private"})))
    assert text.endswith("; Wide.b: Field required, and 1 more")
    assert "private" not in text


def test_what_is_installed_is_somebodys_own_where_nothing_else_is() -> None:
    """In production a saga is a package among others: the one whose function was called."""
    text = """Traceback (most recent call last):
  File "/app/lib/python3.12/site-packages/saga/engine/draft.py", line 121, in call
    return function(*arguments, **options)
  File "/app/lib/python3.12/site-packages/hotel/booking.py", line 7, in begin
    return rates.of(o)
  File "/app/lib/python3.12/site-packages/hotel/rates.py", line 3, in of
    return orjson_like.loads(o)
  File "/app/lib/python3.12/site-packages/orjson_like/__init__.py", line 9, in loads
    raise orjson_like.NotJson("no\\nJSON")
orjson_like.NotJson: no
JSON
"""
    assert raised_at(text) == "NotJson: no (rates.py:3, in of)"
    assert place(text.replace("/app/lib/python3.12/site-packages/hotel", "/srv/hotel")) == ("/srv/hotel/rates.py", 3, "of")


@pytest.mark.parametrize("text", ["", "begin must return a Booking, not dict", "one\ntwo\n"])
def test_what_is_no_traceback_says_its_last_line(text: str) -> None:
    assert raised_at(text) == (text.splitlines() or [""])[-1]


def test_what_was_raised_cannot_move_the_cursor() -> None:
    assert last_line("Traceback (most recent call last):\nKeyError: \x1b[2J") == "KeyError: \\x1b[2J"


BEGIN = """from saga import *
from pydantic import BaseModel
class Asked(Event, type="hotel.asked.v1"): key: str
class Room(BaseModel): key: str
"""


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import nothere", "1: ModuleNotFoundError: No module named 'nothere'"),
        ("x = (1", "1: SyntaxError: '(' was never closed"),
        ("charge = 1\ny = chrge", "2: NameError: name 'chrge' is not defined. Did you mean: 'charge'?"),
        (
            "from saga import Saga\nSaga.stepp",
            "2: AttributeError: type object 'Saga' has no attribute 'stepp'. Did you mean: 'step'?",
        ),
        (
            BEGIN + "Saga('s', version=1, starts_on=Asked, key=lambda a: a.key, data=Room)",
            "5: TypeError: Saga.__init__() missing 1 required keyword-only argument: 'deadline'",
        ),
        (BEGIN + "Room(ky=1)", "5: ValidationError: Room.key: Field required"),
    ],
)
def test_a_mistake_in_the_apps_module_is_one_line_with_its_place(
    source: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "broken_hotel", raising=False)
    (tmp_path / "broken_hotel.py").write_text(source)
    with pytest.raises(Misconfigured) as caught:
        find_app("broken_hotel:app", tmp_path)
    assert str(caught.value) == f"broken_hotel.py:{what}"


def test_a_mistake_in_a_definition_keeps_its_own_words_and_another_module_is_not_to_blame(tmp_path: Path) -> None:
    def typed(source: str, *command: str) -> tuple[int, str]:
        (tmp_path / "hotel.py").write_text(source)
        done = subprocess.run(
            [sys.executable, "-m", "saga.cli", *command, "--app", "hotel:app"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    code, told_ = typed(BEGIN + "class Bad(Event, type='Bad'): ...", "topics", "check")
    assert (code, told_.splitlines()) == (
        2,
        [
            f"saga: {tmp_path}/hotel.py:5: Bad needs a type= like 'payment.taken.v1' (service first, version last, lower case); "
            "it says 'Bad'"
        ],
    )
    assert typed("y = qqrrge", "run") == (2, "saga: hotel.py:1: NameError: name 'qqrrge' is not defined\n")
    code, told_ = typed("application = 7", "topics", "check")
    assert (code, told_) == (
        2,
        f"saga: the app 'hotel:app' cannot be imported from {tmp_path}: module 'hotel' has no attribute 'app'\n",
    )
