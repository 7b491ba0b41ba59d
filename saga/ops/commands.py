"""What the commands of an operator do, once the log is open: look, and say it in the format that was asked for.

Each returns the exit code of the process: 0 ok, 1 failed or not known, 3 found problems.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from saga.cloudevents import iso_time
from saga.engine.definition import Saga
from saga.engine.state import Instance, Phase
from saga.errors import Misconfigured
from saga.log.base import Log
from saga.ops.listing import HEADINGS, Filter, Listing, as_json, cells, listing
from saga.ops.look import History, Journals, Moment
from saga.ops.operate import Act, Answer, Came, Operator, Target
from saga.ops.output import FAILED, OK, PROBLEMS, Format, Output
from saga.ops.publish import publish
from saga.ops.story import Tone, cause, consequences, story, tone_of
from saga.ops.why import why
from saga.ops.words import ago, plain

LONG_READ = 20_000  # records; a shorter read is over before a bar could be read
_TONES = {
    Came.RETRIED: Tone.GOOD,
    Came.PARKED: Tone.STUCK,
    Came.REFUSED: Tone.BAD,
    Came.UNKNOWN: Tone.BAD,
    Came.UNDECIDED: Tone.STUCK,
}


@dataclass(frozen=True)
class Chosen:
    """What is to be retried: one key (`filter.saga` narrows it), or all that a filter takes; those only with `yes`."""

    key: str | None
    filter: Filter
    yes: bool


class Tool:
    """The commands over an open log. `sagas`: the definitions by name, as far as they are at hand."""

    def __init__(self, log: Log, output: Output, messages: Console, sagas: Mapping[str, Saga[Any, Any]]) -> None:
        self.log = log
        self.output = output
        self.messages = messages
        self.sagas = sagas

    async def list(self, wanted: Filter, limit: int) -> int:
        now = wall_clock()
        with self._journals() as journals:
            found = await listing(journals, wanted, now, limit)
        self._rows(found.rows, now)
        if self.output.for_people:
            self._say(_summary(found, wanted))
        return OK

    async def show(self, key: str, saga: str | None) -> int:
        histories = await self._histories(key, saga, whole=True)
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
            self.output.story(story(history, now, self.sagas.get(history.saga)))
        return OK

    async def why(self, key: str, saga: str | None) -> int:
        histories = await self._histories(key, saga, whole=False)
        if not histories:
            return FAILED
        now, said = wall_clock(), []
        for history in histories:
            state = _state(history)
            said.append(_about(state) | {"why": why(state, now, self.sagas.get(state.saga), history.sent())})
        if not self.output.for_people:
            self.output.values(said)
        for one in said if self.output.for_people else ():
            self.output.text(one["why"], tone_of(one["state"]))
        return PROBLEMS if any(one["state"] == "parked" for one in said) else OK

    async def retry(self, chosen: Chosen, act: Act) -> int:
        found = await (self._one(chosen.key, chosen.filter.saga) if chosen.key is not None else self._many(chosen))
        if late := late_to_retry(found, wall_clock()):
            self._say(f"saga: {late}")
        if not found:
            return FAILED if chosen.key is not None else OK
        if not (chosen.yes or chosen.key is not None):
            self._say(f"{len(found)} would be retried; nothing was done. To do it: --yes --why TEXT")
            return OK
        targets = [Target(state.saga, state.key) for state in found]
        operator = Operator(self.log, act, self._tell if self.output.for_people else None)
        try:
            answers = await operator.retry(targets)
        except BaseException:  # Ctrl-C among them: say what is on its way before going
            self._say(
                f"stopped: {operator.sent} of {len(targets)} were sent, {len(operator.answers)} of them decided; "
                "what was sent will be decided all the same"
            )
            raise
        if not self.output.for_people:
            self.output.values([answer.to_json() for answer in answers])
        elif len(targets) > 1:
            self._say(
                ", ".join(f"{sum(a.came is came for a in answers)} {came}" for came in Came if any(a.came is came for a in answers))
            )
        return _exit_code(answers)

    async def publish(self, type: str, data: Any) -> int:
        published = await publish(self.log, self.sagas, type, data)
        if self.output.for_people:
            self.output.text(
                f"{type} is in {published.to.topic}, for {', '.join(f'{saga} {plain(key)}' for saga, key in published.instances)}"
            )
        else:
            instances = [{"saga": saga, "key": key} for saga, key in published.instances]
            self.output.values(
                [{"id": published.id, "topic": published.to.topic, "partition": published.to.partition, "for": instances}]
            )
        return OK

    # --- its pieces -------------------------------------------------------------------------------------------------------------------

    async def _one(self, key: str, saga: str | None) -> Sequence[Instance]:
        histories = await self._histories(key, saga, whole=False)
        if len(histories) > 1:
            names = ", ".join(history.saga for history in histories)
            raise Misconfigured(f"{plain(key)} is a key of several sagas ({names}); say which with --saga")
        return [_state(history) for history in histories]

    async def _many(self, chosen: Chosen) -> Sequence[Instance]:
        """Those that fit; unless they are to be retried they are shown."""
        now = wall_clock()
        with self._journals() as journals:
            found = await listing(journals, chosen.filter, now)
        if not found.rows:
            self._say("no parked instance fits; nothing to do")
        if not chosen.yes:
            self._rows(found.rows, now)
        return found.rows

    async def _histories(self, key: str, saga: str | None, *, whole: bool) -> Sequence[History]:
        with self._journals() as journals:
            found = await journals.histories(key, saga, whole=whole)
            place = await journals.home(key)
        if not found:
            of = f" of saga {plain(saga)}" if saga is not None else ""
            self._say(f"saga: there is no instance{of} with the key '{plain(key)}' in {place}; it never started, or was forgotten")
        return found

    def _rows(self, states: Sequence[Instance], now: int) -> None:
        if self.output.for_people:
            self.output.table(HEADINGS, [cells(state, now) for state in states])
        else:
            self.output.values([as_json(state) for state in states])

    def _full(self, history: History, now: int) -> dict[str, Any]:
        state = _state(history)
        return as_json(state) | {
            "why": why(state, now, self.sagas.get(state.saga), history.sent()),
            "trimmed": history.trimmed,
            "earlier": history.earlier,
            "decisions": [_moment(history, moment) for moment in history.moments],
        }

    def _tell(self, answer: Answer) -> None:
        who = f"{answer.target.saga} {plain(answer.target.key)}"
        self.output.text(f"{who} {answer.came}: {answer.detail}", _TONES[answer.came])

    def _say(self, text: str) -> None:
        self.messages.print(text, markup=False, soft_wrap=not self.messages.is_terminal)

    @contextmanager
    def _journals(self) -> Iterator[Journals]:
        """A reader of the journal; a long read shows how far it is, if stderr is a terminal."""
        bar = Progress(
            TextColumn("reading the journal"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self.messages,
            transient=True,
            disable=not self.messages.is_terminal,
        )
        task = bar.add_task("", visible=False)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total > LONG_READ)

        with bar:
            yield Journals(self.log, progress)


def wall_clock() -> int:
    """Now, in ms since 1970; only ages are reckoned with it."""
    return round(time.time() * 1000)


def late_to_retry(states: Sequence[Instance], now: int) -> str:
    """A warning of those that will not go on but back: their deadline passed while they were parked, and timers stood still (S29)."""
    late = [
        state
        for state in states
        if state.parked and state.phase is Phase.RUNNING and not state.deadline_over and state.deadline < now
    ]
    if not late:
        return ""
    first = min(late, key=lambda state: state.deadline)
    name, passed = f"{first.saga} {plain(first.key)}", ago(first.deadline, now)
    whose = (
        f"the deadline of {name} passed {passed}" if len(late) == 1 else f"the deadline of {len(late)} passed, of {name} {passed}"
    )
    return f"{whose}: once retried, what has not come to its pivot turns back at once"


def login_name() -> str:
    """Raises Misconfigured if the system does not know."""
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise Misconfigured(f"say who you are with --who; the system does not know: {error}") from None


def _state(history: History) -> Instance:
    assert history.state is not None, "a history is only given out with its state"
    return history.state


def _about(state: Instance) -> dict[str, Any]:
    return {name: value for name, value in as_json(state).items() if name != "full"}


def _moment(history: History, moment: Moment) -> dict[str, Any]:
    """A decision for other programs: in words, and whole."""
    value = asdict(moment.decision)
    return {
        "saga": history.saga,
        "key": history.key,
        "at": iso_time(moment.at),
        "partition": history.partition.partition,
        "offset": moment.offset,
        "cause": cause(moment),
        "came_of_it": [text for _, text in consequences(moment)],
        "decision": value | {"data": moment.decision.data[0] if moment.decision.data is not None else None},
    }


def _summary(found: Listing, wanted: Filter) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(found.counts.items())) or "no instances"
    if found.taken > len(found.rows):
        return f"{states}; the oldest {len(found.rows)} of {found.taken} are shown, --limit 0 shows all"
    if found.counts and not found.rows:
        return f"{states}; " + ("none is live, --state all shows all" if wanted == Filter() else "none fits what was asked for")
    return states


def _exit_code(answers: Sequence[Answer]) -> int:
    came = {answer.came for answer in answers}
    if came & {Came.UNKNOWN, Came.UNDECIDED}:
        return FAILED
    return PROBLEMS if came & {Came.PARKED, Came.REFUSED} else OK
