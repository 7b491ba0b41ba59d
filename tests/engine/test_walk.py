"""Random sagas, random histories: what no one thought of. A seed makes one walk; a seed that failed once stays here by name."""

from __future__ import annotations

from random import Random

import pytest

from saga.engine.decision import Input, Kind, Send
from tests.engine.kit import Made, Part, Run, make
from tests.engine.rules import Rules
from tests.engine.world import Participants

WALKS = 100
STEPS = 60
FAILED_ONCE: dict[str, int] = {}  # what went wrong: the seed that showed it


def random_parts(random: Random) -> dict[str, Part]:
    """Up to eight steps; a part of them before a pivot, if there is one, all others after it."""
    names = list("abcdefgh"[: random.randint(1, 8)])
    pivot = random.choice([None, *names])
    before = names[: names.index(pivot)] if pivot else names
    parts: dict[str, Part] = {}
    for name in names:
        if name == pivot:
            sinks = tuple(n for n in before if not any(n in part.after for part in parts.values()))
            parts[name] = _part(random, sinks, pivot=True)
        elif name in before:
            parts[name] = _part(random, tuple(n for n in parts if random.random() < 0.35), pivot=False)
        else:
            allowed = [n for n in parts if n not in before]
            parts[name] = _part(random, tuple(random.sample(allowed, random.randint(1, len(allowed)))), pivot=None)
    return parts


def _part(random: Random, after: tuple[str, ...], *, pivot: bool | None) -> Part:
    """`pivot` None: after it."""
    timeout = random.choice([3, 10, 40])
    attempts = random.choice([1, 2, 4])
    if pivot is None:
        return Part(after, timeout=timeout, attempts=attempts)
    verify = random.random() < 0.4
    undo = not pivot and random.random() < 0.75
    unknown = random.choice([None, "park", *(["verify"] if verify else []), *(["compensate"] if undo else [])])
    wait = timeout if pivot or random.random() < 0.85 else None
    return Part(after, pivot=pivot, undo=undo, verify=verify, unknown=unknown, timeout=wait, attempts=attempts)  # type: ignore[arg-type]


class Walk:
    """One saga, one instance, and the checker beside it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.parts = random_parts(self.random)
        self.made: Made = make(self.parts, deadline=self.random.choice([15, 60, 600, 6000]))
        self.run = Run(self.made.saga)
        self.out: list[Send] = []
        self.run.start()
        self.rules = Rules(self.parts, self.run.instance.deadline)
        self.judge()

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

    def retry(self) -> None:
        self.made.broken.clear()
        self.run.retry()
        self.judge()

    def break_something(self) -> None:
        name = self.random.choice(list(self.parts))
        self.made.broken.add(name + self.random.choice(["", ".done", ".compensate", ".verify"]))


@pytest.mark.parametrize("seed", [*range(WALKS), *FAILED_ONCE.values()])
def test_no_rule_is_broken_whatever_replies_come(seed: int) -> None:
    """Replies of any kind, to anything that was ever sent, also contradictory ones; timers, repeats, broken user code."""
    print(f"seed {seed}")
    walk = Walk(seed)
    random = walk.random
    for _ in range(STEPS):
        chance = random.random()
        if chance < 0.6:
            walk.feed(any_reply(walk))
        elif chance < 0.85:
            walk.pass_time()
        elif chance < 0.9:
            walk.feed(random.choice([d.input for d in walk.run.decisions]))
        elif chance < 0.95 and seed % 4 == 0:
            walk.break_something()
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
    random = walk.random
    world = Participants(random, refuses=random.choice([0, 0.05, 0.3]), fails=random.choice([0, 0.2, 0.5]))
    loss = random.choice([0, 0.1, 0.5])
    replies: list[Input] = []
    for _ in range(STEPS * 3):
        if not walk.run.instance.live and not walk.out and not replies:
            break
        chance = random.random()
        if chance < 0.45 and walk.out:
            send = walk.out[0] if random.random() < 0.7 else random.choice(walk.out)
            if random.random() > 0.1:
                walk.out.remove(send)
            answer = world.take(send)
            replies += [answer] if random.random() >= loss else []
        elif chance < 0.85 and replies:
            reply = random.choice(replies)
            if random.random() > 0.1:
                replies.remove(reply)
            walk.feed(reply)
        elif chance < 0.95:
            walk.pass_time()
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
        if walk.out:
            replies.append(world.take(walk.out.pop(0)))
        elif replies:
            walk.feed(replies.pop(0))
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


@pytest.mark.parametrize("seed", [*range(WALKS), *FAILED_ONCE.values()])
def test_with_conforming_participants_every_effect_is_done_once_or_undone(seed: int) -> None:
    print(f"seed {seed}")
    walk, world = lossy(seed)
    instance = walk.run.instance
    assert walk.run.note != "contradiction", "conforming participants contradicted themselves: the engine asked wrongly"
    assert not [d for d in walk.run.decisions if d.note in ("contradiction", "deadletter")]
    for name, part in walk.parts.items():
        effects = world.effects(name)
        if instance.phase == "completed":
            assert effects == 1, f"I7: completed, and {name} took effect {effects} times"
        elif part.undo:
            assert effects == 0, f"I8: compensated, and of {name} {effects} effects are left"
        else:
            assert effects <= 1, f"I7: {name} took effect {effects} times"
            assert not part.pivot or effects == 0, "I12: compensated, and the pivot took effect"


def test_the_walks_reach_what_they_are_for() -> None:
    """A walk that never gets anywhere proves nothing."""
    notes: set[str] = set()
    led: set[str] = set()
    for seed in range(40):
        walk, _ = lossy(seed)
        notes |= {decision.note for decision in walk.run.decisions}
        led |= {what.partition(" ")[0] for what in walk.run.led}
        assert all(d.input.kind is not Kind.OTHER for d in walk.run.decisions)
    assert {
        "done",
        "refused",
        "failed",
        "nothing",
        "late",
        "duplicate",
        "timed-out",
        "retry",
        "deadline",
        "retried",
        "kept",
    } <= notes
    assert {"execute", "verify", "compensate", "completed", "compensated", "parked", "resumed"} <= led
