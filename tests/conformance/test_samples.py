"""Payloads that are made are ones that their command takes; what cannot be made, or is given wrong, is told."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, field_validator

from saga import Command, Event, Misconfigured
from saga.conformance import Samples, read_samples, subject
from saga.patterns import matching
from tests.conformance.cup import Make, app
from topics.catalogue import MESSAGES

KEY = "participant-check-abc-1"


class Boxed(Event, type="box.boxed.v1"): ...


class Size(BaseModel):
    width: float = Field(gt=0, multiple_of=0.25)
    unit: Literal["mm", "in"]


class Box(Command[Boxed], service="box"):
    box_id: str
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{3,5}$")]
    nick: Annotated[str, Field(max_length=3)]
    long: Annotated[str, Field(min_length=30)]
    sizes: list[Size] = Field(min_length=2)
    at: datetime
    uuid: UUID
    kind: int | None
    said: str = Field(examples=["hello"])
    pair: tuple[int, str]
    few: int = Field(ge=3, le=4)
    negative: int = Field(lt=0)
    left_out: str = "by itself"


class Chain(BaseModel):
    next: Chain


class Endless(Command[Boxed], service="box"):
    chain: Chain


class Odd(Command[Boxed], service="box"):
    number: int

    @field_validator("number")
    @classmethod
    def _odd(cls, number: int) -> int:
        if number < 1000:
            raise ValueError("must be a thousand at least")
        return number


@pytest.mark.parametrize("command", [Box, *(m for m in MESSAGES if issubclass(m, Command))], ids=lambda c: c.__type__)
def test_what_is_made_is_valid(command: type[Command[Event]]) -> None:
    value = Samples().payload(command, KEY, 0)
    command.model_validate(json.loads(json.dumps(value)))


def test_what_is_made_is_as_the_schema_says() -> None:
    made = Samples().payload(Box, KEY, 0)
    assert made["box_id"] == KEY
    assert (made["said"], made["few"], made["negative"]) == ("hello", 3, -1)
    assert "left_out" not in made


def test_what_is_about_a_command_has_its_values() -> None:
    about = {"cup_id": "known", "size": 7}
    assert Samples().payload(app.book.sagas["cups"].steps["make"].compensation_class, KEY, 0, about) == {"cup_id": "known"}  # type: ignore[arg-type]
    assert Samples().payload(Make, KEY, 0, {"size": 0}) == {"cup_id": KEY, "size": 1}, "a value that is not valid was taken"


def test_given_ones_take_turns_and_have_the_key() -> None:
    samples = Samples({"cup.make.v1": [{"cup_id": "{key}", "size": 1}, {"cup_id": "a {key} b", "size": 2}]})
    assert samples.count(Make) == 2
    assert [samples.payload(Make, "k", n)["cup_id"] for n in range(3)] == ["k", "a k b", "k"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (Endless, "no sample can be made for box.endless.v1 from its schema (next is nested without end)"),
        (Odd, "the sample made for box.odd.v1 is not valid: number: Value error, must be a thousand at least; give one"),
    ],
)
def test_what_cannot_be_made_is_told(command: type[Command[Event]], said: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(said)):
        Samples().payload(command, KEY, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no JSON", "cannot be read"),
        ("[]", "must be an object"),
        ('{"cup.make.v1": []}', "has no sample for cup.make.v1"),
        (
            '{"cup.mke.v1": {}}',
            "there are samples for cup.mke.v1, which is not asked of it; what is: cup.break.v1, cup.find.v1, cup.make",
        ),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "samples.json").write_text(text)
    with pytest.raises(Misconfigured, match=re.escape(said)):
        subject(app.book.sagas, "cup", read_samples(tmp_path / "samples.json"))


def test_a_given_one_that_is_not_valid_is_told() -> None:
    with pytest.raises(Misconfigured, match=re.escape("the sample given for cup.make.v1 is not valid: size: ")):
        Samples({"cup.make.v1": [{"cup_id": "x", "size": 0}]}).payload(Make, KEY, 0)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^tok_[a-z0-9_]{1,60}$",
        r"^[A-Z]{3}$",
        r"^(\+|00)[1-9]\d{6,}$",
        r"^[^a-z]+@\w+\.(com|org)$",
        r"(?i)^abc?$",
        r"^[\s\d]{2}.x$",
        r"^[^a]$",
        r"^(?:a|b){2,3}?c*$",
        r"^\D\W\S$",
        r"[^\d]",
        "",
    ],
)
def test_a_text_is_found_for_a_pattern(pattern: str) -> None:
    found = matching(pattern)
    assert found is not None
    assert re.search(pattern, found)


@pytest.mark.parametrize("pattern", [r"^a(?=b)c$", r"(", r"^(a)b\1$\b!"])
def test_one_for_which_none_is_found_is_none(pattern: str) -> None:
    assert matching(pattern) is None
