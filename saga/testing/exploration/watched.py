"""A definition as it is explored: the user's own, with an eye on its functions.

Problem: what a function returns goes through JSON before anybody uses it, and what JSON does not keep is gone without a word: a private
attribute, an excluded field, a secret. The engine reads everything back on the way, so no run ever shows the loss.
Way taken: a copy of the definition whose functions are wrapped. What one makes is read back as the journal will, and compared.

The wrapper also remembers: asked again with the same data, a function is not called again. So code that draws an id or looks at a clock
is the same in every run, as it is for one instance, and two runs differ only where their data do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel

from saga.engine.definition import Saga
from saga.engine.kinds import Mapped
from saga.engine.nodes import AnyStep

_FUNCTIONS = ("command", "finder", "receive", "compensation", "when", "until")


class Lost(NamedTuple):
    """What a function made, and what of it does not come back from the journal."""

    step: str
    function: str
    fields: str


class Watch:
    """The copy is `saga`. `lost`: what did not survive since somebody last looked."""

    def __init__(self, saga: Saga[Any, Any]) -> None:
        self.lost: list[Lost] = []
        self._known: dict[tuple[Any, ...], Any] = {}
        self.saga = copy.copy(saga)
        self.saga.begin = self._watched("", saga.begin)
        if saga.again is not None:
            self.saga.again = self._one_run(saga.again)
        self.saga.steps = {name: self._step(step) for name, step in saga.steps.items()}
        self.saga._graph = None

    def _step(self, step: AnyStep[Any]) -> AnyStep[Any]:
        mine = copy.copy(step)
        for name in _FUNCTIONS:
            if callable(function := getattr(step, name, None)):
                setattr(mine, name, self._watched(step.name, function))
        if isinstance(step, Mapped) and isinstance(mine, Mapped):
            mine.items = self._watched(step.name, step.items)
        return mine

    def _one_run(self, again: Callable[..., Any]) -> Callable[..., Any]:
        """One run is explored: whether it begins anew is asked, and what follows is another run."""
        watched = self._watched("", again)

        def renew(*arguments: Any) -> None:
            watched(*arguments)

        return renew

    def _watched(self, step: str, function: Callable[..., Any] | None) -> Any:
        if function is None:
            return None
        name = getattr(function, "__name__", repr(function))

        def call(*arguments: Any) -> Any:
            key = (step, function, *map(_written, arguments))
            if key not in self._known:
                made = function(*arguments)
                for each in made if isinstance(made, list | tuple) else [made]:
                    self._compare(step, name, each)
                self._known[key] = made
            return self._known[key]

        return call

    def _compare(self, step: str, name: str, made: Any) -> None:
        if not isinstance(made, BaseModel):
            return  # the engine says so, and better
        try:
            again = type(made).model_validate(orjson.loads(orjson.dumps(made.model_dump(mode="json"))))
        except Exception:
            return  # the engine meets the same, and parks
        if again != made:
            self.lost.append(Lost(step, name, _difference(made, again)))


def _written(argument: Any) -> Any:
    return argument.model_dump_json() if isinstance(argument, BaseModel) else repr(argument)


def _difference(made: BaseModel, again: BaseModel) -> str:
    fields = [
        f"{name} was {getattr(made, name)!r:.80} and comes back as {getattr(again, name)!r:.80}"
        for name in type(made).model_fields
        if getattr(made, name) != getattr(again, name)
    ]
    private = made.__pydantic_private__ or {}
    fields += [f"{name} is private and does not come back" for name in private if private.get(name) != getattr(again, name, None)]
    return "; ".join(fields) or f"{made!r:.120} comes back as {again!r:.120}"
