"""What an answer of the API means: the one place that turns HTTP into an outcome.

    the first written answer that fits      done, refused, nothing, or again
    otherwise
    2xx, except 202                         failed: it did something, and what, nobody here can read
    202, 408, 409, 425, 429, 5xx            unavailable: tried again, under the same key
    3xx                                     failed: redirects are not followed, a payment goes where it was sent
    any other 4xx                           failed: asking again the same way will not help

An answer fits if it has the status, a body that is JSON (or none), and what `where=` says. An HTML page fits nothing, whatever its
status: a 404 of a proxy must not become "there is no such payment". 409 is what a gateway says while the first request of a key is still
at work, and 422 that a key came with another body (both from the IETF's draft of Idempotency-Key): the first passes, the second not.

`done` makes the reply: fields of the same names, then those of `fields=`. It is checked strictly, as JSON: "7" and true are no numbers,
and 7.0 is no integer. What does not fit is not sent as a fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from saga.cloudevents import parse_json
from saga.engine.messages import Message, Refusal, faults
from saga.errors import Unavailable, Unreadable
from saga.participant.http.templates import MISSING, Known, fill, look
from saga.participant.work import Failed

PASSING = frozenset({202, 408, 409, 425, 429, *range(500, 600)})  # 202 and 409 may be given a meaning, the others not
NEVER_FINAL = PASSING - {202, 409}
MAX_REASON = 200  # characters of what the API says of an error

M = TypeVar("M", bound=Message)


class Outcome(StrEnum):
    DONE = "done"
    REFUSED = "refused"
    NOTHING = "nothing"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the API, and what it means; made by `done`, `refused`, `nothing` and `again`."""

    outcome: Outcome
    statuses: tuple[int, ...]
    refusal: type[Refusal] | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, status: int, document: Any) -> bool:
        return status in self.statuses and all(_is_one_of(look(document, at), value) for at, value in self.where.items())


def done(*statuses: int, where: Mapping[str, Any] | None = None, fields: Mapping[str, Any] | None = None) -> Answer:
    """It is done; the reply is made of the answer. `where`: JSON Pointer → the value, or a list of those it may have."""
    return Answer(Outcome.DONE, statuses, None, where or {}, fields or {})


def refused(
    refusal: type[Refusal], *statuses: int, where: Mapping[str, Any] | None = None, fields: Mapping[str, Any] | None = None
) -> Answer:
    """The business "no": final, and the API did nothing."""
    return Answer(Outcome.REFUSED, statuses, refusal, where or {}, fields or {})


def nothing(*statuses: int, where: Mapping[str, Any] | None = None) -> Answer:
    """To a compensation: there was nothing to undo. To a verify: it never happened."""
    return Answer(Outcome.NOTHING, statuses, None, where or {})


def again(*statuses: int, where: Mapping[str, Any] | None = None) -> Answer:
    """Not decided yet; ask again later."""
    return Answer(Outcome.AGAIN, statuses, None, where or {})


@dataclass(frozen=True, slots=True)
class Said:
    """What came back. `problem`: why the body cannot be used, if so."""

    asked: str
    status: int
    body: bytes = b""
    problem: str = ""

    def document(self) -> Any:
        """The body as JSON; None if there is none. Raises Unreadable."""
        if self.problem:
            raise Unreadable("body", self.problem)
        return parse_json(self.body) if self.body.strip() else None


def meaning(answers: Sequence[Answer], said: Said, reason: str = "") -> tuple[Answer, Any]:
    """The written answer that fits, and the body as JSON. `reason`: pointer to what the API says of an error.

    Raises Unavailable for what passes by itself, Failed for what does not.
    """
    what = f"{said.asked} was answered {said.status}"
    try:
        document = said.document()
        unusable = ""
    except Unreadable as error:
        document, unusable = None, f", and its body cannot be used: {error.detail}"[:MAX_REASON]
    else:
        fitting = next((each for each in answers if each.fits(said.status, document)), None)
        if fitting is not None and fitting.outcome is Outcome.AGAIN:
            raise Unavailable(f"{what}: not decided yet")
        if fitting is not None:
            return fitting, document
    what += _told(document, reason) + unusable
    if said.status in PASSING:
        raise Unavailable(what)
    if said.status < 300:
        raise Failed(f"{what}, which none of the answers written for it fits: whether it was done must be found out over there")
    if said.status < 400:
        raise Failed(f"{what}; redirects are not followed: write the address it leads to")
    raise Failed(what)


def made(message: type[M], answer: Answer, document: Any, known: Known, said: Said) -> M:
    """The message an answer makes. Raises Failed if it does not fit: that is no fact."""
    same = {name: document[name] for name in message.model_fields if name in document} if isinstance(document, dict) else {}
    value = {**same, **fill(answer.fields, known, document)}
    try:
        return message.model_validate_json(orjson.dumps(value), strict=True)
    except ValidationError as error:
        what = f"{said.asked} was answered {said.status}, but no {message.__name__} can be made of it: {faults(error)}"
        raise Failed(what) from None


def _is_one_of(value: Any, wanted: Any) -> bool:
    """Equality as JSON has it: true is not 1."""
    choices = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    return value is not MISSING and any(type(value) is type(each) and value == each for each in choices)


def _told(document: Any, reason: str) -> str:
    """What the API says of an error, where the definition names the place: nothing else of a body is ever told."""
    value = look(document, reason) if reason else MISSING
    if not isinstance(value, (str, int)):
        return ""
    return f" ({''.join(each if each.isprintable() else ' ' for each in str(value)[:MAX_REASON])})"
