"""What a handler gets beside its command, and the answers it raises instead of returning one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable

from saga.engine.messages import Event, Refusal
from saga.participant.store import Transaction


class Refused(Exception):
    """The business "no": final, and nothing was done (S12). Raised by a handler or its `calls`.

    `refusal` must be an instance of one of the command's `refuses=` classes; any other is a mistake and answered `failed`.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class Nothing(Exception):
    """Raised by the handler (or the `calls`) of a compensation: there was nothing to undo; of a verify: it never happened.

    The execute command it is about is then closed for ever: should it still come, it is answered `nothing` and not executed. Where it was
    done, do not say so only because a first try of this compensation, whose commit was lost, has undone it: that parks the saga.
    """


class Failed(Exception):
    """Raised with a reason: this attempt failed, and to run the handler again right away would not help. The saga decides what next.

    Any other exception is tried again first.
    """


class Expired(Exception):
    """Raised with a reason: whether the command was executed is no longer known, and to try it again might execute it twice."""


@dataclass(slots=True)
class Work:
    """The command's context. The same for every attempt, except `attempt`.

    command_id   the command's id, never changes: the idempotency key for the outside world
    subject_id   on compensate and verify: the id of the execute command it is about; else ""
    action       "execute", "compensate" or "verify"
    attempt      1, 2, …
    key          the saga's key, for example the order id
    instance     the saga instance, `<saga>:<key>:<run>`
    traceparent  W3C trace context of the command
    decided      when the saga first decided the command, ms since 1970
    begun        in `calls`: since when calls of the subject (on execute: earlier ones of its own) are open, that is, nobody here knows
                 how they ended; ms since 1970, 0 if there are none
    """

    command_id: str
    subject_id: str
    action: str
    attempt: int
    key: str
    instance: str
    traceparent: str
    decided: int = 0
    begun: int = 0
    connection: Connection | None = field(default=None, repr=False)
    transaction: Transaction | None = field(default=None, repr=False)
    emitted: list[tuple[Event, str]] = field(default_factory=list, repr=False)

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run a SQLAlchemy Core statement inside the command's own transaction; for `def` handlers.

        `execute(insert(payments), {"amount": 7})` is the quick way to write a row: with `.values(amount=7)` SQLAlchemy looks through
        the statement for its values each time, which takes about as long as everything the kit itself does for a command.

        Raises RuntimeError outside a transaction: in `calls`, which run before it, and in an `async def` handler.
        """
        if self.connection is None:
            where = "an async handler uses `await work.execute_async(...)`" if self.transaction else "`calls` run before it"
            raise RuntimeError(f"no transaction of this thread's: {where}")
        return self.connection.execute(statement, parameters)

    async def execute_async(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """The same for `async def` handlers; the statement runs in a database thread.

        Await nothing slow in such a handler: the transaction is open meanwhile. Calls to the outside belong into `calls=`.
        """
        if self.transaction is None:
            raise RuntimeError("no transaction here: `calls` run before it, and a `def` handler uses `work.execute(...)`")
        transaction = self.transaction
        return await transaction.call(lambda: transaction.connection.execute(statement, parameters))

    def emit(self, event: Event, *, key: str = "") -> None:
        """Publish a domain event of this service, in the same transaction, before the reply; `key` defaults to the saga's key.

        Raises RuntimeError in `calls`: what they do is not in the transaction.
        """
        if self.connection is None and self.transaction is None:
            raise RuntimeError("events are emitted by the handler, inside the transaction, not by `calls`")
        self.emitted.append((event, key or self.key))
