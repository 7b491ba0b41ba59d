"""Who takes what a saga sends: services that keep the protocol, and the other sagas that it starts.

An inbox row for each command with its answer, a tombstone where a compensation or a question comes first, and a failure leaves nothing. A
child is one more service: it ends completed or compensated, and undoes itself when it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from saga.engine.decision import Input, Request, Send
from saga.engine.kinds import Waiting
from saga.engine.messages import CHILD_COMPENSATED, CHILD_COMPLETED, CHILD_REJECTED, NOTHING, RELEASE, Message
from saga.engine.state import Action, base_name
from saga.testing.decisions import child_end, reply_to
from saga.testing.exploration.mail import Mail, id_of

if TYPE_CHECKING:
    from saga.testing.exploration.world import World

FAILED = "failed"


class Row(NamedTuple):
    """What an inbox says of a command."""

    outcome: str
    message: Message | None = None
    type: str = ""  # of a child's answer


Verdict = type[Message] | Message | str | None  # a refusal, one of several replies, FAILED or a child's end; None: all is well


def serve(world: World, mail: Mail, verdict: Verdict) -> Input | None:
    """The answer to a command; None where none is given. The world is a copy, and is changed."""
    given = mail.given
    if isinstance(given, Send):
        return _service(world, mail, given, verdict)
    assert isinstance(given, Request)
    return _other_saga(world, mail, given, verdict)


def _service(world: World, mail: Mail, send: Send, verdict: Verdict) -> Input:
    place = (send.service, send.command)
    if place not in world.rows:
        if verdict == FAILED:
            return reply_to(send, "failed", id=f"{send.command}:{send.attempt}:failed", reason="out of order")
        row = _answer(world, mail, send, verdict)  # first: it may leave a row of its own
        world.rows = {**world.rows, place: row}
    row = world.rows[place]
    return reply_to(send, row.outcome, row.message)


def _answer(world: World, mail: Mail, send: Send, verdict: Any) -> Row:
    samples = world.setting.samples
    if isinstance(verdict, type):
        return Row("refused", samples.answers(send, verdict)[0])
    reply = verdict or samples.answers(send, samples.commands[send.type].__reply__)[0]
    if mail.action == Action.EXECUTE:
        _does(world, mail, send.command)
        return Row("done", reply)
    subject = (send.service, send.subject)
    row = world.rows.get(subject, Row("nothing"))
    world.rows = {**world.rows, subject: row}  # where there was none, there will never be another
    if mail.action == Action.COMPENSATE:
        world.undone |= {send.subject}
    if row.outcome != "done":
        return Row("nothing")
    if mail.action == Action.VERIFY:
        return row
    _undoes(world, mail, send.subject)
    return Row("done", reply)


def _other_saga(world: World, mail: Mail, request: Request, verdict: Verdict) -> Input | None:
    """A child's answer. A chain, and a child that is released, answer nothing."""
    if request.type == RELEASE:
        return None
    id = id_of(request)
    place = (request.attributes["sagachild"], id)
    if place not in world.rows:
        row = _outcome(world, mail, request, str(verdict or ""))
        world.rows = {**world.rows, place: row}
    row = world.rows[place]
    if "sagaparent" not in request.attributes:
        return None
    return child_end(place[0], id, row.outcome, row.type, row.message)


def _outcome(world: World, mail: Mail, request: Request, verdict: str) -> Row:
    if verdict:
        return Row("refused", None, verdict)
    child = request.attributes["sagachild"]
    if mail.action == Action.EXECUTE:
        _does(world, mail, id_of(request))
        data: Any = world.setting.samples.outcome(request, world.setting.samples.others[child])
        return Row("done", data, CHILD_COMPLETED)
    subject = request.attributes["sagasubject"]
    row = world.rows.get((child, subject), Row("nothing", None, NOTHING))
    world.rows = {**world.rows, (child, subject): row}
    world.undone |= {subject}
    if row.outcome != "done":
        return Row("nothing", None, NOTHING)
    _undoes(world, mail, subject)
    return Row("done", None, CHILD_COMPENSATED)


CHILD_ENDS = {CHILD_COMPENSATED: "is compensated", CHILD_REJECTED: "cannot start"}


def _does(world: World, mail: Mail, command: str) -> None:
    if isinstance(world.setting.saga.steps[base_name(mail.step)], Waiting):
        return  # a remedy, of which nothing is ever undone
    world.setting.judge.does(world, mail.step, command)
    world.effects = {**world.effects, command: world.effects.get(command, 0) + 1}


def _undoes(world: World, mail: Mail, subject: str) -> None:
    world.setting.judge.undoes(world, mail.step)
    world.effects = {**world.effects, subject: world.effects.get(subject, 0) - 1}
