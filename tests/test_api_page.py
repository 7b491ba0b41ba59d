"""docs/API.md names every option and member of what is public, with the defaults that the code has; no more and no less.

A page that is written by hand says what matters in a line; one that is made from docstrings does not go wrong. So it is written by hand,
and compared with signatures, dataclasses and classes.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import saga
import saga.testing
from saga import App, Command, Event, HttpParticipant, Message, Participant, ParticipantRunner, Reactor, Retry, Saga, Store, Work
from saga.config import Config
from saga.engine import definition, keys, policy
from saga.engine.kinds import Chain, Child, Mapped, Pause, Step, Wait
from saga.engine.nodes import START, UNSET, Options, StepOptions
from saga.participant import Settings
from saga.participate import participate, serve
from saga.testing import Bench, Case, Failure, Given, Report, explore, given
from tests.pages import ROOT

PAGE = ROOT / "docs" / "API.md"
REQUIRED = "required"
SKIPPED = ("self", "cls", "after", "options", "more")  # `after` and what every kind can be told have a table of their own

SIGNATURES: dict[str, Callable[..., Any]] = {
    "Keywords of a class": Message.__init_subclass__,
    "Saga": Saga.__init__,
    "Retry": Retry,
    "Options of each": Saga.each,
    "Options of expect": Saga.expect,
    "Options of ask": Saga.ask,
    "Options of pause": Saga.pause,
    "Options of every": Saga.every,
    "Participant": Participant.__init__,
    "Participant.handles": Participant.handles,
    "Store": Store.__init__,
    "HttpParticipant": HttpParticipant.__init__,
    "Settings of a runner, from saga.participant": Settings,
    "App": App.__init__,
    "Reactor": Reactor,
    "Bench": Bench.__init__,
}
MEMBERS: dict[str, type[Any]] = {
    "Functions of a saga": Saga,
    "Work": Work,
    "Members of Store": Store,
    "Members of Bench": Bench,
    "Members of Case": Case,
    "Members of Given": Given,
    "Members of Report": Report,
}
FUNCTIONS: dict[str, list[Callable[..., Any]]] = {
    "Running them": [serve, participate, ParticipantRunner],
    "given": [given, explore],
}
INSIDE = {Saga: {"runs"}, Store: {"put", "lock", "on_commit"}}  # for the package itself
OUTSIDE = {Bench: {"sagas"}}  # attributes that are told
KINDS = {"step": Step, "each": Mapped, "expect": Wait, "ask": Wait, "pause": Pause, "child": Child, "starts": Chain}


def tables() -> Iterator[tuple[str, list[list[str]]]]:
    """The tables of the page by the heading they stand under; cells without backticks around the first two."""
    for part in re.split(r"^##+ ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        rows = [re.split(r" \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
        yield title.replace("`", ""), rows


TABLES = dict(tables())


def shown(value: Any) -> str:
    """A default as the page says it."""
    if value is inspect.Parameter.empty:
        return REQUIRED
    if isinstance(value, timedelta):
        for unit, name in (("days", "day"), ("minutes", "min"), ("seconds", "s"), ("milliseconds", "ms")):
            number = value / timedelta(**{unit: 1})
            if number == int(number) and number:
                return f"{number:g} {name}{'s' * (name == 'day' and number != 1)}"
    if value is UNSET:
        return "must be said"
    if value == Retry():
        return "`Retry()`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if callable(value):
        return "the clock"
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else f"`{value!r}`"


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.name not in SKIPPED]


def called(name: str, function: Callable[..., Any], skipped: tuple[str, ...] = ("self", "options")) -> str:
    """A call as the page writes it: names and defaults, no types."""
    said = []
    for p in inspect.signature(function).parameters.values():
        if p.name in skipped:
            continue
        star = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        default = "" if p.default is p.empty else f"={shown(p.default).strip('`')}"
        said.append(f"{star}{p.name}{default}")
    return f"{name}({', '.join(said)})"


@pytest.mark.parametrize("section", SIGNATURES)
def test_each_option_is_told_with_its_default(section: str) -> None:
    wanted = [(f"`{p.name}`", shown(p.default)) for p in parameters(SIGNATURES[section])]
    assert [(row[0], row[1]) for row in TABLES[section]] == wanted


def test_a_child_and_a_chain_take_the_same() -> None:
    (row,) = TABLES["Options of child and starts"]
    for function in (Saga.child, Saga.starts):
        assert [(f"`{p.name}`", shown(p.default)) for p in parameters(function)] == [(row[0], row[1])]


@pytest.mark.parametrize("section", MEMBERS)
def test_each_member_is_told_as_it_is_called(section: str) -> None:
    kind = MEMBERS[section]
    fields = {f.name for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    names = {name for name in vars(kind) if not name.startswith("_")} - INSIDE.get(kind, set()) | fields | OUTSIDE.get(kind, set())
    wanted = set()
    for name in names:
        member = inspect.getattr_static(kind, name, None)
        wanted.add(called(name, member) if inspect.isfunction(member) else name)
    assert {row[0].strip("`") for row in TABLES[section]} == wanted
    assert len(TABLES[section]) == len(wanted)


@pytest.mark.parametrize("section", FUNCTIONS)
def test_each_function_is_told_as_it_is_called(section: str) -> None:
    assert [row[0].strip("`") for row in TABLES[section]] == [called(f.__name__, f) for f in FUNCTIONS[section]]


class Began(Event, type="api.began.v1"):
    pass


class Do(Command[Began], service="api"):
    pass


class Data(BaseModel):
    pass


def test_what_a_step_can_be_told() -> None:
    example = Saga("example", version=1, starts_on=Began, key=str, data=Data, deadline=timedelta(1))

    @example.step(after=START)
    def step(_data: Data) -> Do:
        return Do()

    options = ["after", *Options.__optional_keys__, *StepOptions.__optional_keys__]
    wanted = {name: REQUIRED if name == "after" else shown(getattr(step, name)) for name in options}
    assert {row[0].strip("`"): row[1] for row in TABLES["Options of steps"]} == wanted


def test_which_kind_of_step_takes_what() -> None:
    assert [row[0].strip("`") for row in TABLES["Steps"]] == list(KINDS)
    for (_, options, *decorators), kind in zip(TABLES["Steps"], KINDS.values(), strict=True):
        allowed = set(kind.allowed.__optional_keys__)  # type: ignore[attr-defined]
        if kind is Child:
            allowed -= {"timeout", "retry", "unknown"}  # which it refuses itself
        assert set(re.findall(r"`(\w+)`", options)) == {"after", *allowed}
        there = {"done", "compensate", "verify", "late"} & set(dir(kind))
        assert set(re.findall(r"`(\w+)\(", " ".join(decorators))) == there


def test_each_setting_is_told_with_its_default() -> None:
    wanted = {}
    for field in dataclasses.fields(Config):
        value = getattr(Config(), field.name)
        text = str(int(value)) if isinstance(value, int | float) else str(value)  # as it is written in an environment
        if field.name != "remarks":
            wanted[f"`SAGA_{field.name.upper()}`"] = f"`{text}`" if text else shown("")
    assert {row[0]: row[1] for row in TABLES["Settings"]} == wanted


def test_each_limit_is_the_one_that_holds() -> None:
    there = {name: value for m in (definition, keys, policy) for name, value in vars(m).items() if name.startswith("MAX_")}
    said = {row[0].strip("`"): int(row[1].split()[0].replace(",", "")) for row in TABLES["Limits"]}
    assert said == there


@pytest.mark.parametrize("module", [saga, saga.testing])
def test_each_public_name_is_on_the_page(module: Any) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in module.__all__ if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", text)] == []


def test_a_failures_fields_are_told() -> None:
    (row,) = [row for row in TABLES["Members of Report"] if row[0] == "`failures`"]
    assert re.findall(r"`(\w+)`", row[1]) == ["Failure", *(field.name for field in dataclasses.fields(Failure))]


def test_no_table_is_left_out() -> None:
    known = {*SIGNATURES, *MEMBERS, *FUNCTIONS, "Options of child and starts", "Options of steps", "Steps", "Settings", "Limits"}
    known |= {"Participants"}  # what a handler raises
    assert {title for title, rows in TABLES.items() if rows} == known
    assert Path(PAGE).stat().st_size < 40_000, "this is a page to look things up in"
