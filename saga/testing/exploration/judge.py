"""What must hold in every world: the promises of a saga, and what its author most often forgets.

It looks at what left and what took effect, not at what the engine thinks of a step. A broken rule ends the run with a Problem: what is
wrong, at which step, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from saga.engine.decision import Announce, DeadLetter, Input, Send
from saga.engine.definition import Saga
from saga.engine.kinds import Chain, Child, Mapped, Waiting
from saga.engine.messages import Message
from saga.engine.nodes import AnyStep
from saga.engine.state import Action, Parked, Status, base_name, iteration
from saga.ops.look import Moment
from saga.ops.why import parked_because
from saga.ops.words import changes
from saga.raised import raised_at
from saga.testing.exploration.mail import Mail, id_of
from saga.testing.exploration.watched import Watch

if TYPE_CHECKING:
    from saga.testing.exploration.world import World

MAX_DECISIONS = 1000  # of one run: with two faults, even the longest retries come to an end far below
MAX_RETRIES = 5  # by an operator: each fault can park once, and each retry heals what was broken

ENDS = {"saga.completed.v1": "completed", "saga.compensated.v1": "compensated"}
BY_RULE = ("unverified", "compensation", "refused", "late")  # why a step may park where there is neither forward nor back


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
    """`no_effect`: commands, and other sagas, that leave nothing to undo. `varying`: what may say something else from run to run."""

    def __init__(self, watch: Watch, no_effect: Collection[object], varying: Collection[type[Message]]) -> None:
        self.saga: Saga[Any, Any] = watch.saga
        self.graph = watch.saga.graph
        self.no_effect = tuple(no_effect)
        self.varying = frozenset(message.__type__ for message in varying)
        self.watch = watch
        self._said: dict[tuple[str, str], tuple[Any, World]] = {}  # what a command first said, and where, by step and action
        self._after = {name: _descendants(self.graph.next, name) for name in self.graph.steps}

    # --- what was decided ---------------------------------------------------------------------------------------------------------

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
        step = self.saga.steps.get(base_name(parked.step))
        state = moment.after.steps.get(parked.step) if moment.after is not None else None
        if parked.reason in ("user-code", "too-large"):
            where = f"at {parked.step}" if parked.step else "at the start"
            what = f"the saga's own code raises {where}: {raised_at(parked.detail)}"
            _broken("code raises", parked.step, what, "In production the instance parks, and waits for a new version of the code.")
        nobody_knows = parked.reason == "unknown" and step is not None and step.when_unknown() == "park"
        said_nothing = state is not None and state.answer == "nothing"
        if nobody_knows or (parked.reason in BY_RULE and not said_nothing):
            return
        _broken("parked", parked.step, f"it parks although no rule says so: {parked_because(parked)}")

    # --- what leaves --------------------------------------------------------------------------------------------------------------

    def sent(self, world: World, mail: Mail) -> None:
        given = mail.given
        assert not isinstance(given, Input), "an input is nothing that is sent"
        id, place = id_of(given), (mail.step, mail.action)
        attempt = given.attempt if isinstance(given, Send) else 1
        if world.outcome and not self._chained(mail):
            _broken("after the end", mail.step, f"{given.type} is sent after the saga has ended")
        last = world.ids.get(place)
        if last is not None and last[0] != id and not world.retries:
            _broken("other id", mail.step, f"the id of a command changes between attempts: {last[0]}, then {id}")
        if last is not None and last[0] == id and last[1] + 1 != attempt:
            _broken("other id", mail.step, f"attempt {attempt} of {id} follows attempt {last[1]}")
        world.ids = {**world.ids, place: (id, attempt)}
        self._asks_who_did(mail)
        self._says(world, mail)

    def _chained(self, mail: Mail) -> bool:
        """A chain at the very end starts with the decision that ends the saga."""
        return isinstance(self.saga.steps[base_name(mail.step)], Chain)

    def _asks_who_did(self, mail: Mail) -> None:
        definition = self.saga.steps[base_name(mail.step)]
        do, then = definition.command_class, definition.command_for(Action(mail.action))
        if then is None or do is None or then.__service__ == do.__service__:
            return
        what = f"{then.__name__} goes to {then.__service__}, but {do.__name__} to {do.__service__}"
        advice = (
            f"Only {do.__service__} knows whether {mail.step} happened, and that it must not happen any more: ask {do.__service__}."
        )
        _broken("other service", f"{mail.step}:{mail.action}", what, advice)

    def _says(self, world: World, mail: Mail) -> None:
        """What a command says may not depend on the run."""
        given: Any = mail.given
        other, where = self._said.setdefault((mail.step, mail.action), (given.data, world))
        if other == given.data or given.type in self.varying:
            return
        kind = self.saga.steps[base_name(mail.step)].command_for(Action(mail.action))
        name = kind.__name__ if kind is not None else given.type
        less, more, world = (given.data, other, world) if _blanks(given.data) >= _blanks(other) else (other, given.data, where)
        what = f"what {name} says depends on what else has happened by then: {', '.join(changes(more, less))}"
        known = "the data" if mail.action == Action.EXECUTE else "the data or the command as it was sent"
        advice = f"Take it from what is always there ({known} before {mail.step}); or, if it is meant so: varying=[{name}]."
        raise Broken(Problem("varies", f"{base_name(mail.step)}:{mail.action}", what, advice), world)

    # --- what takes effect --------------------------------------------------------------------------------------------------------

    def does(self, world: World, step: str, command: str) -> None:
        """A step is about to take effect."""
        name = base_name(step)
        if command in world.undone:
            _broken("after its undo", name, f"{step} takes effect after its compensation was accepted")
        for other in self.graph.before[name]:
            if not world.undone and not self._settled(world, self.saga.steps[other]):
                _broken("too early", name, f"{step} takes effect before {other} does, which comes before it")
        if name in self.graph.pivots and world.undone:
            _broken("pivot", name, f"the pivot {step} takes effect although the saga is already being compensated")

    def _settled(self, world: World, step: AnyStep[Any]) -> bool:
        """Has this step happened, or need it not?"""
        state = world.state.steps.get(step.name) if world.state is not None else None
        if step.best_effort or (state is not None and state.status is Status.SKIPPED):
            return True
        if isinstance(step, Waiting | Chain):  # nobody waits for what a chain starts
            return state is not None and state.status is Status.DONE
        return all(world.effect(part) for part in self._parts(world, step))

    def _parts(self, world: World, step: AnyStep[Any]) -> Iterator[str]:
        """The iterations of a mapped step; any other step is its own."""
        if not isinstance(step, Mapped):
            yield step.name
        elif world.state is not None and step.name in world.state.steps:
            yield from (iteration(step.name, index) for index in range(len(world.state.steps[step.name].sent or ())))

    def undoes(self, world: World, step: str) -> None:
        """A step is about to be undone."""
        name = base_name(step)
        for pivot in self.graph.pivots:
            if world.effect(pivot):
                _broken("pivot", name, f"{step} is undone although the pivot {pivot} took effect")
        for other in self._after[name]:
            if world.effect(other) and self.saga.steps[other].undoable:
                _broken("order", name, f"{step} is undone before {other}, which came after it")

    # --- the end ------------------------------------------------------------------------------------------------------------------

    def ended(self, world: World) -> None:
        """Nothing will happen any more."""
        if world.state is None or world.state.live:
            _broken("stuck", "", f"it has no outcome, whatever an operator does ({world.retries} retries)")
        for name, step in self.saga.steps.items():
            if isinstance(step, Waiting):
                continue
            if world.outcome == "completed":
                self._once(world, step)
            elif world.effect(name):
                self._left_behind(name, step)

    def _once(self, world: World, step: AnyStep[Any]) -> None:
        """The saga completed: each step that was to happen did, once."""
        assert world.state is not None
        skipped = world.state.steps[step.name].status is Status.SKIPPED
        for part in self._parts(world, step):
            net = world.effect(part)
            wanted = (0,) if skipped else (0, 1) if step.best_effort else (1,)
            if net not in wanted:
                _broken("effects", step.name, f"it completed, and {part} took effect {net} times")

    def _left_behind(self, name: str, step: AnyStep[Any]) -> None:
        what: Any = step.child if isinstance(step, Child | Chain) else step.command_class
        called = f"the saga {what.name}" if isinstance(what, Saga) else what.__name__
        if any(what is each for each in self.no_effect):
            return
        happened = f"an effect is left behind: {name} ({called}) took effect, the saga was compensated, and"
        if step.undoable:
            _broken("not undone", name, f"{happened} its compensation did not undo it")
        say = f"say so: no_effect=[{getattr(what, '__name__', '<the saga>')}]"
        if isinstance(step, Chain):
            advice = f"Start it after the pivot, where nothing turns back any more; or if it may stand, {say}."
        elif isinstance(step, Child):
            advice = f"Start it where nothing turns back any more, or let it be undone; or if it may stand, {say}."
        else:
            advice = f"Write @{name}.compensate. If {called} leaves nothing that must be undone, {say}."
        _broken("left behind", name, f"{happened} nothing undid it", advice)


def _broken(kind: str, step: str, what: str, advice: str = "") -> NoReturn:
    raise Broken(Problem(kind, step, what, advice))


def _blanks(data: Any) -> int:
    """How many values of a command say nothing."""
    if isinstance(data, dict):
        return sum(_blanks(value) for value in data.values())
    return data in ("", None, 0, [], {})


def _descendants(after: dict[str, tuple[str, ...]], name: str) -> frozenset[str]:
    found: set[str] = set()
    front = [name]
    while front:
        new = set(after[front.pop()]) - found
        found |= new
        front += new
    return frozenset(found)
