"""Random parents with random children, over a network that repeats and delays: what no one thought of, between instances (S28)."""

from __future__ import annotations

from random import Random

import pytest

from saga.engine.decision import Input, Request, Send
from saga.errors import DefinitionError
from tests.engine.families import Family
from tests.engine.kit import Made, Part, Run, make
from tests.engine.random_sagas import random_parts
from tests.engine.world import Participants

WALKS = 40
STEPS = 120
FAILED_ONCE: dict[str, int] = {}  # what went wrong: the seed that showed it


def random_family(random: Random) -> tuple[Made, Made]:
    """A parent in which some steps are the same child saga, each under a key of its own; what is no right saga is drawn again."""
    while True:
        child = make(random_parts(random), name="child", deadline=random.choice([60, 600]))
        parts = random_parts(random)
        for name, part in parts.items():
            if random.random() < 0.4:
                undo = part.undo and not child.saga.graph.pivots
                parts[name] = Part(part.after, pivot=part.pivot, undo=undo, child=child.saga, best_effort=random.random() < 0.1)
        if not any(part.child for part in parts.values()):
            continue
        try:
            return make(parts, deadline=random.choice([60, 600, 6000])), child
        except DefinitionError:
            continue


class Walk:
    """A parent, its children, and their participants. `out`: commands and replies on their way."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.parent, self.child = random_family(self.random)
        self.family = Family(self.parent.saga, self.child.saga)
        self.world = Participants(self.random, refuses=self.random.choice([0, 0.1]), fails=self.random.choice([0, 0.2]))
        self.sends: list[tuple[Run, Send]] = []
        self.replies: list[tuple[Run, Input]] = []
        self.judged: dict[int, int] = {}
        self.run = self.family.run("shop", "k1")
        self.run.start()
        self.gather()

    def gather(self) -> None:
        """Take up what every run said since the last time."""
        self.family.collect()
        for run in self.family.runs.values():
            new = run.decisions[self.judged.get(id(run), 0) :]
            self.judged[id(run)] = len(run.decisions)
            self.sends += [(run, output) for decision in new for output in decision.outputs if isinstance(output, Send)]

    def act(self, chance: float) -> None:
        random = self.random
        if chance < 0.35 and self.sends:
            run, send = self.sends.pop(random.randrange(len(self.sends)))
            self.replies.append((run, self.world.take(send)))
        elif chance < 0.65 and self.replies:
            run, reply = random.choice(self.replies)
            if random.random() > 0.1:
                self.replies.remove((run, reply))
            self.give(run, reply)
        elif chance < 0.85 and self.family.on_its_way:
            request = self.family.on_its_way[0]
            if random.random() > 0.1:
                self.family.on_its_way.popleft()
            self.tell(request)
        elif chance < 0.93:
            self.pass_time()
        elif chance < 0.94 and self.run.instance.live:
            self.run.operate("cancel")
        elif parked := [run for run in self.family.runs.values() if run.state is not None and run.instance.parked]:
            random.choice(parked).retry()
        self.gather()

    def give(self, run: Run, reply: Input) -> None:
        run.now = self.now
        run.feed(reply)

    def tell(self, request: Request) -> None:
        self.run.now = self.now
        self.family.deliver(request)

    @property
    def now(self) -> int:
        return max(run.now for run in self.family.runs.values())

    def pass_time(self) -> bool:
        """The first timer of all, if there is one."""
        there = [run for run in self.family.runs.values() if run.state is not None and run.instance.next_timer() is not None]
        if not there:
            return False
        first = min(there, key=lambda run: run.instance.next_timer() or (0, ""))
        first.now = self.now
        first.timer()
        return True

    def settle(self) -> None:
        self.world.refuses = self.world.fails = 0
        for _ in range(1500):
            if self.sends or self.replies or self.family.on_its_way:
                self.act(self.random.random() * 0.85)
                continue
            self.gather()
            runs = [run for run in self.family.runs.values() if run.state is not None]
            stuck = [run for run in runs if run.instance.parked]
            if stuck:
                stuck[0].retry()
            elif not any(run.instance.live for run in runs):
                return
            else:
                assert self.pass_time(), "P5: parent and child wait for each other"
            self.gather()
        raise AssertionError(f"I1: no outcome: {[(run.key, run.instance.parked, run.instance.steps) for run in runs]}")


@pytest.mark.parametrize("seed", [*range(WALKS), *FAILED_ONCE.values()])
def test_s28_with_a_child_every_effect_is_done_once_or_undone(seed: int) -> None:
    print(f"seed {seed}")
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.act(walk.random.random())
    walk.settle()
    parent, runs = walk.run, list(walk.family.runs.values())
    assert all(run.instance.keep_until is not None for run in runs if run.state is not None), "S28: a child is kept for ever"
    for run in runs:
        assert not [d for d in run.decisions if d.note in ("contradiction", "conflict")], "S28: they contradict each other"
    for name, step in parent.instance.steps.items():
        if parent.saga is not None and parent.saga.steps[name] in children(parent):
            audit(walk, parent, name, str(step.status))


def children(parent: Run) -> list[object]:
    assert parent.saga is not None
    return [step for step in parent.saga.steps.values() if hasattr(step, "child")]


def audit(walk: Walk, parent: Run, name: str, status: str) -> None:
    """What a child did, by how its parent ended."""
    child = walk.family.runs.get(("child", f"k1-{name}"))
    if child is None or child.state is None:
        return
    told = [d.note for d in child.decisions]
    if parent.outcome == "compensated" and parent.saga is not None and parent.saga.steps[name].undoable:
        assert child.outcome == "compensated", f"S28: its parent was compensated, and {name} stands ({status}, {told})"
    elif parent.outcome == "completed" and status == "done":
        assert child.outcome == "completed", f"S28: its parent completed, and {name} was undone"
    if child.outcome == "compensated":
        for step in child.saga.steps.values() if child.saga is not None else ():
            left = sum(
                walk.world.did[c] - walk.world.undid[c]
                for c in walk.world.did
                if c.startswith(f"child:k1-{name}:") and c.split(":")[3] == step.name
            )
            assert left == 0 or not step.undoable, f"I8: of {step.name} {left} effects are left"
