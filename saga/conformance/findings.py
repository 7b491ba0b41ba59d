"""What was found: a line for each check, and for one that does not hold what was expected, what came, and which rule says so.

A rule is a sentence of docs/PROTOCOL.md, word for word; a test compares them. So whoever wrote a participant from the page finds the
place, and a page that changes without its checks is noticed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Result(StrEnum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"  # it could not be looked at; `remark` says why


class Rule(StrEnum):
    """Sentences of docs/PROTOCOL.md, without its marks for code and stress."""

    ANSWER = "Answer every command, on <service>.events, on the partition number that the command came from."
    ECHO = "Echo its saga headers."
    KEY = "Key: the command's key."
    HEADERS = "ce_source: your service's name"
    TYPES = "Which replies and refusals a command may be answered with stands in the description of its schema"
    TRACE = "traceparent: as it came"
    INBOX = "A command whose answer is there is not run again; it gets the same answer again, byte for byte."
    ONCE = "Each effect must happen once."
    TOMBSTONE = "A compensation of a command that you have never seen leaves a tombstone and answers nothing."
    CLOSED = "The command, should it still come, is answered nothing and not run."
    NEVER = "verify: it was not done and never will be."
    UNDONE = "Never answer a compensation nothing if the execute was answered done"
    LATE_COPY = "done stays done after its compensation: it was done, and then undone, and a late copy of the execute is told so."
    REFUSED = 'A business "no" is refused, and means that nothing was done.'
    FOUND = "say what was done is done with the value of the execute's answer."
    FAILED = "Never store them. Give each a new ce_id, or a second failure is taken for a copy of the first."
    ORDER = "Handle different keys at the same time if you like, but one key in order."
    EXPIRED = "A command whose ce_time is more than 30 days ago is answered expired. It is not looked up and not run."
    FORGOTTEN = "A compensate or verify whose subject has no row is answered expired, with no tombstone"
    UNREADABLE = "A command that you will never understand must not block its partition."
    TWICE = "A ce_ header that stands twice, or is not UTF-8, cannot be read either"
    DEADLETTER = "Put the record, as it came, on saga.deadletter, with these headers added"


@dataclass(frozen=True)
class Finding:
    """One check. `about`: the command type, or "" for what holds of all answers; `where`: the record that gave it away."""

    check: str
    about: str
    says: str
    rule: Rule
    result: Result = Result.OK
    expected: str = ""
    came: str = ""
    where: str = ""
    remark: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Claim:
    """What is to be found out: a check before its result is known."""

    check: str
    about: str
    says: str
    rule: Rule

    def holds(self, remark: str = "") -> Finding:
        return Finding(self.check, self.about, self.says, self.rule, remark=remark)

    def fails(self, expected: str, came: str, where: str = "") -> Finding:
        return Finding(self.check, self.about, self.says, self.rule, Result.FAILED, expected, came, where)

    def skipped(self, why: str) -> Finding:
        return Finding(self.check, self.about, self.says, self.rule, Result.SKIPPED, remark=why)
