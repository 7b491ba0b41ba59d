"""What the commands that look do, once the log is open: look, and say it in the format that was asked for. Those that act: `acting`.

Each returns the exit code of the process: 0 ok, 1 failed or not known, 3 found problems.
"""

from __future__ import annotations

import getpass
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console

from saga.cloudevents import iso_time
from saga.engine.book import Book
from saga.engine.definition import Saga
from saga.engine.keys import start_key
from saga.engine.state import Instance
from saga.errors import Misconfigured
from saga.log.base import Log
from saga.ops.consequences import consequences
from saga.ops.heard import cause
from saga.ops.lines import tone_of
from saga.ops.listing import ASKED, HEADINGS, Filter, Listing, as_json, cells, listing, open_questions, question_cells
from saga.ops.look import History, Journals, Moment
from saga.ops.missing import what_is_missing
from saga.ops.operate import wall_clock
from saga.ops.output import FAILED, OK, PROBLEMS, Format, Output, progress_bar
from saga.ops.publish import publish, started_by
from saga.ops.story import story
from saga.ops.why import why
from saga.ops.words import named, plain

LONG_READ = 20_000  # records; a shorter read is over before a bar could be read


class Tool:
    """The commands over an open log. `book`: the definitions, if they are at hand."""

    def __init__(self, log: Log, output: Output, messages: Console, book: Book | None) -> None:
        self.log = log
        self.output = output
        self.messages = messages
        self.book = book

    def definition(self, state: Instance) -> Saga[Any, Any] | None:
        """The definition that an instance runs, or another version of it; None if it is not at hand."""
        return self.book.definition(state.saga, state.version) if self.book is not None else None

    async def list(self, wanted: Filter, limit: int) -> int:
        now = wall_clock()
        with self.journals() as journals:
            found = await self.listing(journals, wanted, now, limit)
        self.rows(found.rows, now)
        if self.output.for_people:
            self.say(_summary(found, wanted))
        return OK

    async def listing(self, journals: Journals, wanted: Filter, now: int, limit: int = 0) -> Listing:
        """What a filter takes. Raises Misconfigured for a saga, a step or a reason that neither the journal nor the app knows."""
        found = await listing(journals, wanted, now, limit, self.definition)
        for saga in self.book.all() if self.book is not None else ():
            found.steps.setdefault(saga.name, set()).update(saga.steps)
        found.require_known(wanted)
        return found

    async def show(self, key: str, saga: str | None) -> int:
        histories = await self.histories(key, saga, whole=True)
        now = wall_clock()
        if not histories:
            return FAILED
        if not self.output.for_people:
            by_decision = self.output.format is Format.JSONL
            full = [self._full(history, now) for history in histories]
            self.output.values([moment for one in full for moment in one["decisions"]] if by_decision else full)
            return OK
        for number, history in enumerate(histories):
            if number:
                self.output.text("")
            self.output.story(story(history, now, self.definition(state_of(history))))
        return OK

    async def why(self, key: str, saga: str | None) -> int:
        histories = await self.histories(key, saga, whole=False)
        if not histories:
            return FAILED
        now, said = wall_clock(), []
        for history in histories:
            state = state_of(history)
            said.append(_about(state) | {"why": why(state, now, self.definition(state), history.sent())})
        if not self.output.for_people:
            self.output.values(said)
        for one in said if self.output.for_people else ():
            self.output.text(one["why"], tone_of(one["state"]))
        return PROBLEMS if any(one["state"] == "parked" for one in said) else OK

    async def questions(self, role: str | None, saga: str | None) -> int:
        now = wall_clock()
        assert self.book is not None, "who may answer stands in the definitions"
        if saga is not None and saga not in self.book.sagas:
            raise Misconfigured(f"--saga {plain(saga)}: there is none; known are {', '.join(sorted(self.book.sagas))}")
        with self.journals() as journals:
            found = await open_questions(journals, self.definition, role, saga)
        if not self.output.for_people:
            self.output.values([question.to_json() for question in found])
        else:
            self.output.table(ASKED, [question_cells(question, now) for question in found])
            self.say(f"{len(found) or 'no'} question{'s' if len(found) != 1 else ''} open" + (f" for {role}" if role else ""))
            for question in {(one.saga, one.step): one for one in reversed(found)}.values():  # the first of each
                self.say(f"  {question.line()}")
        return OK

    async def publish(self, type: str, data: Any) -> int:
        sagas = self.book.sagas if self.book is not None else {}
        known = await self._known_already([(saga.name, start_key(saga, data)) for saga in started_by(sagas, type)])
        published = await publish(self.log, sagas, type, data)
        for text in published.passed_over:
            self.say(f"saga: {text}{'' if text.endswith('?') else '.'} It was published, and this is passed over.")
        for name, key in known:
            find = f"saga show {shlex.quote(plain(key))} --saga {name}"
            self.say(
                f"saga: {name} {named(key)} is there already: its data again changes nothing, other data is refused; see `{find}`"
            )
        if self.output.for_people:
            self.output.text(
                f"{type} is in {published.to.topic}, for {', '.join(f'{saga} {named(key)}' for saga, key in published.instances)}"
            )
        else:
            instances = [{"saga": saga, "key": key} for saga, key in published.instances]
            self.output.values(
                [{"id": published.id, "topic": published.to.topic, "partition": published.to.partition, "for": instances}]
            )
        return OK

    async def _known_already(self, instances: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        with self.journals() as journals:
            return [(name, key) for name, key in instances if await journals.histories(key, name, whole=False)]

    # --- its pieces -------------------------------------------------------------------------------------------------------------------

    async def histories(self, key: str, saga: str | None, *, whole: bool) -> Sequence[History]:
        with self.journals() as journals:
            found = await journals.histories(key, saga, whole=whole)
            if not found:
                await self._say_missing(journals, key, saga)
        return found

    async def _say_missing(self, journals: Journals, key: str, saga: str | None) -> None:
        place = await journals.home(key)
        topics = self.book.topics if self.book is not None else ()
        what = await what_is_missing(self.log, await journals.fold(place), key, topics, wall_clock())
        of = f" of saga {plain(saga)}" if saga is not None else ""
        self.say(f"saga: there is no instance{of} with the key '{plain(key)}' in {place}; {what}")

    def rows(self, states: Sequence[Instance], now: int) -> None:
        if self.output.for_people:
            self.output.table(HEADINGS, [cells(state, now, self.definition(state)) for state in states])
        else:
            self.output.values([as_json(state) for state in states])

    def _full(self, history: History, now: int) -> dict[str, Any]:
        state = state_of(history)
        return as_json(state) | {
            "why": why(state, now, self.definition(state), history.sent()),
            "trimmed": history.trimmed,
            "earlier": history.earlier,
            "decisions": [_moment(history, moment, self.definition(state)) for moment in history.moments],
        }

    def say(self, text: str) -> None:
        self.messages.print(text, markup=False, soft_wrap=not self.messages.is_terminal)

    @contextmanager
    def journals(self) -> Iterator[Journals]:
        """A reader of the journal; a long read shows how far it is, if stderr is a terminal."""
        with progress_bar(self.messages, "reading the journal", least=LONG_READ) as tell:
            yield Journals(self.log, tell)


def login_name() -> str:
    """Raises Misconfigured if the system does not know."""
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise Misconfigured(f"say who you are with --who; the system does not know: {error}") from None


def state_of(history: History) -> Instance:
    assert history.state is not None, "a history is only given out with its state"
    return history.state


def _about(state: Instance) -> dict[str, Any]:
    return {name: value for name, value in as_json(state).items() if name != "full"}


def _moment(history: History, moment: Moment, saga: Saga[Any, Any] | None) -> dict[str, Any]:
    """A decision for other programs: in words, and whole."""
    value = asdict(moment.decision)
    return {
        "saga": history.saga,
        "key": history.key,
        "at": iso_time(moment.at),
        "partition": history.partition.partition,
        "offset": moment.offset,
        "cause": cause(moment),
        "came_of_it": [text for _, text in consequences(moment, saga)],
        "decision": value | {"data": moment.decision.data[0] if moment.decision.data is not None else None},
    }


def _summary(found: Listing, wanted: Filter) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(found.counts.items())) or "no instances"
    if found.taken > len(found.rows):
        return f"{states}; the oldest {len(found.rows)} of {found.taken} are shown, --limit 0 shows all"
    if found.counts and not found.rows:
        return f"{states}; " + ("none is live, --state all shows all" if wanted == Filter() else "none fits what was asked for")
    return states
