"""Participants that keep the protocol, over a network that loses, repeats and delays: a second, small reading of it.

An inbox row per command id with its answer; a tombstone where a compensation or a verify finds no row; a failure leaves nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from saga.engine.decision import Input, Kind, Send
from saga.engine.messages import PROTOCOL_TYPES
from tests.engine.kit import CannotSay, CannotUndo, Declined, Did, Undone, event_for


@dataclass
class Participants:
    """All services in one. `refuses` and `fails`: how likely."""

    random: Random
    refuses: float = 0.1
    fails: float = 0.2
    inbox: dict[str, tuple[str, str]] = field(default_factory=dict)  # by command id: outcome and type of the answer
    did: Counter[str] = field(default_factory=Counter)  # effects, by execute command id
    undid: Counter[str] = field(default_factory=Counter)
    _failures: int = 0
    _happened: int = 0

    def take(self, send: Send) -> Input:
        if send.command not in self.inbox:
            if self.random.random() < self.fails:
                self._failures += 1
                return self._answer(send, "failed", PROTOCOL_TYPES["failed"], f"failure-{self._failures}")
            self.inbox[send.command] = {"execute": self._execute, "compensate": self._compensate, "verify": self._verify}[
                send.action
            ](send)
        outcome, type = self.inbox[send.command]
        return self._answer(send, outcome, type, f"{send.command}:answer")

    def _execute(self, send: Send) -> tuple[str, str]:
        if self.random.random() < self.refuses:
            return "refused", Declined.__type__
        self.did[send.command] += 1
        return "done", Did.__type__

    def _compensate(self, send: Send) -> tuple[str, str]:
        if self.random.random() < self.refuses / 4:
            return "refused", CannotUndo.__type__
        if self._row(send.subject) != "done":
            return "nothing", PROTOCOL_TYPES["nothing"]
        self.undid[send.subject] += 1
        return "done", Undone.__type__

    def _verify(self, send: Send) -> tuple[str, str]:
        if self.random.random() < self.refuses / 4:
            return "refused", CannotSay.__type__
        if self._row(send.subject) != "done":
            return "nothing", PROTOCOL_TYPES["nothing"]
        return "done", Did.__type__

    def _row(self, subject: str) -> str:
        """The outcome of a command; where there is none, there will never be one (a tombstone)."""
        return self.inbox.setdefault(subject, ("nothing", PROTOCOL_TYPES["nothing"]))[0]

    def _answer(self, send: Send, outcome: str, type: str, id: str) -> Input:
        echoed = {"sagacommand": send.command, "sagaoutcome": outcome, "sagaattempt": str(send.attempt)}
        return Input(Kind.REPLY, type, id, "work", "work.events:0:1", data={}, attributes=echoed)

    def happen(self, key: str, name: str) -> Input:
        """The event that a step waits for; somebody publishes it, whoever waits."""
        self._happened += 1
        id = f"happened-{name}-{self._happened}"
        return Input(Kind.EVENT, event_for(name).__type__, id, "world", "world.events:0:1", data={"key": key})

    def effects(self, step: str) -> int:
        """Done minus undone, over all rounds of a step."""
        mine = [command for command in self.did if command.split(":")[3] == step]  # `step` may be an iteration
        return sum(self.did[command] - self.undid[command] for command in mine)
