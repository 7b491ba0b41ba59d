"""The rules of a saga, written a second time and differently: a checker that sees only what went in and what came out.

It knows the graph, the inputs and the outputs of an instance, and nothing of the engine's states. So it cannot tell what should happen
next; it tells what must never have happened (I7 to I13, I21): a command too early, in the wrong order, twice, or after the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from saga.engine.decision import Announce, Decision, Kind, Send
from tests.engine.kit import Part

NO_EFFECT = ("refused", "nothing")


@dataclass
class Seen:
    """What is known of one step from outside."""

    sends: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # by command id: (attempt, time)
    said: list[tuple[str, str, int]] = field(default_factory=list)  # (action, outcome, attempt) of every reply that came

    def sent(self, action: str) -> bool:
        return any(command.rpartition(":")[2].startswith(action) for command in self.sends)

    def has(self, outcomes: Sequence[str], *actions: str) -> bool:
        return any(action in actions and outcome in outcomes for action, outcome, _attempt in self.said)

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
    """Judges every decision of one instance. `deadline`: ms."""

    def __init__(self, parts: Mapping[str, Part], deadline: int) -> None:
        self.parts = parts
        self.deadline = deadline
        self.steps = {name: Seen() for name in parts}
        self.pivot = next((name for name, part in parts.items() if part.pivot), None)
        self.forward_only = {name for name in parts if self.pivot is not None and self.pivot in self.ancestors(name)}
        self.outcome = ""
        self.denied: set[str] = set()  # execute command ids whose answer "no effect" was accepted
        self.kept = False  # inputs were kept: what came first is then not what was decided first

    def ancestors(self, name: str) -> set[str]:
        return {above for other in self.parts[name].after for above in ({other} | self.ancestors(other))}

    def judge(self, decision: Decision, now: int) -> None:
        given = decision.input
        if given.kind is Kind.REPLY:
            _saga, _key, _run, step, tail = given.attributes["sagacommand"].split(":")
            if step in self.steps and decision.note not in ("unmatched", "deadletter"):
                outcome, attempt = given.attributes["sagaoutcome"], int(given.attributes["sagaattempt"])
                self._contradiction(given.attributes["sagacommand"], outcome, decision.note)
                self.steps[step].said.append((tail.partition("~")[0], outcome, attempt))
        self.kept = self.kept or decision.note in ("kept", "parked")
        for output in decision.outputs:
            if isinstance(output, Send):
                self._command(output, now, given.kind is Kind.OPERATOR)
            elif isinstance(output, Announce) and not decision.ignored:
                self._told(output.type)

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

    def _told(self, type: str) -> None:
        if type in ("saga.completed.v1", "saga.compensated.v1"):
            assert not self.outcome, f"I1: two outcomes, {self.outcome} and {type}"
            self.outcome = type
            (self._completed if "completed" in type else self._compensated)()

    def _completed(self) -> None:
        for name, step in self.steps.items():
            assert step.done, f"I7: completed, and {name} was never done"
            assert not step.sent("compensate"), f"I7: completed, and {name} was compensated"

    def _compensated(self) -> None:
        for name, step in self.steps.items():
            assert not (name == self.pivot and step.done and not step.denied), "I12: compensated after the pivot was done"
            assert name not in self.forward_only or not step.sends, f"I12: compensated, and {name} was begun"
            if step.sent("execute") and self._undoable(name):
                assert step.undone or step.denied, f"I8: compensated, and {name} may still have an effect"
            if step.done and self._undoable(name):
                assert step.has(["done"], "compensate") or step.denied or step.undone, f"I8: {name} was done and not undone"

    def _undoable(self, name: str) -> bool:
        return self.parts[name].undo and name != self.pivot and name not in self.forward_only

    def _command(self, send: Send, now: int, by_operator: bool) -> None:
        step, action = send.command.split(":")[3], str(send.action)
        assert not self.outcome, f"I11: {action} {step} after the end"
        self._id(send, step, action, now, by_operator)
        if action == "execute":
            self._execute(step, send.attempt)
        elif action == "verify":
            assert self.parts[step].verify, f"{step} has no verify"
            assert self.steps[step].sent("execute"), f"I10: {step} is verified and was never begun"
        else:
            self._compensate(step, now)

    def _id(self, send: Send, step: str, action: str, now: int, by_operator: bool) -> None:
        tail = send.command.rpartition(":")[2].partition("~")
        assert tail[0] == action, f"I13: the id {send.command} is not one of {action}"
        attempts = self.steps[step].sends.setdefault(send.command, [])
        if not attempts:
            assert send.attempt == 1, f"I13: the first attempt of {send.command} has number {send.attempt}"
        else:
            last, when = attempts[-1]
            assert send.attempt == last + 1, f"I13: attempt {send.attempt} of {send.command} follows {last}"
            failed = any(said == (action, outcome, last) for said in self.steps[step].said for outcome in ("failed", "expired"))
            timeout = self.parts[step].timeout or 30
            assert failed or by_operator or now >= when + timeout * 1000, f"I21: {send.command} was repeated early"
        attempts.append((send.attempt, now))

    def _execute(self, step: str, attempt: int) -> None:
        for other in self.parts[step].after:
            assert self.steps[other].done, f"I10: {step} was begun before {other} was done"
        if attempt > 1 or self.kept:
            return
        turned = [name for name, seen in self.steps.items() if name not in self.forward_only and seen.denied and not seen.done]
        assert not turned, f"S16: {step} was begun after {turned} had been refused"

    def _compensate(self, step: str, now: int) -> None:
        assert self._undoable(step), f"I12: {step} has no compensation, or none any more"
        assert self.steps[step].sent("execute"), f"I10: {step} is compensated and was never begun"
        pivot = self.steps[self.pivot] if self.pivot else Seen()
        assert not pivot.done or pivot.denied, f"I12: {step} is compensated after the pivot was done"
        for name, seen in self.steps.items():
            if name == step or not seen.sent("execute"):
                continue
            assert self._settled(name, now), f"S16: {step} is compensated while {name} is still on its way"
            if step in self.ancestors(name) and self._undoable(name):
                assert seen.undone or seen.denied, f"I10: {step} is compensated before {name}, which came after it"

    def _settled(self, name: str, now: int) -> bool:
        """An answer, or an attempt that will bring none any more."""
        seen = self.steps[name]
        if seen.done or seen.denied or seen.sent("compensate"):
            return True
        out = {"verify": (30, seen)} if seen.sent("verify") else {"execute": (self.parts[name].timeout, seen)}
        ((action, (timeout, _)),) = out.items()
        attempt, when = [sends[-1] for command, sends in seen.sends.items() if f":{name}:{action}" in command][-1]
        if any(said == (action, outcome, attempt) for said in seen.said for outcome in ("failed", "expired")):
            return True
        limit = self.deadline if timeout is None else when + round(1000 * (self.parts[name].timeout or timeout))
        return now >= limit
