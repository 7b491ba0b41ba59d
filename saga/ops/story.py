"""The story of one instance, from its decisions to lines: the one renderer for whoever tells it. Pure.

Every decision is told in order: when, what came in (`heard`), and under it what came of it (`consequences`). Between decisions that are
far apart a line says so, or the reader takes a night for a moment.

A key may have had several runs, one after the other: an undo of what had completed, or a saga that begins anew whenever it is done. They
are one story; of very many only the last are told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from saga.engine.definition import Saga
from saga.engine.state import Instance, Phase
from saga.ops.consequences import consequences
from saga.ops.heard import cause, named_instance
from saga.ops.lines import Line, Tone, tone_of
from saga.ops.look import History, Moment
from saga.ops.why import label, why
from saga.ops.words import ago, clock, day, duration, named, plain

GAP = 60_000  # ms: from here on a pause is told
MOST_RUNS = 5  # of one key; all of them are in -o json


def story(history: History, now: int, saga: Saga[Any, Any] | None = None) -> list[Line]:
    """The whole story: header, decisions, and the sentence that `why` gives. `now` in ms."""
    state = history.state
    assert state is not None, "a history without a state has no story"
    lines = [*_header(history, state, now), Line(Tone.PLAIN, "")]
    if history.trimmed:
        seen = f"up to decision {history.moments[0].decision.seq - 1}" if history.moments else f"all {state.seq} decisions of it"
        lines.append(Line(Tone.QUIET, f"What came first ({seen}) was trimmed from the journal.", level=1))
    moments, left_out = _last_runs(history.moments)
    if left_out:
        lines.append(Line(Tone.QUIET, f"{left_out} earlier run{'s' if left_out > 1 else ''} of it: see -o json.", level=1))
    last = moments[0].at if moments else now
    for moment in moments:
        if moment.at - last >= GAP or day(moment.at) != day(last):
            on = f"  ({day(moment.at)})" if day(moment.at) != day(last) else ""
            lines.append(Line(Tone.QUIET, f"┄ {duration(moment.at - last)} later{on}", level=1))
        last = moment.at
        lines.append(Line(Tone.PLAIN, cause(moment), _since(moment, state), clock(moment.at), 1))
        lines += [Line(tone, text, level=2) for tone, text in consequences(moment, saga)]
    if now - last >= GAP and (state.live or (state.phase is Phase.EARLY and state.ended is None)):
        lines.append(Line(Tone.QUIET, f"┄ {duration(now - last)} since then", level=1))
    return [*lines, Line(Tone.PLAIN, ""), Line(tone_of(label(state)), why(state, now, saga, history.sent()))]


def _header(history: History, state: Instance, now: int) -> Iterator[Line]:
    early = state.phase is Phase.EARLY
    yield Line(tone_of(label(state)), f"{state.saga} {named(state.key)} · {'not started' if early else label(state)}")
    took = f", took {duration(state.ended - state.started)}" if state.ended is not None and not early else ""
    began = f"{day(state.started)} {clock(state.started)[:8]} UTC, {ago(state.started, now)}{took}"
    yield Line(Tone.QUIET, f"waits for its start since {began}" if early else f"version {state.version} · began {began}")
    yield Line(Tone.QUIET, f"instance {plain(state.id)} · {history.partition}")
    if state.parent:
        yield Line(Tone.QUIET, f"a child of {named_instance(state.parent)}")
    for earlier in history.earlier:
        yield Line(Tone.QUIET, f"an earlier run of this key, {plain(earlier)}, was over and forgotten before")


def _last_runs(moments: Sequence[Moment]) -> tuple[Sequence[Moment], int]:
    """The decisions of the last runs, and how many runs are left out."""
    begins = [n for n, moment in enumerate(moments) if "id" in moment.decision.patch and _begins_anew(moment)]
    if len(begins) < MOST_RUNS:
        return moments, 0
    return moments[begins[-MOST_RUNS + 1] :], len(begins) - MOST_RUNS + 2


def _begins_anew(moment: Moment) -> bool:
    return moment.before is not None and moment.before.phase is not Phase.EARLY


def _since(moment: Moment, state: Instance) -> str:
    """The time since the run began that this decision is of; before its start, the time until then."""
    run = moment.after or state
    if run.phase is Phase.EARLY and state.phase is not Phase.EARLY:
        return f"-{duration(state.started - moment.at)}"
    began = run.started
    return f"+{duration(moment.at - began)}" if moment.at > began else "0 s"
