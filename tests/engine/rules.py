"""The rules of a saga, written a second time and differently: a checker that sees only what went in and what came out.

It knows the graph, the inputs and the outputs of an instance, and nothing of the engine's states. So it cannot tell what should happen
next; it tells what must never have happened (I7 to I13, I21): a command too early, in the wrong order, twice, too many at once, for a
step that was not wanted, after a cancel, or after the end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from saga.engine.decision import Announce, Decision, Input, Kind, Send
from tests.engine.kit import BEGAN, Part

NO_EFFECT = ("refused", "nothing")
SILENT = ("failed", "expired")


@dataclass
class Seen:
    """What is known of one step, or one iteration, from outside."""

    sends: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # by command id: (attempt, time)
    said: list[tuple[str, str, int]] = field(default_factory=list)  # (action, outcome, attempt) of every reply that came
    came: bool = False  # the event that it waits for

    def sent(self, action: str) -> bool:
        return any(command.rpartition(":")[2].startswith(action) for command in self.sends)

    def has(self, outcomes: Sequence[str], *actions: str) -> bool:
        return any(action in actions and outcome in outcomes for action, outcome, _attempt in self.said)

    def last(self, action: str) -> tuple[int, int]:
        """The last attempt of an action, and when it was sent."""
        return [sends[-1] for command, sends in self.sends.items() if command.rpartition(":")[2].startswith(action)][-1]

    @property
    def done(self) -> bool:
        return self.has(["done"], "execute", "verify")

    @property
    def denied(self) -> bool:
        return self.has(NO_EFFECT, "execute") or self.has(["nothing"], "verify")

    @property
    def undone(self) -> bool:
        return self.has(["done", "nothing"], "compensate")


class Rules:
    """Judges every decision of one instance. `deadline`: ms. `no`: steps whose condition does not hold."""

    def __init__(self, parts: Mapping[str, Part], deadline: int, no: Collection[str] = ()) -> None:
        self.parts = parts
        self.deadline = deadline
        self.no = no
        self.steps = {each: Seen() for name in parts for each in self.each(name)}
        self.pivots = [name for name, part in parts.items() if part.pivot]
        self.forward_only = {name for name in parts if self.ancestors(name).intersection(self.pivots)}
        self.outcome = ""
        self.denied: set[str] = set()  # execute command ids whose answer "no effect" was accepted
        self.kept = False  # inputs were kept: what came first is then not what was decided first
        self.cancelled = False
        self.cancelling = False

    def each(self, name: str) -> list[str]:
        """A step by its name, a mapped one by those of its iterations."""
        items = self.parts[name].items
        return [name] if items is None else [f"{name}/{index}" for index in range(items)]

    def ancestors(self, name: str) -> set[str]:
        return {above for other in self.parts[name].after for above in ({other} | self.ancestors(other))}

    def wanted(self, name: str) -> bool:
        """S18: does its condition hold?"""
        when = self.parts[name].when
        if when.startswith("!"):
            return not self.wanted(when[1:])
        return name not in self.no if when in ("", "?") else self.wanted(when)

    # --- what comes in --------------------------------------------------------------------------------------------------------------

    def judge(self, decision: Decision, now: int) -> None:
        given = decision.input
        if given.kind is Kind.REPLY:
            self._reply(given, decision.note)
        elif given.kind is Kind.EVENT and decision.note in ("event", "early", "kept", "parked"):
            self._event(given.type)
        elif given.kind is Kind.OPERATOR:
            self._operator(given, decision)
        self.kept = self.kept or decision.note in ("kept", "parked")
        for output in decision.outputs:
            if isinstance(output, Send):
                self._command(output, now, given.kind is Kind.OPERATOR)
            elif isinstance(output, Announce) and not decision.ignored:
                self._told(output.type)

    def _reply(self, given: Input, note: str) -> None:
        _saga, _key, _run, step, tail = given.attributes["sagacommand"].split(":")
        if step in self.steps and note not in ("unmatched", "deadletter"):
            outcome, attempt = given.attributes["sagaoutcome"], int(given.attributes["sagaattempt"])
            if not self._part(step).waits:
                self._contradiction(given.attributes["sagacommand"], outcome, note)
            self.steps[step].said.append((tail.partition("~")[0], outcome, attempt))

    def _event(self, type: str) -> None:
        for name, part in self.parts.items():
            if part.waits == "event" and type == f"world.{part.event or name}.v1":
                self.steps[name].came = True

    def _operator(self, given: Input, decision: Decision) -> None:
        step = given.data.get("step", "")
        if decision.note in ("duplicate", "unmatched"):
            return
        if decision.note == "operator-refused":
            assert decision.ignored, "S30: an action was refused, and changed something"
            assert decision.detail, "S30: an action was refused without a reason"
            return
        if given.type == "saga.signal.v1":
            self._event(given.data["type"])
        elif given.type in ("saga.cancel.v1", "saga.compensate.v1"):
            past = any(self.steps[pivot].done and not self.steps[pivot].denied for pivot in self.pivots)
            assert not past or self.kept, "S20: cancelled after the pivot"
            self.cancelled = self.cancelled or decision.note == "cancelled"
            self.cancelling = self.cancelling or decision.note == "cancelling"
        elif given.type == "saga.skip.v1" and step in self.steps and not any(o.kind == "deadletter" for o in decision.outputs):
            self._skip(step, bool(given.data.get("nothing")))
        elif given.type == "saga.retry.v1":
            self.cancelling = False

    def _skip(self, step: str, nothing: bool) -> None:
        seen = self.steps[step]
        if seen.sent("compensate"):
            seen.said.append(("compensate", "done", 0))
        elif self._part(step).waits:
            seen.came = True
        else:
            seen.said.append(("execute", "nothing" if nothing else "done", 0))

    def _contradiction(self, command: str, outcome: str, note: str) -> None:
        head, _, tail = command.rpartition(":")
        subject = f"{head}:execute" if tail.startswith(("verify", "compensate")) else command
        if outcome == "done" and not tail.startswith("compensate") and subject in self.denied:
            loud = ("contradiction", "parked", "kept", "duplicate")
            assert note in loud, f"S15: {command} was answered done after it had been denied, and that came to {note!r}"
            self.denied.discard(subject)  # an operator may let it stand
        believed = note == outcome and not self.steps[command.split(":")[3]].done
        if outcome in NO_EFFECT and believed and (outcome == "nothing" or tail.startswith("execute")):
            self.denied.add(subject)

    # --- what comes out -------------------------------------------------------------------------------------------------------------

    def _told(self, type: str) -> None:
        if type in ("saga.completed.v1", "saga.compensated.v1"):
            assert not self.outcome, f"I1: two outcomes, {self.outcome} and {type}"
            self.outcome = type
            (self._completed if "completed" in type else self._compensated)()

    def _completed(self) -> None:
        assert not self.cancelled, "S20: completed after it had been cancelled"
        for each, seen in self.steps.items():
            name, part = self._name(each), self._part(each)
            wanted = self.wanted(name)
            assert wanted or not seen.sends, f"S18: {each} was not wanted, and was begun"
            needed = wanted and not part.best_effort and part.waits != "pause"
            assert not needed or (seen.came if part.waits else seen.done), f"I7: completed, and {each} was never done"
            assert not seen.sent("compensate"), f"I7: completed, and {each} was compensated"

    def _compensated(self) -> None:
        for each, seen in self.steps.items():
            name, part = self._name(each), self._part(each)
            assert not (part.pivot and seen.done and not seen.denied), "I12: compensated after the pivot was done"
            ahead = name in self.forward_only and not part.best_effort
            assert not ahead or not seen.sends, f"I12: compensated, and {each} was begun"
            if seen.sent("execute") and self._undoable(name):
                assert seen.undone or seen.denied, f"I8: compensated, and {each} may still have an effect"

    def _undoable(self, name: str) -> bool:
        part = self.parts[name]
        return part.undo and part.sends and not part.pivot and name not in self.forward_only

    def _command(self, send: Send, now: int, by_operator: bool) -> None:
        step, action = send.command.split(":")[3], str(send.action)
        assert not self.outcome, f"I11: {action} {step} after the end"
        assert step in self.steps, f"S17: {step} is no step and no iteration"
        assert self.wanted(self._name(step)), f"S18: {action} {step}, whose condition does not hold"
        self._id(send, step, action, now, by_operator)
        if action == "execute":
            self._execute(step, send.attempt, now, by_operator)
        elif action == "verify":
            assert self._part(step).verify, f"{step} has no verify"
            assert self.steps[step].sent("execute"), f"I10: {step} is verified and was never begun"
        else:
            self._compensate(step, now)
        self._at_once(step, action, now)

    def _id(self, send: Send, step: str, action: str, now: int, by_operator: bool) -> None:
        tail = send.command.rpartition(":")[2].partition("~")
        assert tail[0] == action, f"I13: the id {send.command} is not one of {action}"
        attempts = self.steps[step].sends.setdefault(send.command, [])
        if not attempts:
            assert send.attempt == 1, f"I13: the first attempt of {send.command} has number {send.attempt}"
        else:
            last, when = attempts[-1]
            assert send.attempt == last + 1, f"I13: attempt {send.attempt} of {send.command} follows {last}"
            failed = any(said == (action, outcome, last) for said in self.steps[step].said for outcome in SILENT)
            assert failed or by_operator or now >= when + self._timeout(step) * 1000, f"I21: {send.command} was repeated early"
        attempts.append((send.attempt, now))

    def _execute(self, step: str, attempt: int, now: int, by_operator: bool) -> None:
        part = self._part(step)
        for other in part.after:
            assert self._out_of_the_way(other, now), f"I10: {step} was begun before {other} was done"
        if attempt > 1:
            late = self.cancelling and part.pivot and not by_operator and not self.kept
            assert not late, f"S21: another attempt of {step} after a cancel"
            return
        assert not self.cancelled or part.waits or self.kept, f"S20: {step} was begun after a cancel"
        turned = [name for name, seen in self.steps.items() if self._stops(name) and seen.denied and not seen.done]
        assert not turned or self.kept, f"S16: {step} was begun after {turned} had been refused"

    def _stops(self, step: str) -> bool:
        """Does the saga turn back when this is refused?"""
        part = self._part(step)
        return self._name(step) not in self.forward_only and not part.best_effort and not part.waits

    def _out_of_the_way(self, name: str, now: int) -> bool:
        """May what comes after it begin?"""
        part = self.parts[name]
        over = part.within is not None and now >= BEGAN + part.within * 1000
        if not self.wanted(name) or part.waits == "pause":
            return over or not self.wanted(name)
        if part.waits:
            return self.steps[name].came or (part.best_effort and over)
        return all(self.steps[each].done or (part.best_effort and self._settled(each, now)) for each in self.each(name))

    def _compensate(self, step: str, now: int) -> None:
        own = self._name(step)
        assert self._undoable(own), f"I12: {step} has no compensation, or none any more"
        assert self.steps[step].sent("execute"), f"I10: {step} is compensated and was never begun"
        for pivot in self.pivots:
            seen = self.steps[pivot]
            assert not seen.done or seen.denied, f"I12: {step} is compensated after the pivot was done"
        for each, seen in self.steps.items():
            name = self._name(each)
            if each == step or not seen.sent("execute"):
                continue
            assert self._settled(each, now), f"S16: {step} is compensated while {each} is still on its way"
            if own in self.ancestors(name) and self._undoable(name):
                assert seen.undone or seen.denied, f"I10: {step} is compensated before {each}, which came after it"

    def _at_once(self, step: str, action: str, now: int) -> None:
        """S17: of a mapped step, so many are on their way together: sent, not answered, and not timed out."""
        part = self._part(step)
        if part.items is None or action == "verify":
            return
        out = [each for each in self.each(self._name(step)) if self._is_out(each, action, now)]
        assert len(out) <= part.at_once, f"S17: {out} are on their way together; at most {part.at_once} may"

    def _is_out(self, each: str, action: str, now: int) -> bool:
        seen = self.steps[each]
        if not seen.sent(action) or (action == "execute" and seen.sent("compensate")):
            return False
        attempt, when = seen.last(action)
        answered = any(said[0] == action and (said[1] not in SILENT or said[2] == attempt) for said in seen.said)
        limit = 30 if action == "compensate" and self._part(each).timeout is None else self._timeout(each)
        return not answered and not seen.done and now < when + limit * 1000

    def _settled(self, each: str, now: int) -> bool:
        """An answer, or an attempt that will bring none any more."""
        seen, part = self.steps[each], self._part(each)
        if seen.done or seen.denied or seen.came or seen.sent("compensate"):
            return True
        if not seen.sent("execute"):
            return False
        action = "verify" if seen.sent("verify") else "execute"
        attempt, when = seen.last(action)
        if any(said == (action, outcome, attempt) for said in seen.said for outcome in SILENT):
            return True
        if action == "verify" and part.best_effort and seen.has(["refused"], "verify"):
            return True
        if action == "execute" and part.timeout is None:
            return self.cancelled or now >= self.deadline
        return now >= when + self._timeout(each) * 1000

    def _timeout(self, each: str) -> float:
        part = self._part(each)
        return 30 if part.waits else part.timeout or 30

    def _name(self, each: str) -> str:
        return each.partition("/")[0]

    def _part(self, each: str) -> Part:
        return self.parts[self._name(each)]
