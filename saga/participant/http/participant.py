"""A participant whose handlers are requests to an API.

One handler is: 1 is the key still known over there? · 2 wait for what is late · 3 the request before · 4 the request · 5 what it means.
All of it runs as the kit's `calls=`: after `begun` is committed, before the transaction, again under the same key after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson

from saga.engine.messages import Command, Event, Message
from saga.engine.state import Action
from saga.errors import DefinitionError, Misconfigured, Unavailable
from saga.participant.http.answers import Answer, Outcome, Said, made, meaning
from saga.participant.http.definition import Api, Call, First, Request, check_api, check_call
from saga.participant.http.file import read_file
from saga.participant.http.templates import Known, fill, idempotency_key, path
from saga.participant.participant import Participant, caller
from saga.participant.store import wall_clock
from saga.participant.work import Expired, Failed, Nothing, Refused, Work

if TYPE_CHECKING:
    from saga.participant.http.session import Session


class HttpParticipant(Participant):
    """Takes commands by asking an HTTP API; runs as any participant does, on a store that holds its inbox and outbox.

    Raises DefinitionError for a definition that does not fit its messages, or that would leave open what an answer means.
    """

    def __init__(self, name: str, api: Api, calls: Sequence[Call], *, where: str = "") -> None:
        """`where`: the file it was read from, for what is said of mistakes."""
        super().__init__(name)
        where = where or caller()
        check_api(api, where)
        self.api = api
        self.calls = tuple(calls)
        self._session: ContextVar[Session | None] = ContextVar(f"session of {name}", default=None)
        for call in calls:
            check_call(call, api, where)
            try:
                self._register(call.command, _reply, self._asking(call), call.within(api))
            except DefinitionError as mistake:
                raise DefinitionError(mistake.what, where) from None

    @classmethod
    def read(cls, file: str | Path, messages: Sequence[type[Message]]) -> Self:
        """The participant that a TOML file describes; `messages`: the classes that it names. Raises DefinitionError."""
        name, api, calls = read_file(Path(file), messages)
        return cls(name, api, calls, where=str(file))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Has a session while a runner runs. Raises Misconfigured if it cannot be had: then no command is taken."""
        try:
            from saga.participant.http.session import Session
        except ImportError as error:
            raise Misconfigured(f"{self.name!r} talks HTTP: pip install 'saga-kafka[http]' ({error})") from None
        async with Session(self.api) as session:
            mine = self._session.set(session)  # a runner's tasks inherit it, and no other runner's do
            try:
                yield
            finally:
                self._session.reset(mine)

    def _asking(self, call: Call) -> Callable[[Command[Any], Work], Coroutine[Any, Any, Event]]:
        async def ask(command: Command[Any], work: Work) -> Event:
            session = self._session.get()
            assert session is not None, "calls run within running()"
            try:
                return await _Asking(call, self.api, session, command, work).run()
            except (Failed, Unavailable, Expired) as error:
                raise type(error)(session.clean(str(error))) from None

        return ask


def _reply(_command: Command[Any], _work: Work, reply: Event) -> Event:
    """The handler: all there is to write down is the reply, and that the kit does."""
    return reply


class _Asking:
    """One command being asked for."""

    def __init__(self, call: Call, api: Api, session: Session, command: Command[Any], work: Work) -> None:
        self._call = call
        self._api = api
        self._session = session
        self._work = work
        self._known: Known = {
            **command.model_dump(mode="json"),
            "command_id": idempotency_key(work.command_id),
            "subject_id": idempotency_key(work.subject_id),
            "key": work.key,
        }

    async def run(self) -> Event:
        call, command = self._call, self._call.command
        self._check_age()
        if call.late is not None and self._work.begun and self._work.action != Action.EXECUTE:
            await asyncio.sleep(call.late.total_seconds())
        if call.first is not None:
            answer, _, said = await self._ask(call.first, "first")
            self._check_nothing(answer, said)
        answer, document, said = await self._ask(call, "")
        self._check_nothing(answer, said)
        if answer.refusal is not None:
            raise Refused(made(answer.refusal, answer, document, self._known, said))
        return made(command.__reply__, answer, document, self._known, said)

    async def _ask(self, request: First | Call, purpose: str) -> tuple[Answer, Any, Said]:
        headers = {"traceparent": self._work.traceparent}
        body = None
        if request.method != "GET":  # a GET with a key may be answered with what was kept of the last one
            headers[self._api.key_header] = idempotency_key(self._work.command_id, purpose)
            body = self._body(request)
        asked = f"{request.method} {request.path}"
        said = await self._session.ask(Request(asked, request.method, path(request.path, self._known), headers, body))
        return *meaning(request.answers, said, self._api.reason), said

    def _body(self, request: First | Call) -> bytes | None:
        if request.body is not None:
            return orjson.dumps(fill(request.body, self._known))
        if request.method == "DELETE" or isinstance(request, First):
            return None
        return orjson.dumps({name: self._known[name] for name in self._call.command.model_fields})

    def _check_nothing(self, answer: Answer, said: Said) -> None:
        """Raises Nothing, or Failed where that cannot be true."""
        if answer.outcome is not Outcome.NOTHING:
            return
        if self._work.action == Action.EXECUTE:
            raise Failed(f"{said.asked} was answered {said.status}: nothing there, which is no answer to an execute")
        if not self._work.begun:
            raise Failed(f"{said.asked} was answered {said.status}: nothing there, but {self._work.subject_id} was done")
        raise Nothing

    def _check_age(self) -> None:
        """Raises Expired if the key was used so long ago that the API may have forgotten it: it would do it a second time."""
        if self._call.method == "GET":
            return
        first = self._work.begun if self._work.action == Action.EXECUTE else self._work.decided
        age = timedelta(milliseconds=wall_clock() - first)
        if first and age > self._api.keys:
            raise Expired(
                f"its key may have been used {age.total_seconds() / 3600:.1f} h ago, and the API remembers keys for "
                f"{self._api.keys.total_seconds() / 3600:g} h: look there whether it was done"
            )
