"""A service's process: its participants at work, and what operators ask of it over HTTP.

if __name__ == "__main__":
    serve({payment: Store("sqlite:///payment.db", tables=TABLES)})          # the whole program

await participate({payment: store}, config, stop)                           # beside an HTTP API of the service, say
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping

from saga.config import Config
from saga.connect import opened
from saga.errors import Misconfigured, SagaError
from saga.garbage import look_seldom
from saga.logs import set_up
from saga.metrics import ParticipantMetrics
from saga.ops.http import participant_application, serving
from saga.participant import Participant, ParticipantRunner, Store

logger = logging.getLogger("saga.participant")


def serve(services: Mapping[Participant, Store]) -> None:
    """The whole program of a service: take commands for these participants until SIGTERM or Ctrl-C, then close the stores.

    Settings are those of `saga.config`. If the log or an address cannot be had, the process ends with exit code 1 and a line
    that says so.
    """

    async def work(stop: asyncio.Event) -> None:
        try:
            await participate(services, Config.read(), stop)
        finally:
            for store in services.values():
                store.close()

    if code := until_told(work, ", ".join(participant.name for participant in services)):
        sys.exit(code)


def until_told(work: Callable[[asyncio.Event], Awaitable[None]], name: str) -> int:
    """Run `work(stop)` until it ends, or SIGTERM or Ctrl-C sets `stop`; the exit code of the process. Errors of ours are told in a line."""
    try:
        config = Config.read()
    except Misconfigured as mistake:
        print(f"{name} stops: {mistake}", file=sys.stderr)
        return 1
    look_seldom()
    set_up(config.logs, config.logs_level)
    for line in config.remarks:
        logger.warning(line)

    async def program() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await work(stop)

    failed: list[BaseException] = []
    try:
        asyncio.run(program())
    except* (SagaError, OSError) as group:
        failed = _leaves(group)
    for error in failed:
        logger.error("%s stops: %s: %s", name, type(error).__name__, error)
    return 1 if failed else 0


async def participate(services: Mapping[Participant, Store], config: Config, stop: asyncio.Event) -> None:
    """Take commands for these participants, each on its database, until `stop` is set; then finish what is in flight and leave.

    Serves /metrics, /healthz and /readyz on SAGA_PARTICIPANT_HTTP. The stores stay open. Raises Misconfigured if that address
    cannot be had, Unavailable if the log cannot be reached.
    """
    names = {name for participant in services for name in label_names(participant)}
    metrics = ParticipantMetrics(names)
    async with opened(config, "-".join(participant.name for participant in services)) as log:
        runners = [ParticipantRunner(participant, store, log, meter=metrics) for participant, store in services.items()]
        told = "metrics and health of %s on http://%s"
        async with (
            serving(
                participant_application(runners, metrics),
                config.participant_http,
                lambda address: logger.info(told, ", ".join(runner.name for runner in runners), address),
                "SAGA_PARTICIPANT_HTTP",
            ),
            asyncio.TaskGroup() as tasks,
        ):
            for runner in runners:
                tasks.create_task(runner.run(stop))


def label_names(participant: Participant) -> set[str]:
    """Whatever may be the value of a metric's label: the participant's own name, and the commands that it handles."""
    return {participant.name, *participant.handlers}


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
