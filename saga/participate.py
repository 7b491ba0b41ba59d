"""A service's process: its participants at work, and what operators ask of it over HTTP.

await participate({payment: Store("sqlite:///payment.db", tables=TABLES)}, Config.read(), stop)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from saga.config import Config
from saga.connect import open_log
from saga.metrics import ParticipantMetrics
from saga.ops.http import participant_application, serving
from saga.participant import Participant, ParticipantRunner, Store

logger = logging.getLogger("saga.participant")


async def participate(services: Mapping[Participant, Store], config: Config, stop: asyncio.Event) -> None:
    """Take commands for these participants, each on its database, until `stop` is set; then finish what is in flight and leave.

    Serves /metrics, /healthz and /readyz on SAGA_PARTICIPANT_HTTP. The stores stay open. Raises Misconfigured if that address
    cannot be had, Unavailable if the log cannot be reached.
    """
    names = {name for participant in services for name in label_names(participant)}
    metrics = ParticipantMetrics(names)
    log = open_log(config, "-".join(participant.name for participant in services))
    await log.open()
    try:
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
    finally:
        await log.close()


def label_names(participant: Participant) -> set[str]:
    """Whatever may be the value of a metric's label: the participant's own name, and the commands that it handles."""
    return {participant.name, *participant.handlers}
