"""What must be true of any run, judged from outside: from the records in the topics, and what participants did.

It reads the journal by the one rule that the protocol states, written here a second time, and never through the production fold, but to
compare the two. So a fold that is wrong in the same way for everybody is found, too. Each violation is a sentence that begins with the
invariant's number:

    I1 one outcome each · I2 nothing without a start · I4 one instance for a repeated start · I6 decisions dense and in order · I7 an
    effect of a completed order once · I8 a compensated order's effects undone once · I10 a step only after those it follows · I11 nothing
    after the end · I13 command ids stable, never shared · I14 each input decided exactly once, none beyond the position · I15 what left
    belongs to a valid decision, all of it left, first copies in order · I16 void batches change nothing · I17 one owner, until the next
    claim · I18 all folds are the same bytes · I19 folding sends nothing · I21 no timer early, or before an
    input that was there in time · I22 a key in its home partition only ·
    I24 inputs read = decided + of types nobody names · S27 time never goes back
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from saga.cloudevents import header_fields
from saga.engine.apply import apply
from saga.engine.book import Book
from saga.engine.decision import Decision, Forward, Kind, Send
from saga.engine.kinds import Chain, Child, Mapped, Step
from saga.engine.state import Instance, Phase, Status, base_name
from saga.errors import Corrupt, Unreadable
from saga.log.base import Record, StoredRecord, TopicPartition
from saga.log.partition import home
from saga.runtime.codec import EVENTS, JOURNAL, decision_from_json, encode_instance, outgoing
from saga.runtime.fold import Fold
from saga.runtime.states import Slot

OUTCOMES = {"saga.completed.v1": Phase.COMPLETED, "saga.compensated.v1": Phase.COMPENSATED}


class Commit(NamedTuple):
    """One batch that counts: its decisions with their offsets, and its trailer."""

    decisions: list[tuple[int, Decision]]
    trailer: dict[str, Any]


@dataclass
class Effects:
    """What participants did, by execute command id; and every command they saw, as (command, attempt)."""

    executed: Counter[str] = field(default_factory=Counter)
    undone: Counter[str] = field(default_factory=Counter)
    seen: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class Evidence:
    """All that a run left behind. `topics` hold every record there ever was, also what was trimmed since.

    `live`: folds that owners hold at the end."""

    book: Book
    partitions: int
    topics: Mapping[TopicPartition, list[StoredRecord]]
    live: Mapping[int, Fold] = field(default_factory=dict)
    effects: Effects | None = None
    undoable: frozenset[str] = frozenset()  # steps with a compensation
    steady_clock: bool = False  # the broker's clock, which dates all records, was never set during the run

    def journal(self, number: int) -> list[StoredRecord]:
        return self.topics[TopicPartition(JOURNAL, number)]


class Checker:
    """`check` gives the violations, none if all is well; `met` counts what there was to see."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.met: Counter[str] = Counter()
        self.problems: list[str] = []
        self.commits: dict[int, list[Commit]] = {}
        self.states: dict[Slot, Instance] = {}  # every instance there ever was, forgotten or not
        self.runs: set[str] = set()  # the ids of all instances; a key may have more than one after another
        self.commands: dict[str, tuple[str, int, Any]] = {}

    def check(self) -> list[str]:
        for number in range(self.evidence.partitions):
            self._read(number)
            self._replay(number)
            self._folds(number)
            self._inputs(number)
            self._outputs(number)
        self._outcomes()
        if self.evidence.effects is not None:
            self._effects(self.evidence.effects)
        return self.problems

    def require(self, truth: bool, what: str) -> None:
        if not truth:
            self.problems.append(what)

    # --- the journal -----------------------------------------------------------------------------------------------------------------

    def _read(self, number: int) -> None:
        """The batches that count, by the rule alone: a batch counts if and only if it stands where it says."""
        commits: list[Commit] = []
        pending: list[tuple[int, Decision]] = []
        owner, now = "", 0
        for record in self.evidence.journal(number):
            value = orjson.loads(record.value or b"")
            if value["kind"] == "claim":
                owner = value["owner"]
                self.met["claim"] += 1
            elif value["kind"] == "decision":
                pending.append((record.offset, decision_from_json(value)))
            elif value["kind"] == "commit":
                if value["offset"] == record.offset:
                    self.require(
                        value["owner"] == owner, f"I17: {number}:{record.offset}: {value['owner']} commits, {owner} claimed"
                    )
                    self.require(value["now"] >= now, f"S27: {number}:{record.offset}: {value['now']} after {now}")
                    now = value["now"]
                    commits.append(Commit(pending, value))
                else:
                    self.met["void"] += 1
                pending = []
        self.commits[number] = commits

    def decisions(self, number: int) -> Iterator[tuple[int, Decision, dict[str, Any]]]:
        for commit in self.commits[number]:
            for offset, decision in commit.decisions:
                yield offset, decision, commit.trailer

    def _replay(self, number: int) -> None:
        """I2, I4, I6, I10, I11, I13, I21, I22: the decisions, one by one."""
        remembered: dict[Slot, Instance] = {}
        for commit in self.commits[number]:
            for offset, decision in commit.decisions:
                if decision.seq:
                    self._decision(number, offset, decision, remembered, commit.trailer["now"])
            for slot, state in list(remembered.items()):
                if state.keep_until is not None and state.keep_until <= commit.trailer["now"]:
                    del remembered[slot]
                    self.met["forgotten"] += 1
        fold = Fold(TopicPartition(JOURNAL, number))
        try:
            for record in self.evidence.journal(number):
                fold.feed(record)
            fold.check_end()
        except Corrupt as corrupt:
            self.require(False, f"I18: the fold of partition {number} is corrupt: {corrupt}")
            return
        there = sorted(encode_instance(state) for state in remembered.values())
        self.require(sorted(fold.instances.values()) == there, f"I16: the fold of {number} is not what its valid batches say")

    def _decision(self, number: int, offset: int, decision: Decision, states: dict[Slot, Instance], now: int) -> None:
        slot = Slot(decision.instance.split(":")[0], decision.key)
        at = f"{number}:{offset}: decision {decision.seq} of {decision.instance}"
        before = states.get(slot)
        self.require(home(decision.key, self.evidence.partitions) == number, f"I22: {at} is not at home")
        if before is None:
            first = decision.input.kind in (Kind.START, Kind.EVENT)  # one that came before its start
            self.require(decision.seq == 1 and first, f"I2: {at} has no start")
            self.require(slot not in self.states, f"I4: {at} is a second instance")
        elif decision.seq != before.seq + 1:
            self.require(False, f"I6: {at} follows {before.seq}")
            return
        if decision.seq != (before.seq + 1 if before is not None else 1):
            return
        another_run = "id" in decision.patch
        if before is not None and not before.live and before.phase is not Phase.EARLY and not another_run:
            self.require(decision.ignored or decision.note == "released", f"I11: {at} changes what has ended")
            self.require(not any(isinstance(output, Send) for output in decision.outputs), f"I11: {at} sends after the end")
        if decision.input.kind is Kind.TIMER:
            self.require(now >= decision.input.data["due"], f"I21: {at} fired early")
            self.met["timer"] += 1
        self.met[f"note: {decision.note}"] += 1
        after = apply(before, decision)
        for send in decision.outputs:
            if isinstance(send, Send):
                self._send(at, send, after)
        states[slot] = self.states[slot] = after
        self.runs.add(after.id)

    def _send(self, at: str, send: Send, state: Instance) -> None:
        step = base_name(send.command.split(":")[3])
        self.require(send.command.startswith(state.id + ":"), f"I13: {at} sends {send.command}")
        known = self.commands.setdefault(send.command, (state.id, send.time, send.data))
        self.require(known == (state.id, send.time, send.data), f"I13: {at}: {send.command} is not as it was")
        if send.action == "execute":
            for other in self.evidence.book.sagas[state.saga].graph.before[step]:
                settled = state.steps.get(other)
                done = settled is not None and (settled.succeeded or settled.status in (Status.DONE, Status.SKIPPED))
                self.require(done, f"I10: {at} executes {step} before {other} is done")

    # --- every reader sees the same ------------------------------------------------------------------------------------------------------

    def _folds(self, number: int) -> None:
        """I18: the fold from the beginning, from every snapshot that was ever named, and the live one."""
        records = self.evidence.journal(number)
        try:
            full = self._fold(number, 0)
            named = {value["restore_from"] for value in map(_value, records) if value.get("restore_from")}
            for start in named:
                fold = self._fold(number, start)
                self.require(fold.canonical() == full.canonical(), f"I18: the fold from {start} differs in partition {number}")
                self.require(fold.published == full.published, f"I18: published differs from {start} in partition {number}")
                self.met["snapshot"] += 1
        except Corrupt as corrupt:
            self.require(False, f"I18: a fold of partition {number} is corrupt: {corrupt}")
            return
        if number in self.evidence.live:
            same = self.evidence.live[number].canonical() == full.canonical()
            self.require(same, f"I18: the live state of {number} differs from its fold")

    def _fold(self, number: int, start: int) -> Fold:
        fold = Fold(TopicPartition(JOURNAL, number), start)
        for record in self.evidence.journal(number)[start:]:
            fold.feed(record)
        fold.check_end()
        return fold

    # --- what came in --------------------------------------------------------------------------------------------------------------------

    def _inputs(self, number: int) -> None:
        """I14, I24: each input below the position was decided once for each whom it concerns; of what lies beyond, nothing was."""
        if not self.commits[number]:
            return
        positions = {_tp(name): at for name, (at, _) in self.commits[number][-1].trailer["positions"].items()}
        decided: Counter[tuple[str, int, int]] = Counter()
        once: Counter[tuple[Any, ...]] = Counter()
        for _, decision, _ in self.decisions(number):
            if decision.input.at is not None:
                decided[decision.input.at] += 1
                to = [output.partition for output in decision.outputs if isinstance(output, Forward)]
                once[(decision.input.at, decision.instance, *to)] += 1
        self.require(
            all(count == 1 for count in once.values()), f"I14: an input was decided twice in partition {number}: {_most(once)}"
        )
        for at in decided:
            tp = TopicPartition(at[0], at[1])
            self.require(at[2] < positions.get(tp, 0), f"I14: {at} was decided but lies beyond the position in partition {number}")
        if self.evidence.steady_clock:
            self._timers(number)
        for tp, position in positions.items():
            for record in self.evidence.topics[tp][:position]:
                at = (tp.topic, tp.partition, record.offset)
                if self._named(record):
                    self.require(decided[at] > 0, f"I14: {at} lies below the position in partition {number} but was not decided")
                else:
                    self.require(decided[at] == 0, f"I24: {at} is of a type that nobody names, but it was decided")
                    self.met["unnamed"] += 1

    def _timers(self, number: int) -> None:
        """S26: when a timer fires, whatever was in the inputs before it was due is decided."""
        for _, decision, trailer in self.decisions(number):
            if decision.input.kind is not Kind.TIMER:
                continue
            due = decision.input.data["due"]
            for name, (position, *_) in trailer["positions"].items():
                unread = self.evidence.topics[_tp(name)][position:]
                early = bool(unread) and unread[0].timestamp < due
                self.require(
                    not early, f"I21: a timer due at {due} fired in partition {number} before {name}:{position} was decided"
                )

    def _named(self, record: StoredRecord) -> bool:
        try:
            fields = header_fields(record.headers)
        except Unreadable:
            return True
        return "type" not in fields or self.evidence.book.knows(fields["type"])

    # --- what left -----------------------------------------------------------------------------------------------------------------------

    def _outputs(self, number: int) -> None:
        """I15, I19: all outputs of valid decisions left, byte for byte as the journal says, first copies in order; and nothing else."""
        expected: dict[TopicPartition, dict[bytes, int]] = {}
        for _, decision, trailer in self.decisions(number):
            for to, record in outgoing(decision, number, trailer["now"]):
                expected.setdefault(to, {}).setdefault(_bytes(record), len(expected.get(to, ())))
                self.met[to.topic] += 1
        for tp, wanted in expected.items():
            found = dict.fromkeys(_bytes(record) for record in self.evidence.topics[tp])
            order = [wanted[raw] for raw in found if raw in wanted]
            self.require(len(order) == len(wanted), f"I15: {len(wanted) - len(order)} records for {tp} never left")
            self.require(order == sorted(order), f"I15: the first copies on {tp} are not in order")
        for tp, records in self.evidence.topics.items():
            if tp.partition == number and (tp.topic == EVENTS or tp.topic.endswith(".commands")):
                strange = sum(_bytes(record) not in expected.get(tp, {}) for record in records)
                self.require(not strange, f"I15: {strange} records on {tp} belong to no valid decision")

    # --- what it came to -----------------------------------------------------------------------------------------------------------------

    def _outcomes(self) -> None:
        """I1: who was accepted ended once, is told once, or is parked with a reason."""
        told: dict[str, set[Phase]] = {}
        for tp, records in self.evidence.topics.items():
            for record in records if tp.topic == EVENTS else ():
                fields = header_fields(record.headers)
                if fields["type"] in OUTCOMES:
                    told.setdefault(orjson.loads(record.value or b"")["instance"], set()).add(OUTCOMES[fields["type"]])
        for state in self.states.values():
            self.met[str(state.phase)] += 1
            if state.live:
                self.require(
                    state.parked is not None and bool(state.parked.reason), f"I1: {state.id} has no outcome and is not parked"
                )
            said = told.get(state.id, set())
            self.require(said == (set() if state.live else {state.phase}), f"I1: {state.id} is {state.phase}, was told {said}")

    def _effects(self, effects: Effects) -> None:
        """I7, I8, I15: what participants did, against what became of the order."""
        sent = {
            (output.command, str(output.attempt))
            for number in self.commits
            for _, decision, _ in self.decisions(number)
            for output in decision.outputs
            if isinstance(output, Send)
        }
        self.require(effects.seen <= sent, f"I15: {len(effects.seen - sent)} commands of no valid decision were seen")
        self.require(sent <= effects.seen, f"I15: {len(sent - effects.seen)} commands never arrived")
        for command in effects.executed:
            self.require(":".join(command.split(":")[:3]) in self.runs, f"I2: {command} was done, but there is no such order")
        for state in self.states.values():
            for name, step in state.steps.items():
                if isinstance(self._definition(state, name), Step | Mapped) and step.status is not Status.SKIPPED:
                    self._effect(effects, state, name)
            self._family(state)

    def _effect(self, effects: Effects, state: Instance, step: str) -> None:
        command = f"{state.undoes or state.id}:{step}:execute"
        done, back = effects.executed[command], effects.undone[command]
        if isinstance(self._definition(state, step), Mapped) and "/" not in step:
            return  # its iterations have the effects
        self.require(done <= 1, f"I7: {command} took effect {done} times")
        if state.phase is Phase.COMPLETED:
            self.require((done, back) == (1, 0), f"I7: {command} of a completed order: {done} done, {back} undone")
        elif state.phase is Phase.COMPENSATED and base_name(step) in self.evidence.undoable:
            self.require(done == back, f"I8: {command} of a compensated order: {done} done, {back} undone")

    def _family(self, state: Instance) -> None:
        """S28: the child of a parent that completed is completed, of one that did not, undone; a chain was started."""
        for name, step in self.evidence.book.sagas[state.saga].steps.items():
            there = state.steps.get(name)
            if not isinstance(step, Child | Chain) or there is None or state.live:
                continue
            other = self.states.get(Slot(step.child.name, there.sent["key"])) if there.sent else None
            phase = other.phase if other is not None else None
            if state.phase is Phase.COMPLETED:
                self.require(phase is not None, f"S28: {state.id} completed, and {name} was never started")
            if isinstance(step, Child) and state.phase is Phase.COMPLETED:
                self.require(phase is Phase.COMPLETED, f"S28: {state.id} completed, its child {name} is {phase}")
                self.require(
                    other is not None and other.keep_until is not None, f"S28: the child {name} of {state.id} is kept for ever"
                )
            elif isinstance(step, Child) and state.phase is Phase.COMPENSATED:
                self.require(phase in (None, Phase.COMPENSATED), f"S28: {state.id} is compensated, its child {name} is {phase}")
                self.met["undone child"] += other is not None and bool(other.undoes)

    def _definition(self, state: Instance, step: str) -> Any:
        return self.evidence.book.sagas[state.saga].steps[base_name(step)]


def _value(record: StoredRecord) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(record.value or b"")
    return value


def _tp(name: str) -> TopicPartition:
    topic, _, partition = name.rpartition(":")
    return TopicPartition(topic, int(partition))


def _bytes(record: Record | StoredRecord) -> bytes:
    return repr((record.key, record.value, record.headers)).encode()


def _most(counts: Counter[Any]) -> str:
    return str(counts.most_common(2))
