"""The demo: real orders through four services and two reactors over a real Kafka, while an orchestrator is killed and another takes over.

    python -m services.checkout.demo [--orders N] [--rate R] [--keep] [--stop]

It starts a Kafka of its own, or uses the one that SAGA_BOOTSTRAP names, or the file log that SAGA_LOG names; where there is neither Java
nor Maven for a Kafka it takes a file log by itself. Everything else it needs it makes in .demo, and removes. With --keep (or KEEP=1)
all stays up at the end, and --stop ends that. Exit code 0 if every order has an outcome and all books agree.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra.broker import BrokerUnavailable
from infra.broker.settings import free_ports
from saga import SagaError
from saga.config import Config
from saga.connect import open_log
from services.checkout.crew import FOLDER, ROOT, Crew, DemoFailed, no_kafka, stop_kept
from services.checkout.numbers import Count
from services.checkout.settings import HERE, REACTORS, SERVICES
from services.checkout.watch import Ownership, Watch
from topics.values import Money

READY_SECONDS = 90.0  # ten Python processes start at once, on what may be two slow cores
SETTLE_SECONDS = 120.0  # the slowest order needs some twenty seconds: a silent gateway is asked five times
POST_SECONDS = 30.0  # an order that cannot be placed for so long means that the order service is gone
LINE_SECONDS = 2.0  # between lines of progress
SESSION_SECONDS = "6"  # after so long without a sign of life an orchestrator's partitions go to the other; in production 10
ORCHESTRATORS = ("orchestrator-1", "orchestrator-2")


@dataclass(frozen=True)
class Options:
    orders: int
    rate: float
    keep: bool


class Demo:
    """One run. `say` prints a line with the time since the start."""

    def __init__(self, options: Options, crew: Crew) -> None:
        self.options = options
        self.crew = crew
        self.watch = Watch()
        self.placed = 0
        self._ports = free_ports(5)
        self._reactors: tuple[str, ...] = ()
        self._began = time.monotonic()
        lines = (HERE / "orders.jsonl").read_text(encoding="utf-8").splitlines()
        self._orders = lines[: options.orders]

    @property
    def metrics(self) -> str:
        """host:port of the orchestrator that is left at the end."""
        return f"127.0.0.1:{self._ports[3]}"

    async def run(self) -> int:
        """1 bring everything up · 2 place orders, kill an orchestrator half-way · 3 wait for outcomes · 4 audit."""
        partitions = self._bring_up()
        await self._until_ready()
        config = Config.read(self.crew.environment)
        log = open_log(config, "demo")
        await log.open()
        following = asyncio.create_task(self.watch.follow(log, partitions))
        showing = asyncio.create_task(self._show_progress())
        try:
            await self._while_these_run(self._story(partitions), following, showing)
        finally:
            for task in (following, showing):
                task.cancel()
            await asyncio.gather(following, showing, return_exceptions=True)
            await log.close()
        self.say("the audit reads all databases and the journal:")
        code = self.crew.run(*_audit(self._reactors))
        if code == 0:
            self.say("every order has one outcome, and all books agree")
        return code

    def say(self, text: str) -> None:
        passed = int(time.monotonic() - self._began)
        print(f"{passed // 60:02}:{passed % 60:02}  {text}", flush=True)

    # --- 1 bring everything up ------------------------------------------------------------------------------------------------------

    def _bring_up(self) -> int:
        """Start every process; returns the number of partitions."""
        environment = self.crew.environment
        order, gateway, first, second, analytics = (f"127.0.0.1:{port}" for port in self._ports)
        environment |= {"CHECKOUT_ORDER_HTTP": order, "CHECKOUT_GATEWAY_HTTP": gateway, "CHECKOUT_ANALYTICS_HTTP": analytics}
        self._choose_log()
        if self.crew.run("saga.cli", "topics", "apply") != 0:
            raise DemoFailed("the topics could not be created")
        self._reactors = _reactors(environment)
        names = " and ".join(REACTORS)
        listening = f"{names} listen" if self._reactors else f"without {names}, which need Faust on a Kafka"
        self.say(f"starting the payment gateway, four services and two orchestrators; {listening}")
        for service in ("gateway", *SERVICES, *self._reactors):
            self.crew.start(service, "services.checkout", service)
        for name, address in zip(ORCHESTRATORS, (first, second), strict=True):
            self.crew.start(name, "saga.cli", "run", SAGA_HTTP=address)
        from services import app  # here, since it reads the environment of the services, which has only now been made

        return app.partitions

    def _choose_log(self) -> None:
        """What SAGA_LOG or SAGA_BOOTSTRAP names; else a Kafka of our own; else, where there is no way to one, a file log."""
        environment = self.crew.environment
        if given := environment.get("SAGA_LOG") or environment.get("SAGA_BOOTSTRAP"):
            prefix = environment.setdefault("SAGA_PREFIX", f"demo-{int(time.time())}-")
            kafka = f"Kafka at {given}, topics begin with {prefix!r} and stay there"
            self.say(f"the log is {given}, in a folder {prefix}" if environment.get("SAGA_LOG") else kafka)
            return
        self.say("looking for Java and Kafka; if Kafka is not here yet, Maven fetches it now, once")
        if reason := no_kafka():
            environment["SAGA_LOG"] = f"file:{FOLDER / 'log'}"
            self.say(f"no Kafka here, so the same on a file log in {FOLDER.relative_to(ROOT)}/log: {reason}")
        else:
            self.say("starting Kafka")
            environment["SAGA_BOOTSTRAP"] = self.crew.start_broker()

    async def _until_ready(self) -> None:
        order, gateway, first, second, _ = (f"http://127.0.0.1:{port}" for port in self._ports)
        waiting = {f"{order}/healthz", f"{gateway}/healthz", f"{first}/readyz", f"{second}/readyz"}

        async with httpx.AsyncClient(trust_env=False) as http:

            async def ready() -> bool:
                for url in sorted(waiting):
                    with contextlib.suppress(httpx.HTTPError):
                        if (await http.get(url)).status_code == 200:
                            waiting.discard(url)
                return not waiting

            await self._until(ready, READY_SECONDS, lambda: f"no answer yet from {', '.join(sorted(waiting))}")

    # --- 2 the story ----------------------------------------------------------------------------------------------------------------

    async def _story(self, partitions: int) -> None:
        async def all_owned() -> bool:
            owned = [len(self.watch.owned_by(self.crew.pid(name))) for name in ORCHESTRATORS]
            return sum(owned) == partitions and all(owned)

        await self._until(all_owned, READY_SECONDS, lambda: f"{len(self.watch.owners)} of {partitions} partitions are owned")
        self.say(f"placing {len(self._orders)} orders, {self.options.rate:g} a second, over HTTP")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._place_all())
            tasks.create_task(self._kill_half_way())
        self.say("all orders are placed; waiting until each has its outcome")

        async def all_settled() -> bool:
            return self.watch.settled + len(self.watch.parked) >= len(self._orders)

        await self._until(all_settled, SETTLE_SECONDS, lambda: f"{self.watch.running} orders have no outcome yet")
        self.say(self._line())
        for instance, why in self.watch.parked.items():
            self.say(f"parked: {instance}: {why}")
        if self._reactors:
            await self._reacted()

    async def _place_all(self) -> None:
        url = f"http://127.0.0.1:{self._ports[0]}"
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http, asyncio.TaskGroup() as tasks:
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

        await self._until(accepted, POST_SECONDS, lambda: f"an order cannot be placed: {said}")
        self.placed += 1

    async def _kill_half_way(self) -> None:
        async def half_way() -> bool:
            return self.placed >= len(self._orders) // 2

        await self._until(half_way, READY_SECONDS + len(self._orders) / self.options.rate, lambda: "not half-way yet")
        victim = ORCHESTRATORS[0]
        lost = self.watch.owned_by(self.crew.pid(victim))
        self.crew.kill(victim)
        at = time.time_ns() // 1_000_000
        self.say(f"{victim} is killed with -9; it owned {len(lost)} of {len(self.watch.owners)} partitions")

        async def taken_over() -> bool:
            return all(found.owner != lost[number].owner for number, found in self._now(lost).items())

        await self._until(taken_over, SETTLE_SECONDS, lambda: "nobody has taken over its partitions yet")
        last = max((found.claimed for found in self._now(lost).values()), default=at) - at
        self.say(
            f"{ORCHESTRATORS[1]} owns them all {last / 1000:.1f} s after the kill (it counts as dead after {SESSION_SECONDS} s of silence)"
        )

        async def decided() -> bool:
            return any(found.decided for found in self._now(lost).values())

        await self._until(decided, SETTLE_SECONDS, lambda: "the new owner has decided nothing yet")
        first = min(found.decided for found in self._now(lost).values() if found.decided) - at
        self.say(f"its first decision for them came {first / 1000:.1f} s after the kill")

    def _now(self, lost: dict[int, Ownership]) -> dict[int, Ownership]:
        return {number: self.watch.owners[number] for number in lost}

    async def _reacted(self) -> None:
        """Reactors listen in their own time: wait until they, too, have heard of every outcome."""
        mails, said = Path(self.crew.environment["CHECKOUT_DATA"]) / "mail", Count()
        url = f"http://{self.crew.environment['CHECKOUT_ANALYTICS_HTTP']}/numbers"

        async with httpx.AsyncClient(trust_env=False) as http:

            async def heard() -> bool:
                nonlocal said
                with contextlib.suppress(httpx.TransportError):
                    if (answer := await http.get(url)).status_code == 200:
                        said = Count(**answer.json()["total"])
                return min(said.completed + said.compensated, _mails(mails)) >= self.watch.settled

            await self._until(
                heard, SETTLE_SECONDS, lambda: f"of {self.watch.settled} outcomes {_mails(mails)} mails and {said} have come"
            )
        revenue = ", ".join(str(Money(minor=minor, currency=currency)) for currency, minor in said.revenue.items())
        self.say(f"{_mails(mails)} mails are written; analytics counts {said.completed} completed orders over {revenue}")

    # --- its pieces -----------------------------------------------------------------------------------------------------------------

    async def _show_progress(self) -> None:
        while True:
            await asyncio.sleep(LINE_SECONDS)
            if self.placed:
                self.say(self._line())

    def _line(self) -> str:
        watch = self.watch
        outcomes = f"completed {len(watch.completed):3}   compensated {len(watch.compensated):3}   parked {len(watch.parked):2}"
        return f"placed {self.placed:3}   running {watch.running:3}   {outcomes}"

    async def _until(self, look: Callable[[], Awaitable[bool]], seconds: float, what: Callable[[], str]) -> None:
        """Wait until `await look()` holds. Raises DemoFailed if a process ends meanwhile, or after `seconds`."""
        until = time.monotonic() + seconds
        while not await look():
            self.crew.check()
            if time.monotonic() > until:
                raise DemoFailed(f"after {seconds:g} s: {what()}")
            await asyncio.sleep(0.05)

    async def _while_these_run(self, story: Any, *others: asyncio.Task[None]) -> None:
        """The story to its end, or the first failure of what must run beside it."""
        told = asyncio.create_task(story)
        try:
            await asyncio.wait([told, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in (told, *others):
                if task.done():
                    task.result()
        finally:
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)


def demo(options: Options) -> int:
    """One demo from beginning to end, with nothing left behind unless it was asked for, or failed and has logs to look at."""
    if stop_kept():
        print("stopped the demo that was left up here", flush=True)
    FOLDER.mkdir()
    environment = {name: text for name, text in os.environ.items() if not name.startswith("CHECKOUT_")}
    environment |= {"SAGA_DEV": "1", "SAGA_SESSION_SECONDS": SESSION_SECONDS, "CHECKOUT_DATA": str(FOLDER / "data")}
    crew, code, keep = Crew(FOLDER, environment, options.keep), 1, False
    story = Demo(options, crew)
    try:
        code = asyncio.run(_interruptible(story))
        keep = options.keep
    except* (DemoFailed, BrokerUnavailable, SagaError) as group:
        for error in group.exceptions:
            print(f"the demo failed: {_innermost(error)}", file=sys.stderr, flush=True)
    finally:
        if not keep:
            crew.stop()
            if sys.exc_info()[0] is not None or code == 0:
                shutil.rmtree(FOLDER, ignore_errors=True)
    if keep:
        _tell_how_to_look(crew, story.metrics)
    elif code != 0 and FOLDER.exists():
        print(f"the logs and databases are in {FOLDER.relative_to(ROOT)}; make clean removes them", file=sys.stderr)
    return code


async def _interruptible(story: Demo) -> int:
    """SIGTERM ends it as Ctrl-C does."""
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    return await story.run()


def _reactors(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Those that can run here: Faust is an extra, and needs Kafka."""
    return REACTORS if not environment.get("SAGA_LOG") and importlib.util.find_spec("faust") else ()


def _audit(reactors: tuple[str, ...]) -> list[str]:
    """The audit's module and arguments."""
    return ["services.checkout.audit", *([] if reactors else ["--without-reactors"])]


def _mails(drop: Path) -> int:
    return sum(1 for _ in drop.glob("*.eml"))


def _innermost(error: BaseException) -> BaseException:
    return _innermost(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _tell_how_to_look(crew: Crew, metrics: str) -> None:
    """Writes .demo/env, which sets a shell to this demo, and says what can be done with it. `metrics`: an orchestrator's address."""
    environment, folder = crew.environment, FOLDER.relative_to(ROOT)
    ours = [name for name in sorted(environment) if name.startswith(("SAGA_", "CHECKOUT_"))]
    lines = [f"export {name}={shlex.quote(environment[name])}" for name in ours if name != "SAGA_SECURITY"]  # it holds secrets
    lines.append(f'export PATH={shlex.quote(str(ROOT / ".venv" / "bin"))}:"$PATH"')
    (FOLDER / "env").write_text("\n".join(lines) + "\n", encoding="utf-8")
    where, reactors = environment.get("SAGA_LOG") or environment["SAGA_BOOTSTRAP"], _reactors(environment)
    numbers = f"\n  curl http://{environment['CHECKOUT_ANALYTICS_HTTP']}/numbers" if reactors else ""
    print(f"""
Everything is still up, on {where}. In a shell, in this folder:
  . {folder}/env                        # sets SAGA_… and CHECKOUT_… to this demo, and finds `saga`
  saga list --state all
  saga show order-0007
  saga why order-0007
  curl http://{environment["CHECKOUT_ORDER_HTTP"]}/orders/order-0007
  curl http://{metrics}/metrics{numbers}
  python -m {" ".join(_audit(reactors))}
  ls {folder}/data/mail {folder}/*.log
To stop it and remove it:
  .venv/bin/python -m services.checkout.demo --stop""")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One demo at a time in a checkout. Raises DemoFailed."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache" / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed("another demo runs in this folder") from None
        yield


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.checkout.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=300, help="how many of the shipped orders (default: all %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="orders a second (default: %(default)g)")
    parser.add_argument("--keep", action="store_true", help="leave everything up at the end (also KEEP=1)")
    parser.add_argument("--stop", action="store_true", help="stop what was left up, and remove it")
    asked = parser.parse_args()
    if not 2 <= asked.orders <= 300 or asked.rate <= 0:
        parser.error("--orders is 2 to 300, --rate more than 0")
    try:
        with _alone():
            if asked.stop:
                print(f"stopped {stop_kept()} processes")
                return 0
            return demo(Options(asked.orders, asked.rate, asked.keep or os.environ.get("KEEP") == "1"))
    except DemoFailed as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; everything is stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
