"""A message on its way: a command to its service or to another saga, or an input to the orchestrator; and what to call it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from saga.engine.actions import SIGNAL
from saga.engine.decision import Input, Kind, Request, Send
from saga.engine.kinds import Wait
from saga.engine.messages import REQUESTS, Message
from saga.engine.state import Action, step_and_action
from saga.ops.operate import SOURCE
from saga.testing.decisions import event_of
from saga.testing.exploration.samples import Samples


@dataclass(frozen=True, slots=True)
class Mail:
    """`step`: whom it is about, with the iteration; `action`: of a command, and of its answer."""

    given: Send | Request | Input
    words: str
    step: str = ""
    action: str = ""
    hit: bool = False  # by a fault; no second one hits it
    slow: bool = False  # it comes after all others
    fault: int = -1  # which of the world's faults holds it back
    offered: frozenset[Hashable] = frozenset()  # where its step stood when it could have come and did not

    def key(self, seen: list[str], coarse: bool) -> Hashable:
        """What matters of it for the future. `seen`: identities of the inputs that the instance remembers."""
        given = self.given
        if isinstance(given, Input):
            about = given.identity in seen
            return (given.id, about, None if coarse else given.attributes.get("sagaattempt"), self.hit, self.slow, self.offered)
        attempt = given.attempt if isinstance(given, Send) and not coarse else 0
        return (id_of(given), attempt, self.hit, self.slow, self.offered)


def id_of(given: Send | Request) -> str:
    """The command id: of a request to a child the one that the child's outcome echoes."""
    return given.command if isinstance(given, Send) else given.attributes.get("sagaparent", given.id)


def command(given: Send | Request, samples: Samples) -> Mail:
    step, action = step_and_action(id_of(given))
    doing = {Action.COMPENSATE: f"compensating {step}", Action.VERIFY: f"the question about {step}"}.get(Action(action), step)
    if isinstance(given, Send):
        what = samples.commands[given.type].__name__ + (f", attempt {given.attempt}" if given.attempt > 1 else "")
    else:
        what = f"the saga {given.attributes['sagachild']}"
    return Mail(given, f"{doing} ({what})", step, action)


def awaited(wait: Wait[object, object], event: Message, saga: str, key: str) -> Mail:  # type: ignore[type-var]
    """What a step waits for: an event, or a person's answer."""
    kind, id = type(event), f"{wait.name}-awaited"
    if not wait.role:
        return Mail(event_of(event, id), f"the event for {wait.name} ({kind.__name__})", wait.name)
    data = event.model_dump(mode="json")
    about = {"saga": saga, "key": key, "who": "somebody", "why": "was asked", "type": kind.__type__, "role": wait.role}
    told = Input(Kind.OPERATOR, SIGNAL, id, SOURCE, f"{REQUESTS}:0:0", data={**about, "step": wait.name, "data": data})
    return Mail(told, f"the answer to {wait.name} ({kind.__name__})", wait.name)
