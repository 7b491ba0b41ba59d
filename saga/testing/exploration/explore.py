"""Every single and double fault of a saga, exhaustively: what a definition makes of the worst that can happen to it.

    def test_checkout_survives_everything() -> None:
        explore(checkout).assert_ok()

Problem: what goes wrong in production is seldom one thing. A reply is late, the step is given up and undone, and then the parcel is
refused; nobody writes that test. And what an author forgets shows only there: a step that nothing undoes, a refund that needs the
number of a payment whose reply never came, a function that raises on a path that was never walked.

Naive way: random faults on the real worker, many times. It is slow, and what it did not meet it cannot speak of.

Way taken: the engine is pure, so a run is a few milliseconds and every fault is a branch. All runs are played: without a fault, with each
one, and with each one after each one; in virtual time, with services that keep the protocol. The modules beside this one are the pieces.

The faults, of each command on its way (execute, verify, compensate; first and later attempts): refused, with each refusal it names; fails
once, or until the attempts are exhausted; it or its answer is lost, once or for good, or comes late, at every moment that matters; comes
twice; is overtaken. Of what is awaited: it never comes, or late, twice, or before its turn. Of a child: it is compensated, cannot start, or
is late. Of the orchestrator: it crashes after any decision; the saga's deadline passes, or an operator cancels, at any time. Whoever is
parked then is retried by an operator, with everything working again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from saga.engine.definition import Saga
from saga.engine.messages import Command, Message
from saga.errors import Misconfigured
from saga.testing.exploration.judge import Judge
from saga.testing.exploration.report import Report, report
from saga.testing.exploration.samples import Replies, Samples
from saga.testing.exploration.search import Search
from saga.testing.exploration.watched import Watch
from saga.testing.exploration.world import Setting, World

MOST_FAULTS = 3  # in one run; each one more makes it some thirty times as many


def explore(
    saga: Saga[Any, Any],
    *,
    start: Message | None = None,
    replies: Replies | None = None,
    no_effect: Collection[type[Command[Any]] | Saga[Any, Any]] = (),
    varying: Collection[type[Message]] = (),
    faults: int = 2,
) -> Report:
    """Play every run of a saga with up to `faults` faults, and say what is wrong in any of them.

    `start`: the event it starts with. `replies`: what comes in, by what it answers: by command a message, several (other replies, its
    refusals), or a function of the command; by the class of an awaited event, such events; by child, its data when it has completed. What
    is not given is made up. Every command, child and chain is taken to have an effect that must be undone when the saga turns back, unless
    it is in `no_effect`. What a command says must not depend on what else happened, unless it is in `varying`.
    Raises DefinitionError for a definition with a mistake, Misconfigured for an argument that does not fit it or a sample that cannot be
    made up.
    """
    saga.check()
    if not 0 <= faults <= MOST_FAULTS:
        raise Misconfigured(f"faults= is 0 to {MOST_FAULTS}, not {faults}")
    samples = Samples(saga, start, replies or {})
    known = [*samples.commands.values(), *samples.others.values(), *(other.starts_on for other in samples.others.values())]
    for what in (*no_effect, *varying):
        if not any(what is each for each in known):
            name = what.name if isinstance(what, Saga) else what.__name__
            raise Misconfigured(f"no_effect= or varying= names {name}, which {saga.name} does not send")
    watch = Watch(saga)
    search = Search()
    search.explore(World(Setting(watch.saga, samples, Judge(watch, no_effect, varying))), faults)
    return report(saga.name, saga.version, search)
