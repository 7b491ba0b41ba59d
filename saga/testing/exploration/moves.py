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

from saga.engine.decision import Input, Kind, Request, Send
from saga.engine.kinds import Wait
from saga.engine.state import Action, Phase, base_name
from saga.ops.heard import cause
from saga.testing.exploration.judge import MAX_RETRIES, Broken
from saga.testing.exploration.mail import Mail
from saga.testing.exploration.services import CHILD_ENDS, FAILED, Verdict
from saga.testing.exploration.world import World

MOST_ATTEMPTS = 2  # of a command that single faults hit: what is true of the second is true of the third
FOR_GOOD = "at every attempt"


class Fault(NamedTuple):
    """One fault that is possible in a world, in words; `strike` makes it happen in a copy.

    `beside`: it hits no message on its way, and makes no difference between one later attempt and another.
    """

    words: str
    strike: Callable[[World], None]
    beside: bool = False


# --- by itself --------------------------------------------------------------------------------------------------------------------


def go_on(world: World) -> World | None:
    """What happens next if nothing else goes wrong; None if nothing will happen any more. Raises Broken."""
    after = world.copy()
    after.held = tuple(replace(mail, offered=mail.offered | {world.stage(mail)}) for mail in world.held)
    if world.mail:
        _arrive(after, next_mail(world))
    elif after.fire():
        pass
    elif world.held:
        _come(after, after.held[0], "comes only when nothing else happens any more")
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


def _arrive(world: World, mail: Mail, verdict: Verdict = None) -> None:
    world.mail = _without(world.mail, mail)
    world.deliver(mail, verdict)


def _heal(world: World) -> None:
    """What is tried without end works again in the end: some attempts later than what is tried with an end."""
    for place in list(world.broken):
        _, attempt = world.ids[place]
        step, action = place
        if attempt > world.setting.saga.steps[base_name(step)].retry_for(Action(action)).attempts + 1:
            world.broken = {other: how for other, how in world.broken.items() if other != place}


def _waits_for_operator(world: World) -> bool:
    state = world.state
    return state is not None and state.live and state.parked is not None and world.retries < MAX_RETRIES


# --- late -------------------------------------------------------------------------------------------------------------------------


def late_arrivals(world: World) -> Iterator[Callable[[], World]]:
    """Each message that was held back and could come now; the moments that matter are those at which its step has moved.

    And where it is parked, what if the operator is quicker than what was held back?
    """
    if world.held and not world.mail and not world.retries and _waits_for_operator(world):
        yield partial(_operate, world)
    for mail in world.held:
        if world.stage(mail) not in mail.offered:
            yield partial(_come_late, world, mail)


def _operate(world: World) -> World:
    after = world.copy()
    after.operate()
    return after


def _come_late(world: World, mail: Mail) -> World:
    after = world.copy()
    _come(after, mail, f"comes late, after: {_last(world)}")
    return after


def _come(world: World, mail: Mail, when: str) -> None:
    world.held = _without(world.held, mail)
    world.faults = tuple(f"{mail.words} {when}" if number == mail.fault else text for number, text in enumerate(world.faults))
    world.deliver(mail)


def _last(world: World) -> str:
    return cause(world.past.moment) if world.past is not None else "nothing at all"


# --- faults -----------------------------------------------------------------------------------------------------------------------


def faults(world: World) -> Iterator[Fault]:
    """Every fault that is possible here and has another effect than the others."""
    if world.mail and not (mail := next_mail(world)).hit:
        if isinstance(mail.given, Send):
            yield from _of_command(world, mail, mail.given)
        elif isinstance(mail.given, Request):
            yield from _of_other_saga(mail, mail.given)
        else:
            yield from _of_input(world, mail, mail.given)
        yield from _out_of_order(world, mail)
    yield from _too_early(world)
    yield from _of_orchestrator(world)


def strike(world: World, fault: Fault) -> World:
    """The world in which this fault happens. Raises Broken."""
    after = world.copy()
    after.faults = (*world.faults, fault.words)
    after.rare += fault.beside
    fault.strike(after)
    return after


def _of_command(world: World, mail: Mail, send: Send) -> Iterator[Fault]:
    place, name = (mail.step, mail.action), mail.words
    if send.attempt > MOST_ATTEMPTS or place in world.broken:
        return
    samples = world.setting.samples
    kind = samples.commands[send.type]
    if (send.service, send.command) not in world.rows:
        for refusal in kind.__refusals__:
            yield Fault(f"{name} is refused: {refusal.__name__}", partial(_arrive, mail=mail, verdict=refusal))
        for other in samples.answers(send, kind.__reply__)[1:]:
            yield Fault(f"{name} is answered: {other!r}", partial(_arrive, mail=mail, verdict=other))
        yield Fault(f"{name} fails", partial(_arrive, mail=mail, verdict=FAILED))
        if send.attempt == 1:
            yield Fault(f"{name} fails {FOR_GOOD}", partial(_break, place=place, how="fails"))
    yield Fault(f"{name} is lost", partial(_hold, mail=mail))
    if send.attempt == 1:
        yield Fault(f"{name} is lost {FOR_GOOD}", partial(_hold, mail=mail, how="lost"))
    yield Fault(f"{name} comes twice", partial(_double, mail=mail))


def _of_other_saga(mail: Mail, request: Request) -> Iterator[Fault]:
    """What sagas say to each other goes through a topic of their own, and is never lost; a child may end otherwise."""
    yield Fault(f"{mail.words} comes twice", partial(_double, mail=mail))
    if mail.action == Action.EXECUTE and "sagaparent" in request.attributes:
        for type, words in CHILD_ENDS.items():
            yield Fault(f"{mail.words} {words}", partial(_arrive, mail=mail, verdict=type))


def _of_input(world: World, mail: Mail, given: Input) -> Iterator[Fault]:
    name, place = mail.words, (mail.step, mail.action)
    yield Fault(f"{name} comes twice", partial(_double, mail=mail))
    if given.kind is Kind.START:
        return  # one that never comes has no instance
    if given.kind is not Kind.REPLY:
        yield Fault(f"{name} never comes", partial(_hold, mail=mail))
        wait = world.setting.saga.steps[mail.step]
        assert isinstance(wait, Wait)
        for number, other in enumerate(world.setting.samples.events(mail.step)[1:], 1):
            yield Fault(f"{name} is {other!r}", partial(_other_event, mail=mail, wait=wait, variant=number))
        return
    attempt = int(given.attributes["sagaattempt"])
    if attempt > MOST_ATTEMPTS or place in world.broken:
        return
    yield Fault(f"{name} is lost", partial(_hold, mail=mail))
    if attempt == 1 and given.attributes["sagaoutcome"] != FAILED:
        yield Fault(f"{name} is lost {FOR_GOOD}", partial(_hold, mail=mail, how="mute"))


def _out_of_order(world: World, mail: Mail) -> Iterator[Fault]:
    if len([each for each in world.mail if not each.slow]) > 1:
        yield Fault(f"{mail.words} is overtaken by all that is on its way", partial(_slow, mail=mail))


def _too_early(world: World) -> Iterator[Fault]:
    """An event that nobody commands comes before its turn, or before the saga has started."""
    if world.outcome:
        return
    for name, wait in world.setting.saga.steps.items():
        if isinstance(wait, Wait) and wait.key is not None and name not in world.told:
            words = f"the event for {name} ({wait.event.__name__}) comes before its turn, after: {_last(world)}"
            yield Fault(words, partial(_comes_early, wait=wait), beside=True)


def _of_orchestrator(world: World) -> Iterator[Fault]:
    state = world.state
    if state is None or not state.live:
        return
    after = _last(world)
    if not state.deadline_over and state.parked is None:
        yield Fault(f"the saga's deadline passes, after: {after}", World.deadline, beside=True)
    if state.phase is Phase.RUNNING and not state.cancelled:
        yield Fault(f"an operator cancels it, after: {after}", World.cancel, beside=True)
    again = "; what it sent is sent again" if world.sent else ""
    yield Fault(f"the orchestrator crashes, after: {after}{again}", World.restart, beside=True)


# --- what a fault does ------------------------------------------------------------------------------------------------------------


def _break(world: World, place: tuple[str, str], how: str) -> None:
    world.broken = {**world.broken, place: how}


def _hold(world: World, mail: Mail, how: str = "") -> None:
    """It does not come now, and with `how` nor does any later attempt. Whether it is lost or late, what happens later says."""
    if how:
        _break(world, (mail.step, mail.action), how)
    world.mail = _without(world.mail, mail)
    held = replace(mail, hit=True, fault=len(world.faults) - 1, offered=frozenset({world.stage(mail)}))
    world.held = (*world.held, held)


def _double(world: World, mail: Mail) -> None:
    """It comes, and once more at some time."""
    world.mail = tuple(replace(each, hit=True) if each is mail else each for each in world.mail)
    again = replace(mail, words=f"the second copy of {mail.words}", hit=True, fault=len(world.faults) - 1)
    world.held = (*world.held, again)


def _slow(world: World, mail: Mail) -> None:
    world.mail = tuple(replace(each, slow=True) if each is mail else each for each in world.mail)


def _other_event(world: World, mail: Mail, wait: Wait[object, object], variant: int) -> None:  # type: ignore[type-var]
    world.mail = _without(world.mail, mail)
    world.deliver(world.telling(wait, variant))


def _comes_early(world: World, wait: Wait[object, object]) -> None:  # type: ignore[type-var]
    world.deliver(world.telling(wait))


def _without(mails: tuple[Mail, ...], mail: Mail) -> tuple[Mail, ...]:
    return tuple(each for each in mails if each is not mail)
