"""What is asked of an API, and where: checked as a whole when the participant is made, so a mistake is found before any money moves.

The one mistake that no check of types finds is about time. A compensation (or a verify) comes because a charge was not answered; the
API is asked, says "there is no such charge", the saga believes it, and then the charge arrives that was only slow. So a call that takes
`nothing` for an answer must say how the charge is held back:

    first=First(…)    a request that closes the subject's key at the API, sent before: void, cancel, delete. The sure way
    late=seconds(40)  nobody can close it, but what was given up on takes effect within 40 s or never: wait that long, then ask.
                      A verify does not stop an execute that another process, which lost its partition, still tries: so `late` is
                      at least as long as its tries
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from saga.engine.messages import Command, Message
from saga.errors import DefinitionError, Misconfigured
from saga.participant.http.answers import NEVER_FINAL, Answer, Outcome
from saga.participant.http.templates import check
from saga.participant.settings import Settings

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
HELD = timedelta(seconds=10)  # a call waits so long by itself for an API that asked for a pause; longer, and the saga tries later
TRIES = Settings().tries  # of a command that is tried by somebody who lost its partition meanwhile
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2
_OURS = {"accept-encoding", "connection", "content-length", "content-type", "host", "traceparent", "transfer-encoding"}
_CREDENTIALS = {401, 407}  # our mistake, whatever the command was
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class Api:
    """Where the API is, and how it is talked to.

    base         its address, with a path if all have one; `${NAME}` is taken from the environment, here and in headers
    headers      sent with each request; what comes from the environment is in no message and no line of a log
    timeout      how long one request may take in all, from the connection to the last byte of the answer
    connections  requests at once
    keys         how long the API remembers an idempotency key: after that a second try might do it twice, so there is none
    key_header   the header that holds it
    reason       JSON Pointer to what an error's body says for people to read; nothing else of a body is ever told or logged
    ca           PEM file of the authority that signed the API's certificate; else those that browsers know
    certificate  PEM file of our own certificate and its key
    plain        http:// though it is not this machine: the way there is private
    """

    base: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: timedelta = timedelta(seconds=10)
    connections: int = 32
    keys: timedelta = timedelta(hours=24)
    key_header: str = "Idempotency-Key"
    reason: str = ""
    ca: str = ""
    certificate: str = ""
    plain: bool = False


@dataclass(frozen=True, slots=True)
class First:
    """A request before the main one. `done`: go on; `nothing`: so there is nothing to compensate, or to find."""

    method: str
    path: str
    answers: Sequence[Answer]
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A command as a request. `body`: a shape as in `templates`; None: the command itself, and none with GET and DELETE."""

    command: type[Command[Any]]
    method: str
    path: str
    answers: Sequence[Answer]
    body: Mapping[str, Any] | None = None
    first: First | None = None
    late: timedelta | None = None

    def within(self, api: Api) -> timedelta:
        """How long all of it may take: each request also waits for its turn, and for an API that asked for a pause."""
        return (2 if self.first else 1) * (HELD + 2 * api.timeout) + (self.late or timedelta()) + timedelta(seconds=1)


class Request(NamedTuple):
    """One request. `asked`: what messages call it: the template, since what is filled in may be private."""

    asked: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None


def check_api(api: Api, where: str) -> None:
    """Raises DefinitionError."""
    if "$" not in api.base:
        try:
            check_base(api.base, api.plain)
        except Misconfigured as mistake:
            raise DefinitionError(str(mistake), where) from None
    for name in (*api.headers, api.key_header):
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise DefinitionError(f"{name!r} is no header that can be set here", where)
    if api.key_header.lower() in {name.lower() for name in api.headers}:
        raise DefinitionError(f"{api.key_header} is the command's id and no other", where)
    if api.timeout <= timedelta() or api.keys <= timedelta() or api.connections < 1:
        raise DefinitionError("timeout=, keys= and connections= must be more than nothing", where)
    if api.reason and not api.reason.startswith("/"):
        raise DefinitionError(f"reason= is a JSON Pointer, as /error/message, not {api.reason!r}", where)


def check_base(base: str, plain: bool) -> None:
    """Raises Misconfigured, without the address: it may have come from the environment, with a password in it."""
    try:
        parts = urlsplit(base)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise Misconfigured("base= is no address") from None
    if parts.scheme not in ("http", "https") or not host or not base.isprintable() or not base.isascii():
        raise Misconfigured("base= is an address as https://api.example.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Misconfigured("base= has a password, a query or a fragment in it; secrets are headers, as ${NAME}")
    if parts.scheme == "http" and host not in _LOOPBACK and not plain:
        raise Misconfigured(f"base= is http:// to {host}: all can read it on the way; https://, or plain=True on a private network")


def check_call(call: Call, api: Api, where: str) -> None:
    """Raises DefinitionError."""
    try:
        _check_request(call.command, call.method, call.path, call.body)
        _check_answers(call.command, call.answers, call.command.__reply__)
        if call.first is not None:
            _check_request(call.command, call.first.method, call.first.path, call.first.body)
            _check_answers(call.command, call.first.answers, None)
        _check_lateness(call, api)
    except ValueError as mistake:
        raise DefinitionError(f"{call.command.__name__}: {mistake}", where) from None


def _check_request(command: type[Message], method: str, path: str, body: Any) -> None:
    fields = command.model_fields
    if method not in METHODS:
        raise ValueError(f"the method is one of {', '.join(METHODS)}, not {method!r}")
    if not path.startswith("/") or "#" in path or not path.isprintable() or not path.isascii() or " " in path:
        raise ValueError(f"the path begins with / and has no space and no #; this is {path!r}")
    check(path, fields)
    if body is not None:
        if method == "GET":
            raise ValueError("a GET has no body")
        check(body, fields)


def _check_answers(command: type[Command[Any]], answers: Sequence[Answer], reply: type[Message] | None) -> None:
    """`reply`: what `done` makes; None for a request before the main one."""
    if not any(each.outcome is Outcome.DONE for each in answers):
        raise ValueError("one of the answers must be done(…)")
    always: set[int] = set()
    for each in answers:
        _check_statuses(each)
        if wrong := always.intersection(each.statuses):
            raise ValueError(f"{each.outcome}({_list(wrong)}) never fits: an answer before it takes all of {_list(wrong)}")
        if not each.where:
            always.update(each.statuses)
        if not all(at.startswith("/") for at in each.where):
            raise ValueError(f"where= has JSON Pointers, as /status, not {_list(each.where)}")
        if each.outcome is Outcome.REFUSED and reply is None:
            raise ValueError("the request before the main one is done(…), nothing(…) or again(…)")
        if each.refusal is not None and each.refusal not in command.__refusals__:
            raise ValueError(f"{each.refusal.__name__} is not one of its refuses=")
        _check_fields(command, each, each.refusal or reply)


def _check_statuses(answer: Answer) -> None:
    if not answer.statuses:
        raise ValueError(f"{answer.outcome}() needs the statuses it is for")
    for status in answer.statuses:
        success, known = 200 <= status < 300, 200 <= status < 300 or 400 <= status < 500
        if not known or status in NEVER_FINAL or status in _CREDENTIALS:
            raise ValueError(f"{status} says nothing of the command, so it cannot be {answer.outcome}")
        if success != (answer.outcome is Outcome.DONE) and answer.outcome is not Outcome.AGAIN and not answer.where:
            raise ValueError(f"{status} as {answer.outcome} needs a where=, which says how it differs from the usual {status}")


def _check_fields(command: type[Command[Any]], answer: Answer, message: type[Message] | None) -> None:
    if message is None or answer.outcome in (Outcome.NOTHING, Outcome.AGAIN):
        if answer.fields:
            raise ValueError(f"{answer.outcome} makes no message here, so it has no fields=")
        return
    if unknown := set(answer.fields) - set(message.model_fields):
        raise ValueError(f"{message.__name__} has no {_list(unknown)}; it has {_list(message.model_fields)}")
    check(answer.fields, command.model_fields)


def _check_lateness(call: Call, api: Api) -> None:
    takes_nothing = any(each.outcome is Outcome.NOTHING for each in call.answers)
    if takes_nothing and call.first is None and call.late is None:
        raise ValueError(
            'an answer says "nothing there"; what is only slow would still come after that. Write how it is held back: first= a request '
            "that closes {subject_id} over there, or late= the time after which what was given up on cannot take effect any more"
        )
    if call.late is not None and (call.first is not None or not takes_nothing):
        raise ValueError("late= is for a call that has nothing(…) among its answers, and no first=")
    if call.late is not None and call.late < TRIES * api.timeout:
        tries = (TRIES * api.timeout).total_seconds()
        raise ValueError(f"late= is {call.late.total_seconds():g} s, but {TRIES} tries of timeout= take {tries:g} s by themselves")


def _list(values: Collection[Any] | Iterable[Any]) -> str:
    return ", ".join(sorted(map(str, values)))
