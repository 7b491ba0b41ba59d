"""Each live instance, held against the classes of the version that it runs. Pure, but that the classes' own validators run.

What an instance holds was written by the code of its time and is read by the code of today: its data with each decision, a command
that was sent when it has to be verified or undone, an input that was kept when an operator lets it go on. The naive check is a unit
test of the classes, which knows what the code of today writes. What the code of last month wrote stands in the journal only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError

from saga.engine.book import Book
from saga.engine.decision import Input, Kind
from saga.engine.definition import Saga
from saga.engine.draft import Draft, Ignored, UserCodeRaised, own
from saga.engine.kinds import Mapped, Wait
from saga.engine.messages import faults
from saga.engine.replies import Reply
from saga.engine.state import UNSETTLED, Instance, Phase, Status, base_name
from saga.ops.check_findings import About, Findings, Weight
from saga.ops.words import last_line
from saga.runtime.versions import fits

_MAY_BE_UNDONE = (*UNSETTLED, Status.DONE, Status.UNKNOWN, Status.COMPENSATING)


def check_instance(book: Book, state: Instance, found: Findings) -> None:
    """Note what the code at hand could not read of one instance. What has ended and is nobody's child needs nothing any more."""
    if not (state.live or state.phase is Phase.EARLY or _may_be_undone(state)):
        return
    about = found.of(state.saga, state.version)
    if state.phase is Phase.EARLY:
        newest = book.definition(state.saga)
        if newest is None:
            about.add(Weight.BREAKS, "events wait for its start, but it is not in the app", state.id)
        else:
            _inputs(found.of(newest.name, newest.version), newest, state)
        return
    about.seen(state.started)
    saga = book.definition(state.saga, state.version)
    if saga is None or not fits(book, state):
        return  # the definition as such is told of
    _data(about, saga, state)
    _sent(about, saga, state)
    _inputs(about, saga, state)


def _may_be_undone(state: Instance) -> bool:
    """A child that has ended, and whose parent may still turn back (S28)."""
    return state.phase is Phase.COMPLETED and bool(state.parent) and state.keep_until is None


def _data(about: About, saga: Saga[Any, Any], state: Instance) -> None:
    """Its data must be readable, and come back as it was: what does not would be gone with the next decision that changes it."""
    if state.data is None:
        return  # parked at its start: there is none yet
    try:
        again = orjson.loads(orjson.dumps(saga.data.model_validate(own(state.data)).model_dump(mode="json")))
    except (Exception, SystemExit) as error:
        about.add(Weight.BREAKS, f"its data is no valid {saga.data.__name__}: {_said(error)}", state.id)
        return
    for kind, field in fields_changed(state.data, again):
        if kind == "new":
            about.add(Weight.DIFFERS, f"its data gets a new field: {field}", state.id)
        else:
            about.add(Weight.BREAKS, f"{saga.data.__name__} does not give its data back as it is: {field} is {kind}", state.id)


def _sent(about: About, saga: Saga[Any, Any], state: Instance) -> None:
    """What was sent must be readable where it may have to be asked about or undone."""
    forward = any(state.steps[name].status is Status.DONE for name in saga.graph.pivots if name in state.steps)
    for name, at in state.steps.items():
        step = saga.steps[base_name(name)]
        undone = step.undoable and at.status in _MAY_BE_UNDONE and not forward
        asked = step.finder is not None and at.status in UNSETTLED
        if isinstance(step, Mapped) and name == step.name:
            if undone or at.status is Status.EXECUTING:
                for item in at.sent:
                    _reads(about, f"an item of {name} is not valid", _bound(step.item.validate_python, item), state)
        elif (undone or asked) and at.sent is not None and hasattr(step.command_class, "__service__"):
            read = step.command_class.model_validate  # type: ignore[union-attr]
            what = f"the command of {base_name(name)} as it was sent is no valid {step.command_class.__name__}"  # type: ignore[union-attr]
            _reads(about, f"{what}, and may be needed to {'undo' if undone else 'verify'} it", _bound(read, at.sent), state)


def _inputs(about: About, saga: Saga[Any, Any], state: Instance) -> None:
    """What was kept for it must be readable when its turn comes."""
    for item in [*state.kept, *state.early]:
        given = Input.from_json(item)
        what = f"{given.type}, which is kept for it, is not valid"
        if given.kind is Kind.START:
            _reads(about, what, _bound(saga.starts_on.model_validate, given.data), state)
        elif given.kind is Kind.REPLY:
            _reads(about, what, partial(Reply, Draft(saga, state, 0), given), state)
        elif given.kind is Kind.EVENT:
            for step in saga.steps.values():
                if isinstance(step, Wait) and step.event.__type__ == given.type:
                    _reads(about, what, _bound(step.event.model_validate, given.data), state)


def _reads(about: About, what: str, read: Callable[[], Any], state: Instance) -> None:
    try:
        read()
    except Ignored:
        pass  # it is kept, but changes nothing: late, or nothing that was ever asked
    except (Exception, SystemExit) as error:
        about.add(Weight.BREAKS, f"{what}: {_said(error)}", state.id)


def _bound(read: Callable[[Any], Any], data: Any) -> Callable[[], Any]:
    return lambda: read(own(data))


def _said(error: BaseException) -> str:
    """Without values, which may be private."""
    if isinstance(error, ValidationError):
        return faults(error)
    return last_line(error.detail) if isinstance(error, UserCodeRaised) else f"{type(error).__name__}: {error}"


def fields_changed(was: Any, now: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """What differs between two JSON values: ("new" | "gone" | "another", the path of the field)."""
    if not (isinstance(was, dict) and isinstance(now, dict)):
        if was != now:
            yield "another", path or "all of it"
        return
    for name in sorted(was.keys() | now.keys()):
        inner = f"{path}.{name}" if path else name
        if name not in now:
            yield "gone", inner
        elif name not in was:
            yield "new", inner
        else:
            yield from fields_changed(was[name], now[name], inner)
