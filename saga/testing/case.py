"""One instance on the bench: what became of it, and what it would say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from saga.engine.actions import CANCEL, COMPENSATE, EDIT, RESUME, RETRY, SIGNAL, SKIP
from saga.engine.messages import Command, Event, Message
from saga.engine.state import ENDED, Instance
from saga.ops.lines import page
from saga.ops.look import History
from saga.ops.story import story
from saga.ops.why import label, why

if TYPE_CHECKING:
    from saga.testing.bench import Bench

R = TypeVar("R", bound=Event)
C = TypeVar("C", bound=Command[Any])


class Case:
    """A saga's instance, found by its key. Everything it says is read from the journal when it is asked."""

    def __init__(self, bench: Bench, saga: str, key: str) -> None:
        self._bench = bench
        self.saga = saga
        self.key = key

    @property
    def outcome(self) -> str | None:
        """ "completed" or "compensated"; None as long as it has none."""
        return str(self._now.phase) if self._now.phase in ENDED else None

    @property
    def state(self) -> str:
        """In a word: running, compensating, parked, completed or compensated; early before it has started."""
        return label(self._now)

    @property
    def parked(self) -> str | None:
        """The reason in a word ("user-code", "unknown", …) if it waits for an operator."""
        return self._now.parked.reason if self._now.parked is not None and self._now.live else None

    @property
    def data(self) -> Any:
        """The saga's own data, as the class that its definition names."""
        return self._bench.sagas[self.saga].data.model_validate(self._now.data)

    @property
    def steps(self) -> dict[str, str]:
        """Where each step stands that was begun: executing, done, refused, unknown, verifying, compensating, compensated."""
        return {name: str(step.status) for name, step in self._now.steps.items()}

    def commands(self, command: type[C]) -> list[C]:
        """The commands of this class that it sent, in order, each once however often it was attempted."""
        return self._bench.commands(command, of=self)

    def why(self) -> str:
        """What it waits for, since when, and what happens next: the sentence of `saga why`."""
        history = self._history
        assert history.state is not None
        return why(history.state, self._bench.now, self._bench.sagas.get(self.saga), history.sent())

    def story(self) -> str:
        """Every decision, in order: the text of `saga show`."""
        lines = story(self._history, self._bench.now, self._bench.sagas.get(self.saga))
        return "\n".join(f"{margin}{text}".rstrip() for _, margin, text in page(lines))

    def expect(self, state: str) -> None:
        """Fail, with the story, unless it is in this state. Inside `with Bench(...)` a plain `assert` tells the story too."""
        if self.state != state:
            raise AssertionError(f"{self.saga} {self.key} is {self.state}, not {state}\n\n{self.story()}")

    def reply(self, to: type[Command[R]], message: R) -> None:
        """A reply to the last command of this class comes now, whatever was answered before: a late one."""
        self._bench.reply(self, to, message)

    # What operators do, each like the command of that name; raises AssertionError, with the reason, if it is refused.

    def retry(self, why: str = "a test") -> None:
        self._bench.operate(self, RETRY, why)

    def resume(self, why: str = "a test") -> None:
        self._bench.operate(self, RESUME, why)

    def cancel(self, why: str = "a test") -> None:
        self._bench.operate(self, CANCEL, why)

    def compensate(self, why: str = "a test") -> None:
        self._bench.operate(self, COMPENSATE, why)

    def skip(self, step: str, result: BaseModel | None = None, why: str = "a test") -> None:
        """With the result that the step would have had; None: it never happened (of a compensation: it is done)."""
        given = {"nothing": True} if result is None else {"result": result.model_dump(mode="json")}
        self._bench.operate(self, SKIP, why, step=step, **given)

    def edit(self, data: BaseModel, why: str = "a test") -> None:
        self._bench.operate(self, EDIT, why, data=data.model_dump(mode="json"))

    def signal(self, event: Message, *, step: str = "", role: str = "", why: str = "a test") -> None:
        """An event that a step waits for; with `role`, the answer to a question."""
        self._bench.operate(self, SIGNAL, why, type=event.__type__, data=event.model_dump(mode="json"), step=step, role=role)

    def answer(self, step: str, event: Message, role: str, why: str = "a test") -> None:
        self.signal(event, step=step, role=role, why=why)

    @property
    def id(self) -> str:
        """<saga>:<key>:<run>"""
        return self._now.id

    @property
    def _history(self) -> History:
        return self._bench.history(self.saga, self.key)

    @property
    def _now(self) -> Instance:
        state = self._history.state
        assert state is not None
        return state

    def __repr__(self) -> str:
        return f"<{self.saga} {self.key}: {self.state}>"


def stories(cases: Iterable[Case], most: int) -> str:
    """The stories of the first few, for a test that failed."""
    told = [case.story() for case in cases]
    more = [f"… and {len(told) - most} more"] if len(told) > most else []
    return "\n\n".join([*told[:most], *more])
