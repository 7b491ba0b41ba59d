"""An example as a person sees it: what runs, what happens, what is killed, and whether the books agree at the end.

    class Pipeline(Example):
        name, app = "pipeline", "services.pipeline:app"
        processes = {"collector": ("services.pipeline", "collector"), "analyst": ("services.pipeline", "analyst")}

        async def story(self) -> None: ...          # starts sagas, waits for what comes of them
        async def audit(self) -> list[Finding]: ... # reads the databases and the journal, and trusts nobody

    if __name__ == "__main__":
        sys.exit(main(Pipeline))

All runs as processes on a real log, under two orchestrators of its own app. While the story goes on, one process chosen at random is
killed with -9 and started again, as a supervisor would; the seed is said. Then the audit decides: exit code 0 if nothing is off.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import ClassVar

from infra.broker.settings import free_ports
from saga import App, Event
from saga.app import find_app
from saga.config import Config
from saga.connect import opened
from saga.engine.state import Instance, Status
from saga.errors import Unavailable
from saga.instances import instances
from saga.log.base import Log, TopicPartition
from saga.ops.publish import publish
from services.stage.crew import BROKER, FOLDER, ROOT, Crew, DemoFailed
from services.stage.findings import Finding, render
from services.stage.log import choose_log, log_of, shown
from services.stage.run import as_program, play

READY_SECONDS = 90.0  # a dozen Python processes start at once, on what may be two slow cores
SETTLE_SECONDS = 90.0  # an orchestrator that was killed is missed after six seconds, and then has to be made good
ORCHESTRATORS = ("orchestrator-1", "orchestrator-2")
CLI = "saga.cli"


class Example(ABC):
    """One demo. `name` is its folder's and its command's, `app` what `saga --app` is given, `processes` module and arguments by name."""

    name: ClassVar[str]
    app: ClassVar[str]
    processes: ClassVar[Mapping[str, tuple[str, ...]]]
    spared: ClassVar[tuple[str, ...]] = ()  # processes that the killing leaves alone, since their death would prove nothing
    needs_kafka: ClassVar[str] = ""  # why a file log will not do, if it will not: then the demo says so, and does nothing

    def __init__(self, crew: Crew, seed: int, short: bool) -> None:
        self.crew = crew
        self.short = short  # a smaller one, for the tests
        self.random = Random(seed)
        self.data = crew.folder / "data"
        self.under_way = asyncio.Event()  # set by the story: now something may be killed
        self.log: Log
        self._app: App
        self._began = time.monotonic()
        self._ready: list[str] = []

    @abstractmethod
    async def story(self) -> None:
        """What happens. Raises DemoFailed. It sets `under_way` once there is work that a crash could harm."""

    @abstractmethod
    async def audit(self) -> list[Finding]:
        """Whether the books agree, from databases and journal alone. A check with nothing to look at is off: it proves nothing."""

    def settings(self) -> dict[str, str]:
        """Environment variables for all processes, besides SAGA_… and EXAMPLE_DATA, the folder of their databases."""
        return {}

    def running(self) -> Mapping[str, tuple[str, ...]]:
        """The processes of this run, module and arguments by name."""
        return self.processes

    # --- what a story may do ------------------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        seconds = int(time.monotonic() - self._began)
        print(f"{seconds // 60:02}:{seconds % 60:02}  {text}", flush=True)

    async def start(self, event: Event) -> None:
        """Publish an event that starts a saga. Again, if nobody knows whether it got through: a repetition changes nothing (S6)."""

        async def published() -> bool:
            await publish(self.log, self._app.book.sagas, event.__type__, event.model_dump(mode="json"))
            return True

        await self.until(published, lambda: f"{event.__type__} could not be published")

    async def typed(self, *command: str) -> None:
        """What a person types: `saga <command> --app <ours>`, in a process of its own. Raises DemoFailed if its exit code is not 0."""
        code = await asyncio.to_thread(self.crew.run, CLI, *command, "--app", self.app, quiet=True)
        if code != 0:
            raise DemoFailed(f"`saga {shlex.join(command)}` ended with exit code {code}")

    async def until(self, look: Callable[[], Awaitable[bool]], what: Callable[[], str], seconds: float = SETTLE_SECONDS) -> None:
        """Wait until `await look()` holds. Raises DemoFailed with `what()` if it takes longer, or if a process ends by itself.

        The broker may be the one that was killed: while it cannot be reached, it does not hold.
        """

        async def holds() -> bool:
            try:
                return await look()
            except Unavailable:
                return False

        await self.crew.until(holds, seconds, what)

    async def instances(self, saga: str) -> list[Instance]:
        """All instances of a saga that the journal remembers, as they are now."""
        return await instances(saga, Config.read(self.crew.environment))

    async def latest(self, topic: str) -> dict[str, bytes]:
        """What a compacted topic holds, as a table is read back from it: the last value of each key; none where that removes it."""
        found: dict[str, bytes] = {}
        there = (await self.log.describe([topic])).get(topic)
        every = [TopicPartition(topic, number) for number in range(there.partitions if there else 0)]
        for partition, held in (await self.log.bounds(every)).items():
            async for lump in self.log.read(partition, held.start, held.end):
                for record in lump:
                    key = (record.key or b"").decode()
                    found.pop(key, None)
                    if record.value is not None:
                        found[key] = record.value
        return found

    async def asks(self, saga: str, step: str) -> list[str]:
        """The keys of those instances whose question nobody has answered yet."""
        found = [
            state for state in await self.instances(saga) if step in state.steps and state.steps[step].status is Status.WAITING
        ]
        return [state.key for state in found]

    async def settled(self, saga: str, count: int) -> None:
        """Wait until so many instances of a saga have an outcome. Raises DemoFailed."""
        ended = 0

        async def all_ended() -> bool:
            nonlocal ended
            ended = sum(not state.live for state in await self.instances(saga))
            return ended >= count

        await self.until(all_ended, lambda: f"{ended} of {count} {saga} have an outcome")

    def join(self, whole: Example) -> None:
        """Play as a part of another one: on its log, with its app."""
        self.log, self._app, self._began = whole.log, whole._app, whole._began

    # --- from beginning to end ----------------------------------------------------------------------------------------------------------

    @classmethod
    def run(cls, crew: Crew, seed: int, kill: str, short: bool) -> int:
        """1 bring everything up · 2 the story, with one killed · 3 the audit. Its exit code."""

        async def whole() -> int:
            return await cls(crew, seed, short)._run(kill)

        return asyncio.run(whole())

    async def _run(self, kill: str) -> int:
        choose_log(self.crew, self.say)
        if self.needs_kafka and self.crew.environment.get("SAGA_LOG"):
            self.say(f"{self.name} is left out on a file log: {self.needs_kafka}")
            return 0
        self.data.mkdir(exist_ok=True)
        self.crew.environment |= {"EXAMPLE_DATA": str(self.data), **self.settings()}
        os.environ.update(self.crew.environment)  # what is imported here reads the same settings as the services do
        if self.crew.run(CLI, "topics", "apply", "--app", self.app, quiet=True) != 0:
            raise DemoFailed("the topics could not be created")
        self._app = find_app(self.app, ROOT)
        async with opened(Config.read(self.crew.environment), "demo") as self.log:
            self._start_all()
            await self.crew.until_ready(self._ready, READY_SECONDS)
            await self._with_trouble(kill)
            findings = await self.audit()
        print(render(findings), flush=True)
        off = sum(bool(finding.off) for finding in findings)
        self.say("all books agree" if not off else f"{off} of {len(findings)} checks are off")
        return 1 if off or not findings else 0

    def _start_all(self) -> None:
        running = self.running()
        names = ", ".join(running)
        self.say(f"starting {names} and two orchestrators")
        for name, module in running.items():
            self.crew.start(name, *module)
        for name, port in zip(ORCHESTRATORS, free_ports(len(ORCHESTRATORS)), strict=True):
            address = f"127.0.0.1:{port}"
            self._ready.append(f"http://{address}/readyz")
            self.crew.start(name, CLI, "run", "--app", self.app, SAGA_HTTP=address)

    async def _with_trouble(self, kill: str) -> None:
        """The story, and beside it the killing; the first failure of either ends both."""
        async with asyncio.TaskGroup() as tasks:
            trouble = tasks.create_task(self._trouble(kill))
            await self.story()
            if kill != "none" and not self.under_way.is_set():
                raise DemoFailed("the story never said that it is under way, so nothing could be killed")
            await trouble

    async def _trouble(self, kill: str) -> None:
        if kill == "none":
            return
        candidates = [name for name in self.crew.names if name not in self.spared]
        victim = self.random.choice(candidates) if kill == "random" else kill
        if victim not in self.crew.names:
            raise DemoFailed(f"there is no process {victim!r} to kill; there are {', '.join(self.crew.names)}")
        await self.under_way.wait()
        self.crew.kill(victim)
        self.say(f"{victim} is killed with -9, and started again")
        if victim == BROKER:  # it takes its time, in which the story goes on
            await asyncio.to_thread(self.crew.again, victim)
        else:
            self.crew.again(victim)

    @classmethod
    def env_file(cls, crew: Crew) -> None:
        """Writes `env` into the demo's folder, which sets a shell to it, and says what can be done with it."""
        ours = [name for name in sorted(crew.environment) if name.startswith(("SAGA_", "EXAMPLE_"))]
        lines = [f"export {name}={shlex.quote(crew.environment[name])}" for name in ours if name != "SAGA_SECURITY"]
        lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
        (crew.folder / "env").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(
            f"\nEverything is still up, on {log_of(crew)}. In a shell, in this folder:\n  . {shown(crew.folder)}/env\n"
            f"  saga list --state all --app {cls.app}\n"
            f"  saga graph {find_app(cls.app, ROOT).sagas[0].name} --app {cls.app}\n"
            f"  saga map --app {cls.app}\n"
            f"To stop it and remove it:\n  python -m services.{cls.name}.demo --stop"
        )


def main(example: type[Example]) -> int:
    """The program of a demo: `python -m services.<name>.demo [--kill NAME|random|none] [--seed N] [--short] [--keep] [--stop]`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{example.name}.demo", description=(example.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--kill", default="random", metavar="NAME", help="which process is killed on the way: a name, random, none")
    parser.add_argument("--seed", type=int, default=None, help="of what is drawn at random, as which process is killed")
    parser.add_argument("--short", action="store_true", help="a smaller one, as the tests run it")
    parser.add_argument("--keep", action="store_true", help="leave everything up at the end (also KEEP=1)")
    parser.add_argument("--stop", action="store_true", help="stop what was left up, and remove it")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where everything is made, and removed (default: .demo)")
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # while the broker is killed it says so many times a second
    keep, folder = asked.keep or os.environ.get("KEEP") == "1", asked.folder.resolve()
    seed = asked.seed if asked.seed is not None else int.from_bytes(os.urandom(3))

    def act(crew: Crew) -> int:
        print(f"{example.name}, seed {seed}", flush=True)
        code = example.run(crew, seed, asked.kill, asked.short)
        if keep:
            example.env_file(crew)
        return code

    return as_program(folder, asked.stop, lambda: play(folder, keep, act, hidden=("EXAMPLE_",)))


def free_address() -> str:
    """host:port where nobody listens yet, for a server of the example's own."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def data_folder() -> Path:
    """Where the services of an example keep their databases: EXAMPLE_DATA, which the demo sets."""
    return Path(os.environ.get("EXAMPLE_DATA") or ".data").resolve()


def database(service: str) -> str:
    """The SQLAlchemy URL of a service's own database."""
    return f"sqlite:///{data_folder() / service}.db"
