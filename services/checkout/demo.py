"""The demo: real orders through six services over a real Kafka, while an orchestrator is killed and another takes over.

    python -m services.checkout.demo [--orders N] [--rate R] [--keep] [--stop]

It starts a Kafka of its own, or uses the one that SAGA_BOOTSTRAP names, or the file log that SAGA_LOG names; where there is neither Java
nor Maven for a Kafka it takes a file log by itself. Everything else it needs it makes in .demo, and removes. With --keep (or KEEP=1)
all stays up at the end, and --stop ends that. Exit code 0 if every order has an outcome and all books agree.

A terminal shows it live; a pipe gets plain lines. What is shown comes from the log alone, see `watch.py`. The picture of the README:

    python -m services.checkout.demo --picture docs/images/demo.svg
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from saga.config import Config
from saga.connect import opened
from services import app
from services.checkout.numbers import Count
from services.checkout.saga import checkout
from services.checkout.screen import Screen
from services.checkout.settings import HERE
from services.checkout.stage import ORCHESTRATORS, READY_SECONDS, Stage
from services.checkout.watch import TakeOver, Watch, follow
from services.stage import run
from services.stage.crew import FOLDER, Crew, DemoFailed
from services.stage.log import SESSION_SECONDS
from topics.values import Money

SETTLE_SECONDS = 120.0  # the slowest order needs some twenty seconds: a silent gateway is asked five times
POST_SECONDS = 30.0  # an order that cannot be placed for so long means that the order service is gone


@dataclass(frozen=True)
class Options:
    orders: int
    rate: float
    keep: bool
    folder: Path
    picture: Path | None  # where the picture is saved, as it is when all orders are placed


class Demo:
    """One run on a stage that is brought up."""

    def __init__(self, options: Options, stage: Stage, screen: Screen, watch: Watch) -> None:
        self.options = options
        self.stage = stage
        self.crew = stage.crew
        self.screen = screen
        self.watch = watch
        lines = (HERE / "orders.jsonl").read_text(encoding="utf-8").splitlines()
        self._orders = lines[: options.orders]

    async def run(self) -> None:
        """Place orders, kill an orchestrator half-way, wait for every outcome. Raises DemoFailed, SagaError."""
        async with opened(Config.read(self.crew.environment), "demo") as log:
            await _while_this_runs(follow(self.watch, log), self._play())

    async def _play(self) -> None:
        await _while_this_runs(self.screen.follow(lambda: self.watch.view(now())), self._story())
        for key, why in self.watch.parked.items():
            self.screen.say(f"parked: {key}: {why}")
        if self.stage.reactors:
            await self._reacted()

    async def _story(self) -> None:
        await self.stage.ready()
        await self.crew.until(self._all_owned, READY_SECONDS, lambda: f"{len(self.watch.owners)} partitions are owned")
        self.screen.say(f"placing {len(self._orders)} orders, {self.options.rate:g} a second, over HTTP")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._place_all())
            tasks.create_task(self._kill_half_way())
        self.screen.say("all orders are placed; waiting until each has its outcome")
        if self.options.picture is not None:
            self.screen.save(self.watch.view(now()), self.options.picture)
        await self.crew.until(
            self._all_settled, SETTLE_SECONDS, lambda: f"{len(self._orders) - len(self.watch.outcomes)} orders have no outcome yet"
        )

    async def _all_settled(self) -> bool:
        return len(self.watch.outcomes) + len(self.watch.parked) >= len(self._orders)

    async def _all_owned(self) -> bool:
        owned = [len(self.watch.owned_by(self.crew.pid(name))) for name in ORCHESTRATORS]
        return sum(owned) == self.watch.partitions and all(owned)

    async def _place_all(self) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with httpx.AsyncClient(base_url=self.stage.url("order"), trust_env=False) as http, asyncio.TaskGroup() as tasks:
            for number, body in enumerate(self._orders):
                await asyncio.sleep(begin + number / self.options.rate - loop.time())
                tasks.create_task(self._place(http, body))

    async def _place(self, http: httpx.AsyncClient, body: str) -> None:
        """Place one order; asked again until there is an answer, which is safe, since the order has its id."""
        said = ""

        async def accepted() -> bool:
            nonlocal said
            try:
                answer = await http.post("/orders", content=body.encode(), headers={"Content-Type": "application/json"})
            except httpx.TransportError as error:
                said = repr(error)
                return False
            said = f"{answer.status_code} {answer.text}"
            if answer.is_client_error:
                raise DemoFailed(f"the order service refuses an order: {said}: {body}")
            return answer.is_success

        await self.crew.until(accepted, POST_SECONDS, lambda: f"an order cannot be placed: {said}")

    async def _kill_half_way(self) -> None:
        async def half_way() -> bool:
            return len(self.watch.placed) >= len(self._orders) // 2

        await self.crew.until(half_way, READY_SECONDS + len(self._orders) / self.options.rate, lambda: "not half-way yet")
        victim, other = ORCHESTRATORS
        pid = self.crew.pid(victim)
        self.crew.kill(victim)
        self.watch.killed(pid, now())
        lost = len(self._take_over.lost)
        self.screen.say(f"{victim} is killed with -9; it owned {lost} of {self.watch.partitions} partitions")

        async def taken_over() -> bool:
            return self._take_over.claimed is not None

        await self.crew.until(taken_over, SETTLE_SECONDS, lambda: "nobody has taken over its partitions yet")
        silence = f"{SESSION_SECONDS} s after its last sign of life"
        self.screen.say(f"{other} owns them all, {_seconds(self._take_over.claimed)} after the kill and {silence}")

        async def decided() -> bool:
            return self._take_over.decided is not None

        await self.crew.until(decided, SETTLE_SECONDS, lambda: "the new owner has decided nothing yet")
        self.screen.say(f"its first decision for them came {_seconds(self._take_over.decided)} after the kill")

    @property
    def _take_over(self) -> TakeOver:
        found = self.watch.take_over
        assert found is not None, "only asked for after the kill"
        return found

    async def _reacted(self) -> None:
        """Reactors listen in their own time: wait until they, too, have heard of every outcome."""
        drop, settled, said = self.stage.mails, len(self.watch.outcomes), Count()

        async with httpx.AsyncClient(base_url=self.stage.url("analytics"), trust_env=False) as http:

            async def heard() -> bool:
                nonlocal said
                with contextlib.suppress(httpx.TransportError):
                    if (answer := await http.get("/numbers")).status_code == 200:
                        said = Count(**answer.json()["total"])
                return min(said.completed + said.compensated, _mails(drop)) >= settled

            await self.crew.until(heard, SETTLE_SECONDS, lambda: f"of {settled} outcomes {_mails(drop)} mails and {said} have come")
        revenue = ", ".join(str(Money(minor=minor, currency=currency)) for currency, minor in said.revenue.items())
        self.screen.say(f"{_mails(drop)} mails are written; analytics counts {said.completed} completed orders over {revenue}")


def play(options: Options, crew: Crew, screen: Screen) -> int:
    """1 bring everything up · 2 place orders, kill, wait for outcomes · 3 audit. The audit's exit code."""
    stage = Stage(crew, screen.say)
    stage.bring_up()
    screen.where = stage.log
    watch = Watch(app.partitions, checkout, {crew.pid(name): name for name in ORCHESTRATORS})
    asyncio.run(Demo(options, stage, screen, watch).run())
    screen.say("the audit reads all databases and the journal:")
    code = crew.run(*stage.audit)
    if code == 0:
        screen.say("every order has one outcome, and all books agree")
    if options.keep:
        stage.tell_how_to_look()
    return code


async def _while_this_runs(beside: Coroutine[Any, Any, None], story: Coroutine[Any, Any, None]) -> None:
    """The story to its end, or the first failure of the one or the other. Whichever is left is cancelled, and waited for."""
    tasks = [asyncio.create_task(story), asyncio.create_task(beside)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def now() -> int:
    """In ms since 1970."""
    return time.time_ns() // 1_000_000


def _seconds(ms: int | None) -> str:
    return f"{(ms or 0) / 1000:.1f} s"


def _mails(drop: Path) -> int:
    return sum(1 for _ in drop.glob("*.eml"))


def _options() -> tuple[Options, bool]:
    """What was asked for, and whether that is only to stop what was left up."""
    parser = argparse.ArgumentParser(prog="python -m services.checkout.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=300, help="how many of the shipped orders (default: all %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="orders a second (default: %(default)g)")
    parser.add_argument("--keep", action="store_true", help="leave everything up at the end (also KEEP=1)")
    parser.add_argument("--stop", action="store_true", help="stop what was left up, and remove it")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where everything is made, and removed (default: .demo)")
    parser.add_argument("--picture", type=Path, help="save the live picture as SVG")
    asked = parser.parse_args()
    if not 2 <= asked.orders <= 300 or asked.rate <= 0:
        parser.error("--orders is 2 to 300, --rate more than 0")
    keep = asked.keep or os.environ.get("KEEP") == "1"
    return Options(asked.orders, asked.rate, keep, asked.folder.resolve(), asked.picture), asked.stop


def main() -> int:
    options, only_stop = _options()

    def act() -> int:
        return run.play(options.folder, options.keep, lambda crew: play(options, crew, Screen()), hidden=("CHECKOUT_",))

    return run.as_program(options.folder, only_stop, act)


if __name__ == "__main__":
    sys.exit(main())
