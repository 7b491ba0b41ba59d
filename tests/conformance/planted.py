"""What people get wrong in a participant, one mistake at a time: each class is the right one (`cup`) with one method that is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saga.log.base import Outgoing, Record, StoredRecord, TopicPartition
from saga.log.partition import home_of_bytes
from tests.conformance.cup import PARTITIONS, Cup, CupMade, Read, Row, Stopped


class NoInbox(Cup):
    """Runs what is executed again: the answer is made anew each time."""

    def again(self, command: Read, answer: Record) -> Record:
        return self.execute(command) or answer if command.action == "execute" else answer


class NewIdOnRepeat(Cup):
    """Sends the stored answer again, under a new id."""

    def again(self, command: Read, answer: Record) -> Record:
        others = tuple(header for header in answer.headers if header[0] != "ce_id")
        return Record(answer.key, answer.value, (*others, ("ce_id", f"{command.id}:{command.record.offset}".encode())))


class SilentOnRepeat(Cup):
    """Knows the copy, and says nothing."""

    def answer(self, command: Read) -> Record | None:
        known = self.inbox.get(command.id)
        return None if known is not None and known.answer is not None else super().answer(command)


class SecondEffectInSecret(Cup):
    """Answers a copy from its inbox, but fires the kiln again."""

    async def handle(self, record: StoredRecord) -> None:
        await super().handle(record)
        headers = dict(record.headers)
        if headers.get("ce_type") == b"cup.make.v1":
            told = (("ce_type", b"cup.kiln-fired.v1"), ("ce_id", record.place.encode()), ("ce_source", b"cup"))
            await self.log.publish([Outgoing(TopicPartition("cup.events", record.partition), Record(record.key, b"{}", told))])


class NoTombstone(Cup):
    """Says nothing to a compensation of what never came, and forgets it."""

    def overtaken(self, command: Read) -> Record:
        answer = super().overtaken(command)
        self.inbox.pop(command.subject, None)
        return answer


class DoneWithoutUndoing(Cup):
    """Says done to a compensation, or a verify, of what never came."""

    def overtaken(self, command: Read) -> Record:
        answer = super().overtaken(command)
        if command.action == "verify" or b"saga.nothing.v1" not in dict(answer.headers).values():
            return answer
        return self.keep(command, "done", self.undo(command))


class NothingAfterDone(Cup):
    """Gives nothing back, and says that there was nothing."""

    def undo(self, command: Read) -> Record:
        return self.keep(command, "nothing", self.nothing(command))


class ForgetsWhatWasUndone(Cup):
    """Deletes the row with the cup: a late copy makes another."""

    def undo(self, command: Read) -> Record:
        del self.inbox[command.subject]
        return super().undo(command)


class CannotFind(Cup):
    """Answers a verify from a place where the cup is not."""

    def found(self, command: Read, subject: Row) -> Record:
        del subject
        return self.keep(command, "nothing", self.nothing(command))


class FindsAnother(Cup):
    """Finds a cup, which is not the one."""

    def found(self, command: Read, subject: Row) -> Record:
        del subject
        other = CupMade(cup_id="another", number=0)
        return self.keep(command, "done", self.said(command, "done", "cup.made.v1", other.model_dump()))


class RefusesAnew(Cup):
    """Keeps no refusal: asked again it thinks again."""

    def refuse(self, command: Read) -> Record:
        answer = super().refuse(command)
        self.inbox[command.id] = Row("refused", None)
        return answer

    def nothing(self, command: Read) -> Record:
        row = self.inbox.get(command.id)
        return self.refuse(command) if row is not None and row.state == "refused" else super().nothing(command)


class BreaksWhatWasRefused(Cup):
    """Compensates what was never done."""

    def answer(self, command: Read) -> Record | None:
        subject = self.inbox.get(command.headers.get("ce_sagasubject", ""))
        refused = subject is not None and subject.state == "refused"
        return self.undo(command) if refused and command.action == "compensate" else super().answer(command)


class StoresFailed(Cup):
    """Keeps `failed` like any answer."""

    async def publish(self, command: Read, answer: Record) -> None:
        await super().publish(command, answer)
        self.inbox.setdefault(command.id, Row("refused", answer))


class SameIdForFailures(Cup):
    """One id for all failures of a command."""

    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        return super().said(command, outcome, type, data, id=f"{command.id}:failed:" if outcome == "failed" else id)


class NoEcho(Cup):
    """Answers to nobody."""

    def echoed(self) -> Sequence[str]:
        return ("ce_subject", "traceparent")


class EchoesNoAttempt(Cup):
    def echoed(self) -> Sequence[str]:
        return [name for name in super().echoed() if name != "ce_sagaattempt"]


class LosesTheTrace(Cup):
    def echoed(self) -> Sequence[str]:
        return [name for name in super().echoed() if name != "traceparent"]


class ByKey(Cup):
    """Lets its producer choose the partition."""

    def partition(self, command: Read) -> int:
        return home_of_bytes(command.record.key or b"", PARTITIONS)


class WithoutKey(Cup):
    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        made = super().said(command, outcome, type, data, id=id)
        return Record(None, made.value, made.headers)


class AnotherSource(Cup):
    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        made = super().said(command, outcome, type, data, id=id)
        return Record(made.key, made.value, tuple((n, b"kiln" if n == "ce_source" else raw) for n, raw in made.headers))


class LacksAField(Cup):
    """A value that its schema does not take."""

    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        value = {"cup_id": data["cup_id"]} if type == "cup.made.v1" else data
        return super().said(command, outcome, type, value, id=id)


class DoneUnderAnotherName(Cup):
    """Says done with a type that the command does not name."""

    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        return super().said(command, outcome, "cup.crafted.v1" if type == "cup.made.v1" else type, data, id=id)


class StopsAtGarbage(Cup):
    async def set_aside(self, record: StoredRecord, why: str) -> None:
        del record, why
        raise Stopped


class DoesWhatItCannotRead(Cup):
    """Takes an action that it does not know for an execute."""

    def read(self, record: StoredRecord) -> Read:
        spoiled = tuple(
            (n, b"execute" if n == "ce_sagaaction" and raw == b"participant-check" else raw) for n, raw in record.headers
        )
        other = StoredRecord(record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, spoiled)
        return super().read(other)


class DeadLettersWithoutReason(Cup):
    async def set_aside(self, record: StoredRecord, why: str) -> None:
        dead = Record(record.key, record.value, tuple((name, raw[:1000]) for name, raw in record.headers))
        await self.log.publish([Outgoing(TopicPartition("saga.deadletter", record.partition), dead)])
        del why


class OutOfOrder(Cup):
    def in_turn(self, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        return list(reversed(records))


class DeafOnOnePartition(Cup):
    async def handle(self, record: StoredRecord) -> None:
        if record.partition != 2:
            await super().handle(record)


class NeverForgets(Cup):
    """Runs what is older than its memory."""

    def too_old(self, command: Read) -> bool:
        del command
        return False


class ClosesWhatItForgot(Cup):
    """Says nothing where it cannot know."""

    def overtaken(self, command: Read) -> Record:
        self.inbox[command.subject] = Row("nothing", None)
        return self.keep(command, "nothing", self.nothing(command))


class Silent(Cup):
    async def handle(self, record: StoredRecord) -> None:
        del record
