"""What every answer must look like, whatever it says: looked at on each answer that is heard, told once for all of them.

A settled answer (`done`, `refused`, `nothing`) is looked at when it is first given. What is given again later has to be the same, which
is another check; so each mistake is found in one place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from saga.cloudevents import parse_time
from saga.conformance.findings import Claim, Finding, Rule
from saga.conformance.player import OUTCOMES, Heard, Sent, Talk
from saga.conformance.samples import invalid
from saga.log.partition import home

PLACE = Claim("place", "", "answers stand on the partition number of their command", Rule.ANSWER)
KEY = Claim("key", "", "answers have the key of their command", Rule.KEY)
ECHO = Claim("echo", "", "answers echo the command's saga headers and its subject", Rule.ECHO)
HEADERS = Claim("headers", "", "answers are CloudEvents with the ids that the page gives", Rule.HEADERS)
PAYLOAD = Claim("payload", "", "outcome, type and value are ones that the command may be answered with", Rule.TYPES)
TRACE = Claim("trace", "", "answers carry the command's traceparent", Rule.TRACE)
CLAIMS = (PLACE, KEY, ECHO, HEADERS, PAYLOAD, TRACE)

_ECHOED = ("ce_sagainstance", "ce_sagacommand", "ce_sagaaction", "ce_sagaattempt", "ce_subject")
_SETTLED = ("done", "refused", "nothing")


class Fault(NamedTuple):
    claim: Claim
    expected: str
    came: str


class Form:
    """Collects what is wrong with answers. `partitions`: how many `<service>.events` has."""

    def __init__(self, service: str, partitions: int) -> None:
        self._service = service
        self._partitions = partitions
        self._seen: set[str] = set()
        self._looked = 0
        self._away = False  # one was asked on another partition than its key's home, so PLACE means something
        self._faults: dict[Claim, list[tuple[Fault, str]]] = {claim: [] for claim in CLAIMS}

    def look(self, talk: Talk, sent: Sent, heard: Heard) -> None:
        """Look at an answer, unless it is one that was given before."""
        known = heard["ce_id"] if heard.outcome in ("failed", "expired") else sent.id
        if known in self._seen:
            return
        self._seen.add(known)
        self._looked += 1
        self._away |= sent.to.partition != home(talk.key, self._partitions)
        for fault in self._of(talk, sent, heard):
            self._faults[fault.claim].append((fault, heard.record.place))

    def findings(self) -> list[Finding]:
        return [self._finding(claim) for claim in CLAIMS]

    def _finding(self, claim: Claim) -> Finding:
        if not self._looked:
            return claim.skipped("nothing was answered")
        if faults := self._faults[claim]:
            (fault, where), count = faults[0], len(faults)
            many = f" (the first of {count}, of {self._looked} answers)" if count > 1 else f" (1 of {self._looked} answers)"
            return claim.fails(fault.expected, fault.came + many, where)
        if claim is PLACE and not self._away:
            return claim.skipped("with one partition there is no other")
        return claim.holds(f"{self._looked} answers")

    def _of(self, talk: Talk, sent: Sent, heard: Heard) -> Iterator[Fault]:
        partition = sent.to.partition if sent.to.partition < self._partitions else home(talk.key, self._partitions)
        if heard.record.partition != partition:
            yield Fault(PLACE, f"partition {partition}, where its command was", f"partition {heard.record.partition}")
        if heard.record.key != sent.record.key:
            yield Fault(KEY, talk.key, _shown(heard.record.key))
        given = _given(sent)
        for name in _ECHOED:
            if heard[name] != given[name]:
                yield Fault(ECHO, f"{name}: {given[name]}", _header(heard, name))
                break
        if heard["traceparent"] != talk.traceparent:
            yield Fault(TRACE, f"traceparent: {talk.traceparent}", _header(heard, "traceparent"))
        yield from self._headers(sent, heard)
        yield from _payload(sent, heard)

    def _headers(self, sent: Sent, heard: Heard) -> Iterator[Fault]:
        if heard.doubled:
            yield Fault(HEADERS, "each header once", f"{heard.doubled[0]} stands twice")
        wanted = {"ce_specversion": "1.0", "content-type": "application/json", "ce_source": self._service}
        for name, text in wanted.items():
            if heard[name] != text:
                yield Fault(HEADERS, f"{name}: {text}", _header(heard, name))
                return
        if parse_time(heard["ce_time"]) is None:
            yield Fault(HEADERS, "ce_time: a time, as RFC 3339 writes it", _header(heard, "ce_time"))
        if heard.outcome in _SETTLED and heard["ce_id"] != f"{sent.id}:reply":
            yield Fault(HEADERS, f"ce_id: {sent.id}:reply", _header(heard, "ce_id"))
        elif heard.outcome in ("failed", "expired") and not heard["ce_id"].startswith(f"{sent.id}:{heard.outcome}:"):
            yield Fault(HEADERS, f"ce_id: {sent.id}:{heard.outcome}:<where the command stood>", _header(heard, "ce_id"))


def _payload(sent: Sent, heard: Heard) -> Iterator[Fault]:
    if heard.outcome not in OUTCOMES:
        yield Fault(PAYLOAD, f"ce_sagaoutcome: {', '.join(OUTCOMES)}", _header(heard, "ce_sagaoutcome"))
        return
    types = sent.types.get(heard.outcome, ())
    if heard.type not in types:
        yield Fault(PAYLOAD, f"{heard.outcome} as {' or '.join(types) or 'nothing: this command names no refusal'}", str(heard))
        return
    data = heard.data
    if not isinstance(data, dict):
        yield Fault(PAYLOAD, "a JSON object", _shown(heard.record.value))
    elif (model := _model(sent, heard.type)) is not None and (faults := invalid(model, data)):
        yield Fault(PAYLOAD, f"a valid {heard.type}", faults)
    elif heard.outcome in ("failed", "expired") and not isinstance(data.get("reason"), str):
        yield Fault(PAYLOAD, '{"reason": "…"}', _shown(heard.record.value))


def _model(sent: Sent, type: str) -> Any:
    return next((model for model in (sent.command.__reply__, *sent.command.__refusals__) if model.__type__ == type), None)


def _given(sent: Sent) -> dict[str, str]:
    return {name: raw.decode() for name, raw in sent.record.headers}


def _header(heard: Heard, name: str) -> str:
    return f"{name}: {heard[name][:200]}" if name in heard.fields else f"no {name}"


def _shown(raw: bytes | None) -> str:
    return "nothing" if raw is None else raw[:200].decode(errors="replace")
