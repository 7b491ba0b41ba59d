"""What can happen next in a world: by itself, late, or by a fault.

By itself: what is on its way arrives in order; then time passes; then what was held back comes; then an operator looks at what is parked.
What was held back may also come earlier, whenever its step has moved on: that is no further fault, but another way for the same one to
go. A fault hits the message that would arrive next, or the orchestrator. Faults that cannot be told apart are one: a message that is lost
is one that is late, and comes when all is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from saga.engine.decision import Input, Kind, Send
from saga.engine.state import step_and_action
from saga.ops.story import cause
from saga.testing.exploration.judge import MAX_RETRIES, Broken
from saga.testing.exploration.world import Mail, World

MOST_ATTEMPTS = 2  # of a command that single faults hit: what is true of the second is true of the third
FOR_GOOD = "at every attempt"


class Fault(NamedTuple):
    """One fault that is possible in a world, in words; `strike` makes it happen in a copy.

    `of_orchestrator`: it hits no message, and makes no difference between one later attempt and another.
    """

    words: str
    strike: Callable[[World], None]
    of_orchestrator: bool = False


# --- by itself ------------------------------------------------------------------------------------------------------------------------


def go_on(world: World) -> World | None:
    """What happens next if nothing else goes wrong; None if nothing will happen any more. Raises Broken."""
    after = world.copy()
    after.held = tuple(replace(mail, offered=mail.offered | {world.stage(mail)}) for mail in world.held)
    if world.mail:
        _arrive(after, next_mail(world))
    elif after.fire():
        pass
    elif world.held:
        _come(after, world.held[0], "comes only when nothing else happens any more")
    elif _waits_for_operator(world):
        after.operate()
    else:
        _end(world)
        return None
    _heal(after)
    return after


def _end(world: World) -> None:
    try:
        world.setting.judge.ended(world)
    except Broken as broken:
        broken.world = broken.world or world
        raise


def next_mail(world: World) -> Mail:
    return next((mail for mail in world.mail if not mail.slow), world.mail[0])


def _arrive(world: World, mail: Mail) -> None:
    world.mail = tuple(each for each in world.mail if each is not mail)
    world.deliver(mail)


def _heal(world: World) -> None:
    """What is tried without end works again in the end: some attempts later than what is tried with an end."""
    for place in list(world.broken):
        _, attempt = world.ids[place]
        step, action = place
        if attempt > world.setting.saga.steps[step].retry_for(action).attempts + 1:  # type: ignore[arg-type]
            world.broken = {other: how for other, how in world.broken.items() if other != place}


# --- late -----------------------------------------------------------------------------------------------------------------------------


def late_arrivals(world: World) -> Iterator[Callable[[], World]]:
    """Each message that was held back and could come now; the moments that matter are those at which its step has moved.

    And where it is parked, what if the operator is quicker than what was held back?
    """
    if world.held and not world.mail and _waits_for_operator(world):
        yield partial(_operate, world)
    for mail in world.held:
        if world.stage(mail) not in mail.offered:

            def come(mail: Mail = mail) -> World:
                after = world.copy()
                when = cause(world.past.moment) if world.past is not None else "the start"
                _come(after, mail, f"comes late, after: {when}")
                return after

            yield come


def _waits_for_operator(world: World) -> bool:
    state = world.state
    return state is not None and state.live and state.parked is not None and world.retries < MAX_RETRIES


def _operate(world: World) -> World:
    after = world.copy()
    after.operate()
    return after


def _come(world: World, mail: Mail, when: str) -> None:
    world.held = tuple(each for each in world.held if each.words != mail.words or each.given is not mail.given)
    world.faults = tuple(f"{mail.words} {when}" if number == mail.fault else text for number, text in enumerate(world.faults))
    world.deliver(mail)


# --- faults ---------------------------------------------------------------------------------------------------------------------------


def faults(world: World) -> Iterator[Fault]:
    """Every fault that is possible here and has another effect than the others."""
    if world.mail and not (mail := next_mail(world)).hit:
        if isinstance(mail.given, Send):
            yield from _of_command(world, mail, mail.given)
        else:
            yield from _of_input(world, mail, mail.given)
    yield from _of_orchestrator(world)


def strike(world: World, fault: Fault) -> World:
    """The world in which this fault happens. Raises Broken."""
    after = world.copy()
    after.faults = (*world.faults, fault.words)
    after.rare += fault.of_orchestrator
    fault.strike(after)
    return after


def _of_command(world: World, mail: Mail, send: Send) -> Iterator[Fault]:
    place = step_and_action(send.command)
    if send.attempt > MOST_ATTEMPTS or place in world.broken:
        return
    name = mail.words
    if (send.service, send.command) not in world.rows:
        for refusal in world.setting.samples.commands[send.type].__refusals__:
            yield Fault(f"{name} is refused: {refusal.__name__}", lambda w, no=refusal: _meets(w, mail, no))  # type: ignore[misc]
        yield Fault(f"{name} fails", lambda w: _meets(w, mail, "failed"))
        if send.attempt == 1:
            yield Fault(f"{name} fails {FOR_GOOD}", lambda w: _breaks(w, place, "fails"))
    yield Fault(f"{name} is lost", lambda w: _hold(w, mail))
    if send.attempt == 1:
        yield Fault(f"{name} is lost {FOR_GOOD}", lambda w: _hold(w, mail, place, "lost"))
    yield Fault(f"{name} comes twice", lambda w: _double(w, mail))
    yield from _out_of_order(world, mail)


def _of_input(world: World, mail: Mail, given: Input) -> Iterator[Fault]:
    name = mail.words
    yield Fault(f"{name} comes twice", lambda w: _double(w, mail))
    if given.kind is Kind.START:
        return  # one that never comes has no instance
    attempt = int(given.attributes["sagaattempt"])
    place = step_and_action(given.attributes["sagacommand"])
    if attempt > MOST_ATTEMPTS or place in world.broken:
        return
    yield Fault(f"{name} is lost", lambda w: _hold(w, mail))
    if attempt == 1 and given.attributes["sagaoutcome"] != "failed":
        yield Fault(f"{name} is lost {FOR_GOOD}", lambda w: _hold(w, mail, place, "mute"))
    yield from _out_of_order(world, mail)


def _out_of_order(world: World, mail: Mail) -> Iterator[Fault]:
    if len([each for each in world.mail if not each.slow]) > 1:
        yield Fault(f"{mail.words} is overtaken by all that is on its way", lambda w: _change(w, mail, slow=True))


def _of_orchestrator(world: World) -> Iterator[Fault]:
    state = world.state
    if state is None or not state.live:
        return
    assert world.past is not None
    after = cause(world.past.moment)
    if not state.deadline_over and state.parked is None:
        yield Fault(f"the saga's deadline passes, after: {after}", World.deadline, of_orchestrator=True)
    again = "; what it sent is sent again" if world.sent else ""
    yield Fault(f"the orchestrator crashes, after: {after}{again}", World.restart, of_orchestrator=True)


# --- what a fault does ------------------------------------------------------------------------------------------------------------------


def _meets(world: World, mail: Mail, verdict: object) -> None:
    world.mail = tuple(each for each in world.mail if each is not mail)
    world.deliver(mail, verdict)  # type: ignore[arg-type]


def _breaks(world: World, place: tuple[str, str], how: str) -> None:
    world.broken = {**world.broken, place: how}


def _hold(world: World, mail: Mail, place: tuple[str, str] | None = None, how: str = "") -> None:
    """It does not come now, and with a `place` nor does any later attempt. Whether it is lost or late, what happens later says."""
    if place is not None:
        _breaks(world, place, how)
    world.mail = tuple(each for each in world.mail if each is not mail)
    held = replace(mail, hit=True, fault=len(world.faults) - 1, offered=frozenset({world.stage(mail)}))
    world.held = (*world.held, held)


def _double(world: World, mail: Mail) -> None:
    """It comes, and once more at some time."""
    _change(world, mail, hit=True)
    again = replace(mail, words=f"the second copy of {mail.words}", hit=True, fault=len(world.faults) - 1)
    world.held = (*world.held, again)


def _change(world: World, mail: Mail, *, hit: bool = False, slow: bool = False) -> None:
    changed = replace(mail, hit=hit or mail.hit, slow=slow)
    world.mail = tuple(changed if each is mail else each for each in world.mail)
