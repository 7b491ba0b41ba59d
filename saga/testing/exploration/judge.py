"""What must hold in every world: the promises of a saga, and what its author most often forgets.

It looks at what left and what took effect, not at what the engine thinks of a step. A broken rule ends the run with a Problem: what is
wrong, at which step, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from saga.engine.decision import Announce, DeadLetter, Send
from saga.engine.definition import Saga, Step
from saga.engine.messages import Command
from saga.engine.state import Action, Parked, step_and_action
from saga.ops.look import Moment
from saga.ops.why import parked_because
from saga.ops.words import changes
from saga.testing.exploration.watched import Watch

if TYPE_CHECKING:
    from saga.testing.exploration.world import World

MAX_DECISIONS = 1000  # of one run: with two faults, even the longest retries come to an end far below
MAX_RETRIES = 5  # by an operator: each fault can park once, and each retry heals what was broken

ENDS = {"saga.completed.v1": "completed", "saga.compensated.v1": "compensated"}


class Problem(NamedTuple):
    """`kind` and `step` say whether two runs show the same one."""

    kind: str
    step: str
    what: str
    advice: str = ""


class Broken(Exception):
    """A run in which something is wrong; it is not continued."""

    def __init__(self, problem: Problem, world: World | None = None) -> None:
        super().__init__(problem.what)
        self.problem = problem
        self.world = world  # in which it shows best; if none is given, the one that is broken, which whoever catches this fills in


class Judge:
    """`no_effect`: commands that leave nothing to undo. `varying`: commands that may say something else from run to run."""

    def __init__(self, watch: Watch, no_effect: Collection[type[Command[Any]]], varying: Collection[type[Command[Any]]]) -> None:
        self.saga: Saga[Any, Any] = watch.saga
        self.graph = watch.saga.graph
        self.no_effect = frozenset(no_effect)
        self.varying = frozenset(command.__type__ for command in varying)
        self.watch = watch
        self._said: dict[tuple[str, str], tuple[Any, World]] = {}  # what a command first said, and where, by step and action
        self._after = {name: _descendants(self.graph.next, name) for name in self.graph.steps}

    # --- what was decided ---------------------------------------------------------------------------------------------------------------

    def decided(self, world: World, moment: Moment) -> None:
        decision = moment.decision
        if self.watch.lost:
            step, function, fields = self.watch.lost.pop()
            self.watch.lost.clear()
            what = f"what {function} makes does not survive the journal: {fields}"
            _broken("lost data", step, what, "Put it into a field that JSON keeps, or give the field a serializer and a validator.")
        for output in decision.outputs:
            if isinstance(output, DeadLetter):
                _broken("dead letter", "", f"an input was set aside as a dead letter: {output.detail}")
            elif isinstance(output, Announce) and not decision.ignored and (outcome := ENDS.get(output.type)):
                if world.outcome:
                    _broken("two outcomes", "", f"it has two outcomes, {world.outcome} and {outcome}")
                world.outcome = outcome
        if moment.after is None:
            _broken("not started", "", "the event that starts it started nothing")
        if decision.patch.get("parked"):
            self._parked(moment, Parked(**decision.patch["parked"]))
        if moment.after is not None and moment.after.seq > MAX_DECISIONS:
            _broken("endless", "", f"it has not come to an end after {MAX_DECISIONS} decisions")

    def _parked(self, moment: Moment, parked: Parked) -> None:
        """Parked only where a rule says so: nobody answered, or somebody refused, where there is neither forward nor back."""
        step = self.saga.steps.get(parked.step)
        state = moment.after.steps.get(parked.step) if moment.after is not None else None
        if parked.reason in ("user-code", "too-large"):
            where = f"at {parked.step}" if parked.step else "at the start"
            what = f"the saga's own code raises {where}: {_last_lines(parked.detail)}"
            _broken("code raises", parked.step, what, "In production the instance parks, and waits for a new version of the code.")
        nobody_knows = parked.reason == "unknown" and step is not None and step.when_unknown() == "park"
        said_nothing = state is not None and state.answer == "nothing"
        if nobody_knows or (parked.reason in ("unverified", "compensation", "refused") and not said_nothing):
            return
        _broken("parked", parked.step, f"it parks although no rule says so: {parked_because(parked)}")

    # --- what leaves ------------------------------------------------------------------------------------------------------------------

    def sent(self, world: World, send: Send) -> None:
        step, action = step_and_action(send.command)
        if world.outcome:
            _broken("after the end", step, f"{send.type} is sent after the saga has ended")
        last = world.ids.get((step, action))
        if last is not None and last[0] != send.command and not world.retries:
            _broken("other id", step, f"the id of a command changes between attempts: {last[0]}, then {send.command}")
        if last is not None and last[0] == send.command and last[1] + 1 != send.attempt:
            _broken("other id", step, f"attempt {send.attempt} of {send.command} follows attempt {last[1]}")
        world.ids = {**world.ids, (step, action): (send.command, send.attempt)}
        if action != Action.EXECUTE:
            self._asks_who_did(step, action)
        self._says(world, step, action, send)

    def _asks_who_did(self, step: str, action: str) -> None:
        definition = self.saga.steps[step]
        do, then = definition.command_class, definition.command_for(Action(action))
        assert then is not None, f"{step} has nothing to {action} with"
        if then.__service__ != do.__service__:
            what = f"{then.__name__} goes to {then.__service__}, but {do.__name__} to {do.__service__}"
            advice = (
                f"Only {do.__service__} knows whether {step} happened, and that it must not happen any more: ask {do.__service__}."
            )
            _broken("other service", f"{step}:{action}", what, advice)

    def _says(self, world: World, step: str, action: str, send: Send) -> None:
        """What a command says may not depend on the run."""
        other, where = self._said.setdefault((step, action), (send.data, world))
        if other == send.data or send.type in self.varying:
            return
        command = self.saga.steps[step].command_for(Action(action))
        name = command.__name__ if command is not None else send.type
        less, more, world = (send.data, other, world) if _blanks(send.data) >= _blanks(other) else (other, send.data, where)
        what = f"what {name} says depends on what else has happened by then: {', '.join(changes(more, less))}"
        known = "the data" if action == Action.EXECUTE else "the data or the command as it was sent"
        advice = f"Take it from what is always there ({known} before {step}); or, if it is meant so: varying=[{name}]."
        raise Broken(Problem("varies", f"{step}:{action}", what, advice), world)

    # --- what takes effect ----------------------------------------------------------------------------------------------------------------

    def does(self, world: World, send: Send) -> None:
        """A step is about to take effect."""
        step = step_and_action(send.command)[0]
        if send.command in world.undone:
            _broken("after its undo", step, f"{step} takes effect after its compensation was accepted")
        for other in self.graph.before[step]:
            if not world.effect(other) and not world.undone:
                _broken("too early", step, f"{step} takes effect before {other} does, which comes before it")
        if step == self.graph.pivot and world.undone:
            _broken("pivot", step, f"the pivot {step} takes effect although the saga is already being compensated")

    def undoes(self, world: World, send: Send) -> None:
        """A step is about to be undone."""
        step = step_and_action(send.command)[0]
        if self.graph.pivot is not None and world.effect(self.graph.pivot):
            _broken("pivot", step, f"{step} is undone although the pivot {self.graph.pivot} took effect")
        for other in self._after[step]:
            if world.effect(other) and self.saga.steps[other].compensation_class is not None:
                _broken("order", step, f"{step} is undone before {other}, which came after it")

    # --- the end ------------------------------------------------------------------------------------------------------------------------

    def ended(self, world: World) -> None:
        """Nothing will happen any more."""
        if world.state is None or world.state.live:
            _broken("stuck", "", f"it has no outcome, whatever an operator does ({world.retries} retries)")
        for name, step in self.saga.steps.items():
            net = world.effect(name)
            if world.outcome == "completed" and net != 1:
                _broken("effects", name, f"it completed, and {name} took effect {net} times")
            if world.outcome == "compensated" and net:
                self._left_behind(name, step)

    def _left_behind(self, name: str, step: Step[Any, Any]) -> None:
        command = step.command_class.__name__
        if step.command_class in self.no_effect:
            return
        if step.compensation_class is not None:
            _broken(
                "not undone",
                name,
                f"an effect is left behind: {name} ({command}) took effect, and its compensation did not undo it",
            )
        what = f"an effect is left behind: {name} ({command}) took effect, the saga was compensated, and nothing undid it"
        advice = f"Write @{name}.compensate. If {command} leaves nothing that must be undone, say so: no_effect=[{command}]."
        _broken("left behind", name, what, advice)


def _broken(kind: str, step: str, what: str, advice: str = "") -> NoReturn:
    raise Broken(Problem(kind, step, what, advice))


def _blanks(data: Any) -> int:
    """How many values of a command say nothing."""
    if isinstance(data, dict):
        return sum(_blanks(value) for value in data.values())
    return data in ("", None, 0, [], {})


def _last_lines(detail: str) -> str:
    lines = [line.strip() for line in detail.strip().splitlines() if line.strip()]
    place = next((line for line in reversed(lines[:-1]) if line.startswith("File ")), "")
    return f"{lines[-1] if lines else 'no detail'}" + (f" ({place})" if place else "")


def _descendants(after: dict[str, tuple[str, ...]], name: str) -> frozenset[str]:
    found: set[str] = set()
    front = [name]
    while front:
        new = set(after[front.pop()]) - found
        found |= new
        front += new
    return frozenset(found)
