"""The same definition as a TOML file, so that it is configuration. What is not known in it is refused, with its place.

    name = "card"

    [api]
    base = "${CARD_API}"
    headers = { Authorization = "Bearer ${CARD_TOKEN}" }
    timeout = 10                                            # seconds, as all times here
    reason = "/error/message"

    [[call]]
    command = "TakePayment"                                 # the name of its class
    request = "POST /charges"
    body = { amount = "{amount}", reference = "order {order_id}" }
    answers = [
      { status = [200, 201], is = "done", fields = { payment_id = "/charge/id" } },
      { status = 402, is = "PaymentDeclined" },
    ]

`is`: done, nothing, again, or the name of a refusal's class.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saga.engine.messages import Command, Message, Refusal, faults
from saga.errors import DefinitionError
from saga.participant.http.answers import Answer, Outcome
from saga.participant.http.definition import Api, Call, First


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)


class _Api(_Table):
    base: str
    headers: dict[str, str] = {}
    timeout: float = Field(10.0, gt=0)
    connections: int = Field(32, ge=1)
    keys: float = Field(86_400.0, gt=0)
    key_header: str = "Idempotency-Key"
    reason: str = ""
    ca: str = ""
    certificate: str = ""
    plain: bool = False


class _Answer(_Table):
    status: int | list[int]
    is_: str = Field(alias="is")
    where: dict[str, Any] = {}
    fields: dict[str, Any] = {}


class _Request(_Table):
    request: str = Field(pattern=r"^[A-Z]+ /\S*$")
    answers: list[_Answer]
    body: dict[str, Any] | None = None


class _Call(_Request):
    command: str
    first: _Request | None = None
    late: float | None = Field(None, gt=0)


class _File(_Table):
    name: str
    api: _Api
    call: list[_Call]


def read_file(file: Path, messages: Sequence[type[Message]]) -> tuple[str, Api, list[Call]]:
    """Name, API and calls. Raises DefinitionError, with the file and the place in it."""
    try:
        given = _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DefinitionError(f"cannot be read: {error}", str(file)) from None
    except ValidationError as error:
        raise DefinitionError(faults(error), str(file)) from None
    named = {message.__name__: message for message in messages}
    calls = [_call(each, named, str(file)) for each in given.call]
    return given.name, _api(given.api, file.parent), calls


def _api(given: _Api, folder: Path) -> Api:
    """Files are looked for beside this one."""
    known = given.model_dump() | {"timeout": timedelta(seconds=given.timeout), "keys": timedelta(seconds=given.keys)}
    return Api(**known | {name: str(folder / known[name]) for name in ("ca", "certificate") if known[name]})


def _call(given: _Call, named: dict[str, type[Message]], where: str) -> Call:
    command = named.get(given.command)
    if command is None or not issubclass(command, Command):
        raise DefinitionError(f"{given.command!r} is no command in messages=, which has {', '.join(sorted(named))}", where)
    method, path = given.request.split(" ", 1)
    first = None
    if given.first is not None:
        before, at = given.first.request.split(" ", 1)
        first = First(before, at, [_answer(each, named, where) for each in given.first.answers], given.first.body)
    late = None if given.late is None else timedelta(seconds=given.late)
    return Call(command, method, path, [_answer(each, named, where) for each in given.answers], given.body, first, late)


def _answer(given: _Answer, named: dict[str, type[Message]], where: str) -> Answer:
    statuses = tuple(given.status) if isinstance(given.status, list) else (given.status,)
    if given.is_ in (Outcome.DONE, Outcome.NOTHING, Outcome.AGAIN):
        return Answer(Outcome(given.is_), statuses, None, given.where, given.fields)
    refusal = named.get(given.is_)
    if refusal is None or not issubclass(refusal, Refusal):
        raise DefinitionError(f"is = {given.is_!r} is neither done, nothing, again nor a refusal in messages=", where)
    return Answer(Outcome.REFUSED, statuses, refusal, given.where, given.fields)
