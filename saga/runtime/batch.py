"""A batch in the making: inputs are decided on an overlay, and nothing of it counts until the journal has it.

From a record to decisions, in the order of the questions: can its headers be read · does any definition name its type · is it small
enough · can its value be read · whom does it concern · are they at home in this partition? What is unreadable becomes a dead letter,
what nobody names only moves the position, and what lives elsewhere is forwarded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from saga.cloudevents import CloudEvent, header_fields, parse
from saga.engine import trace
from saga.engine.apply import apply
from saga.engine.book import PARENT_TYPES, Book, Target
from saga.engine.decide import decide, refuse_growth
from saga.engine.decision import Announce, DeadLetter, Decision, Forward, Input, Kind, Output, Request
from saga.engine.messages import REQUESTS
from saga.engine.state import Instance, Phase, instance_of, split_instance
from saga.errors import Unreadable
from saga.log.base import Record, StoredRecord
from saga.log.partition import home
from saga.runtime.codec import decision_record, encode, encode_instance, raw
from saga.runtime.fold import Fold
from saga.runtime.states import Held, Slot
from saga.runtime.versions import fits

MAX_INPUT_BYTES = 256 * 1024  # S32: a larger input is recorded by reference
# On `saga.requests` too, but for what we add on the way: where a forward comes from, the ids of parent and child beside a child's data.
MAX_REQUEST_BYTES = MAX_INPUT_BYTES + 16 * 1024
UNWRITTEN = 96  # bytes of a state that are not in what is written of a decision: the identity of its input, the names of fields
GROWTH = 8  # no record grows more than that when it is written as JSON: a control character 6 times, 1e15 less than 5
KEPT_OF_LARGE = 64 * 1024  # what its dead letter holds of it
MAX_STATE_BYTES = 1024 * 1024  # S32: an instance's whole state
# Below the broker's default limit of a batch, 1,048,588; one more decision is well below the journal's 4 MiB.
MAX_BATCH_BYTES = 900_000
MAX_BATCH_INPUTS = 500  # so that a batch is decided in well under a second


@dataclass(frozen=True)
class Place:
    """Where a batch is made: the partition number, of how many, and the definitions."""

    number: int
    partitions: int
    book: Book


class Batch:
    """Decisions on an overlay over a fold, at one moment of the partition's time (ms)."""

    def __init__(self, place: Place, fold: Fold, now: int) -> None:
        self.place = place
        self.fold = fold
        self.now = now
        self.decisions: list[Decision] = []
        self.records: list[Record] = []  # of the decisions, as the journal will hold them
        self.states: dict[Slot, Held] = {}  # what they leave
        self.unnamed = 0  # inputs of types that no definition names
        self.size = 0
        self.inputs = 0

    @property
    def full(self) -> bool:
        return self.size >= MAX_BATCH_BYTES or self.inputs >= MAX_BATCH_INPUTS

    def result(self, decision: Decision) -> Instance | None:
        """The state that this batch leaves of a decision's instance."""
        return self.states[Slot(decision.saga, decision.key)].state if decision.seq else None

    # --- inputs ---------------------------------------------------------------------------------------------------------------------

    def take(self, record: StoredRecord, begin: int = 0) -> int:
        """Decide one record from an input topic; 0 when that is done.

        One event may start many sagas, each with large data. So a batch may be full within a record: then the answer is from where the
        next batch has to `begin`, and the input's position must not pass the record until all of it is decided. If that batch is never
        made here, the next owner decides the record from its beginning: what was decided of it is a duplicate then (S11).
        """
        self.inputs += not begin
        at = (record.topic, record.partition, record.offset)
        origin = record.place
        try:
            fields = header_fields(record.headers)
            self._refuse_stranger(record, fields)
            if "type" in fields and not self.place.book.knows(fields["type"]) and not self._of_another_version(fields):
                self.unnamed += 1
                return 0
            most = MAX_REQUEST_BYTES if record.topic == REQUESTS else MAX_INPUT_BYTES
            if (size := _size(record)) > most:
                raise Unreadable("too-large", f"the record has {size} bytes; at most {most} are possible")
            event = parse(record, fields)
            if size > most // GROWTH and (size := _written(event)) > most:
                raise Unreadable("too-large", f"as JSON the record has {size} bytes; at most {most} are possible")
        except Unreadable as error:
            self._set_aside(record, Input(Kind.OTHER, origin=origin, at=at), error)
            return 0
        forwarded = record.topic == REQUESTS and "sagaorigin" in event.attributes
        if forwarded:
            origin = event.attributes["sagaorigin"]

        def given(kind: Kind = Kind.OTHER) -> Input:
            return Input(kind, event.type, event.id, event.source, origin, at, event.data, event.attributes)

        try:
            targets = self.place.book.route(event.type, event.attributes, event.data)
            targets = targets or self._of_another_version(event.attributes)
        except Unreadable as error:
            self._set_aside(record, given(), error, tell=error.reason in ("schema", "key"))
            return 0
        here = [target for target in targets if self._home(target) == self.place.number]
        elsewhere = [] if forwarded else sorted({self._home(target) for target in targets} - {self.place.number})
        if not here and not elsewhere:
            note = "unmatched" if not targets else "not-home"
            self._add(Decision("", 0, "", given(), note, detail="it concerns no instance here"))
        return self._decide_for([*here, *elsewhere], given, record, begin)

    def timer(self, slot: Slot, step: str, due: int) -> None:
        """Decide a due timer, unless an input of this very batch has settled its step already."""
        held = self._held(slot)
        if held is None or held.state.next_timer() != (due, step):
            return
        self.inputs += 1
        target = Target(Kind.TIMER, slot.saga, slot.key)
        self._decide(target, Input(Kind.TIMER, data={"step": step, "due": due}), None)

    def other(self, note: str, detail: str) -> None:
        """Record something that concerns no instance, as a lost input that an operator accepted."""
        self._add(Decision("", 0, "", Input(Kind.OTHER), note, detail))

    # --- its pieces -----------------------------------------------------------------------------------------------------------------

    def _decide_for(self, concerned: Sequence[Target | int], given: Callable[..., Input], record: StoredRecord, begin: int) -> int:
        """A decision for each instance here and a forward to each other partition, as far as they go into this batch."""
        for number in range(begin, len(concerned)):
            if number > begin and self.size >= MAX_BATCH_BYTES:
                return number
            whom = concerned[number]
            if isinstance(whom, int):
                self._add(Decision("", 0, "", replace(given(), data=None), "forwarded", outputs=(Forward(whom, raw(record)),)))
            else:
                self._decide(whom, given(whom.kind), record)
        return 0

    def _home(self, target: Target) -> int:
        return home(target.key, self.place.partitions)

    def _decide(self, target: Target, given: Input, record: StoredRecord | None) -> None:
        slot = Slot(target.saga, target.key)
        held = self._held(slot)
        # What came before its start runs no version yet: it starts with the newest, like any other.
        version = None if held is None or held.state.phase is Phase.EARLY else held.state.version
        saga = self.place.book.definition(target.saga, version)
        decision = self._complete(decide(saga, held and held.state, given, self.now, target.key), record)
        written = decision_record(decision)
        if decision.seq:
            after = _result(held, decision, written)
            if held is not None and after.bound > MAX_STATE_BYTES:
                decision = self._complete(refuse_growth(held.state, given, self.now, after.bound), record)
                written = decision_record(decision)
                after = _result(held, decision, written)
            self.states[slot] = after
        self._add(decision, written)

    def _complete(self, decision: Decision, record: StoredRecord | None) -> Decision:
        """What only the runtime knows of outputs: the bytes of a dead letter, and the home of whom a request is for."""
        if not any(isinstance(output, DeadLetter | Request) for output in decision.outputs):
            return decision
        return replace(decision, outputs=tuple(self._completed(output, record) for output in decision.outputs))

    def _completed(self, output: Output, record: StoredRecord | None) -> Output:
        if isinstance(output, Request):
            return replace(output, partition=home(output.key, self.place.partitions))
        if record is not None and isinstance(output, DeadLetter) and output.raw is None and output.given is None:
            return replace(output, raw=raw(record))
        return output

    def _of_another_version(self, fields: Mapping[str, str]) -> list[Target]:
        """The instance that a reply is for if it runs a version that is not registered here: only that one may name the reply's
        type, or its saga. It is not passed over, but kept by the instance (S5).
        """
        try:
            saga, key = split_instance(id := instance_of(fields.get("sagacommand", "")))
        except ValueError:
            return []
        held = self._held(Slot(saga, key))
        if held is None or held.state.id != id or not held.state.live or fits(self.place.book, held.state):
            return []
        return [Target(Kind.REPLY, saga, key, id)]

    def _refuse_stranger(self, record: StoredRecord, fields: Mapping[str, str]) -> None:
        """A saga that newer code begins while a deployment rolls, and that is not registered here: nobody names its start, but it must
        not be passed over (P4). Raises Unreadable: it is redriven when all have that code; nothing of it was done until then.
        """
        name = fields.get("sagachild")
        if record.topic == REQUESTS and name and name not in self.place.book.sagas and fields.get("type") not in PARENT_TYPES:
            raise Unreadable("unknown-saga", f"another saga begins {name!r}, which is not registered here; redrive it where it is")

    def _held(self, slot: Slot) -> Held | None:
        return self.states.get(slot) or self.fold.instances.held(slot)

    def _set_aside(self, record: StoredRecord, given: Input, error: Unreadable, *, tell: bool = False) -> None:
        """Keep what cannot be read or routed as a dead letter; a sender whose start is invalid is told (S8)."""
        outputs: list[Output] = [
            DeadLetter(error.reason, error.detail, raw(record, KEPT_OF_LARGE if _size(record) > MAX_INPUT_BYTES else None))
        ]
        if tell:
            about = {"type": given.type, "id": given.id, "source": given.source, "reason": error.reason, "detail": error.detail}
            outputs.append(
                Announce(
                    "saga.rejected.v1", f"rejected:{given.identity}", about, trace.read(given.attributes.get("traceparent", ""))
                )
            )
        self._add(
            Decision(
                "", 0, "", replace(given, data=None), "deadletter", f"{error.reason}: {error.detail}"[:1000], outputs=tuple(outputs)
            )
        )

    def _add(self, decision: Decision, written: Record | None = None) -> None:
        written = written or decision_record(decision)
        self.decisions.append(decision)
        self.records.append(written)
        self.size += len(written.value or b"")


def _result(before: Held | None, decision: Decision, written: Record) -> Held:
    """What a decision leaves. Its bytes are counted only when they might be too many: it grows by no more than was written of it."""
    state = apply(None if before is None else before.state.copy(), decision)
    bound = (0 if before is None else before.bound) + len(written.value or b"") + UNWRITTEN
    return Held(state, bound if bound <= MAX_STATE_BYTES else len(encode_instance(state)))


def _size(record: StoredRecord) -> int:
    size = len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += (len(name) if name.isascii() else len(name.encode())) + len(value)
    return size


def _written(event: CloudEvent) -> int:
    return len(encode([event.type, event.id, event.source, event.data, dict(event.attributes)]))
