"""Random sagas, random histories: what no one thought of. A seed makes one walk; a seed that failed once stays here by name."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from saga.engine.decision import Input, Kind, Send
from tests.engine.kit import Made, Part, Run, event_for, make
from tests.engine.random_sagas import RICH, random_parts, rich_parts
from tests.engine.rules import Rules
from tests.engine.world import Participants

WALKS = 100
RICH_WALKS = 200
STEPS = 60
FAILED_ONCE = {  # what went wrong: the seed that showed it
    "a retry of an item that was stuck sent more of them at once than may be": 1006,
    "what an operator did by hand, since it was denied, was done after all and nobody heard of it": 1063,
    "skip of one step let stand a contradiction of another": 1555,
}
SEEDS = sorted({*range(WALKS), *range(RICH, RICH + RICH_WALKS), *FAILED_ONCE.values()})


class Walk:
    """One saga, one instance, and the checker beside it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.parts = rich_parts(self.random) if seed >= RICH else random_parts(self.random)
        self.made: Made = make(self.parts, deadline=self.random.choice([15, 60, 600, 6000]))
        self.made.no |= {name for name, part in self.parts.items() if part.when == "?" and self.random.random() < 0.4}
        self.waits = [name for name, part in self.parts.items() if part.waits == "event"]
        self.run = Run(self.made.saga)
        self.out: list[Send] = []
        self.world = Participants(self.random)
        strays = [self.world.happen(self.run.key, name) for name in self.waits if self.random.random() < 0.2]
        for stray in strays:
            self.run.feed(stray)
        self.run.start()
        self.rules = Rules(self.parts, self.run.instance.deadline, self.made.no)
        for decision in self.run.decisions:
            self.rules.judge(decision, self.run.now)
        self.out += [output for output in self.run.decisions[-1].outputs if isinstance(output, Send)]

    def judge(self) -> None:
        decision = self.run.decisions[-1]
        self.rules.judge(decision, self.run.now)
        self.out += [output for output in decision.outputs if isinstance(output, Send)]

    def feed(self, given: Input) -> None:
        self.run.feed(given)
        self.judge()

    def pass_time(self) -> bool:
        """The next timer, if there is one."""
        if self.run.instance.next_timer() is None:
            return False
        self.run.timer()
        self.judge()
        return True

    def event(self) -> None:
        """An event that some step waits for, in time, too early or too late; or somebody says so in its place."""
        name = self.random.choice(self.waits)
        if self.random.random() < 0.2:
            self.run.operate("signal", type=event_for(name).__type__, data={})
            self.judge()
        else:
            self.feed(self.world.happen(self.run.key, name))

    def retry(self) -> None:
        self.made.broken.clear()
        self.operate("retry")

    def operate(self, action: str, **said: Any) -> None:
        self.run.operate(action, **said)
        self.judge()

    def meddle(self) -> None:
        """An operator does something, sensible or not."""
        stuck = [name for name, step in self.run.instance.steps.items() if step.waits == "operator"]
        step = self.random.choice([*stuck, *stuck, *self.parts])
        action = self.random.choice(["retry", "resume", "cancel", "compensate", "skip", "skip", "skip", "edit"])
        said: dict[str, Any] = {"data": {"key": "k1"}} if action == "edit" else {}
        if action == "skip":
            nothing = self.random.random() < 0.3
            said = {"step": step, "nothing": True} if nothing else {"step": step, "result": {}}
        self.operate(action, **said)

    def break_something(self) -> None:
        name = self.random.choice(list(self.parts))
        self.made.broken.add(name + self.random.choice(["", ".done", ".compensate", ".verify", ".when"]))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_rule_is_broken_whatever_comes(seed: int) -> None:
    """Replies of any kind, to anything that was ever sent, also contradictory ones; events; timers, repeats, operators, broken code."""
    print(f"seed {seed}")
    walk = Walk(seed)
    random = walk.random
    for _ in range(STEPS):
        chance = random.random()
        if chance < 0.5 and walk.out:
            walk.feed(any_reply(walk))
        elif chance < 0.6 and walk.waits:
            walk.event()
        elif chance < 0.85:
            walk.pass_time()
        elif chance < 0.9:
            walk.feed(random.choice([d.input for d in walk.run.decisions]))
        elif chance < 0.95 and seed % 4 == 0:
            walk.break_something()
        elif chance < 0.97 and seed >= RICH:
            walk.meddle()
        elif walk.run.instance.parked:
            walk.retry()
    assert walk.run.instance.hash == walk.made.saga.graph.hash, "I23: the structure's hash changed within an instance"


def any_reply(walk: Walk) -> Input:
    random = walk.random
    send = random.choice(walk.out)
    outcome = random.choices(["done", "refused", "failed", "nothing", "expired"], [6, 1, 2, 1, 0.3])[0]
    attempt = send.attempt + (random.choice([-1, 1]) if random.random() < 0.1 else 0)
    step, tail = send.command.split(":")[3:]
    action, _, round = tail.partition("~")
    return walk.run.answer(step, outcome, action, attempt=attempt, round=int(round or 1))


def lossy(seed: int) -> tuple[Walk, Participants]:
    """Participants that keep the protocol, over a network that loses, repeats and delays; then all is well, and it must end."""
    walk = Walk(seed)
    random, world = walk.random, walk.world
    world.refuses, world.fails = random.choice([0, 0.05, 0.3]), random.choice([0, 0.2, 0.5])
    loss = random.choice([0, 0.1, 0.5])
    cancels = seed >= RICH and random.random() < 0.4
    replies: list[Input] = []
    for _ in range(STEPS * 3):
        if not walk.run.instance.live and not walk.out and not replies:
            break
        chance = random.random()
        if chance < 0.4 and walk.out:
            send = walk.out[0] if random.random() < 0.7 else random.choice(walk.out)
            if random.random() > 0.1:
                walk.out.remove(send)
            answer = world.take(send)
            replies += [answer] if random.random() >= loss else []
        elif chance < 0.8 and replies:
            reply = random.choice(replies)
            if random.random() > 0.1:
                replies.remove(reply)
            walk.feed(reply)
        elif 0.8 <= chance < 0.82 and walk.waits:
            walk.event()
        elif chance < 0.95:
            walk.pass_time()
        elif chance < 0.96 and cancels:
            walk.operate(random.choice(["cancel", "compensate"]))
        elif walk.out and random.random() < loss:
            walk.out.remove(random.choice(walk.out))
        elif chance > 0.98 and seed % 3 == 0:
            walk.break_something()
        elif walk.run.instance.parked:
            walk.retry()
    world.refuses = world.fails = 0
    settle(walk, world, replies)
    return walk, world


def settle(walk: Walk, world: Participants, replies: list[Input]) -> None:
    for _ in range(2000):
        missed = [name for name, step in walk.run.instance.steps.items() if step.answer == "late" and step.waits == "operator"]
        if walk.out:
            replies.append(world.take(walk.out.pop(0)))
        elif replies:
            walk.feed(replies.pop(0))
        elif missed and walk.random.random() < 0.5:
            walk.feed(world.happen(walk.run.key, missed[0]))
        elif walk.run.instance.parked:
            walk.retry()
        elif not walk.run.instance.live:
            return
        else:
            assert walk.pass_time(), "P5: it hangs"
    instance = walk.run.instance
    raise AssertionError(
        f"I1: no outcome, with participants that answer and an operator that retries: {instance.parked} {instance.steps}"
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_with_conforming_participants_every_effect_is_done_once_or_undone(seed: int) -> None:
    print(f"seed {seed}")
    walk, world = lossy(seed)
    assert walk.run.note != "contradiction", "conforming participants contradicted themselves: the engine asked wrongly"
    assert not [d for d in walk.run.decisions if d.note in ("contradiction", "deadletter")]
    for name, part in walk.parts.items():
        if part.sends:
            for each in walk.rules.each(name):
                audit(walk, each, part, world.effects(each))


def audit(walk: Walk, each: str, part: Part, effects: int) -> None:
    """What is left of one step's effect, by how its saga ended."""
    name = each.partition("/")[0]
    if not walk.rules.wanted(name):
        assert effects == 0, f"S18: {each} was not wanted, and took effect"
    elif walk.run.instance.phase == "completed":
        assert effects == 1 or (part.best_effort and not effects), f"I7: completed, and {each} took effect {effects} times"
    elif part.undo and name not in walk.rules.forward_only:
        assert effects == 0, f"I8: compensated, and of {each} {effects} effects are left"
    else:
        assert effects <= 1, f"I7: {each} took effect {effects} times"
        forward = part.pivot or (name in walk.rules.forward_only and not part.best_effort)
        assert not forward or effects == 0, f"I12: compensated, and {each} took effect"


def test_the_walks_reach_what_they_are_for() -> None:
    """A walk that never gets anywhere proves nothing."""
    notes: set[str] = set()
    led: set[str] = set()
    kinds: set[object] = set()
    for seed in [*range(40), *range(RICH, RICH + 80)]:
        walk, _ = lossy(seed)
        notes |= {decision.note for decision in walk.run.decisions}
        led |= {what.partition(" ")[0] for what in walk.run.led}
        statuses = {(step.status, name.partition("/")[1]) for name, step in walk.run.instance.steps.items()}
        kinds |= {(*status, walk.run.outcome) for status in statuses}
        assert all(d.input.kind is not Kind.OTHER for d in walk.run.decisions)
    replies = {"done", "refused", "failed", "nothing", "late", "duplicate"}
    assert replies | {"timed-out", "retry", "deadline", "retried", "kept"} <= notes
    assert {"early", "event", "time", "cancelled", "cancelling", "signalled", "operator-refused"} <= notes
    assert {"execute", "verify", "compensate", "completed", "compensated", "parked", "resumed", "late"} <= led
    assert {("done", "/", "completed"), ("compensated", "/", "compensated"), ("skipped", "", "completed")} <= kinds
