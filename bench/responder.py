"""What answers commands at no cost: no database, no inbox, no checks. `python -m bench.responder`

It stands on the other side of both the orchestrator and the floor, so that these two differ in the engine alone. Its answers have the
headers, the payloads and so the sizes of the real ones.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench.program import LOOK_SECONDS, follow, run
from bench.shop import ANSWERS, SERVICES, app
from saga.cloudevents import CloudEvent, header_fields, iso_time
from saga.engine.messages import commands_topic, events_topic
from saga.log.base import Log, Outgoing, StoredRecord, TopicPartition

LIMIT = 500  # commands answered by one publish, as many as an orchestrator's partition decides in one commit
ECHOED = ("sagainstance", "sagacommand", "sagaaction", "sagaattempt")


async def respond(log: Log, stop: asyncio.Event) -> None:
    """Answer every command that comes."""
    partitions = [TopicPartition(commands_topic(name), number) for name in SERVICES for number in range(app.partitions)]
    reader = await follow(log, partitions)
    while not stop.is_set():
        commands = await reader.fetch(partitions, limit=LIMIT, timeout=LOOK_SECONDS)
        await log.publish([answer(command) for command in commands])
    await reader.close()


def answer(command: StoredRecord) -> Outgoing:
    """The `done` of a command, on the partition number that it came from."""
    service = command.topic.partition(".")[0]
    reply, more = ANSWERS[service]
    fields = header_fields(command.headers)
    attributes: dict[str, Any] = {name: fields[name] for name in ECHOED}
    event = CloudEvent(
        type=reply.__type__,
        id=f"{fields['sagacommand']}:reply",
        source=service,
        data={"order_id": fields["subject"], **more},
        time=iso_time(command.timestamp),
        subject=fields["subject"],
        attributes=attributes | {"sagaoutcome": "done"},
    )
    return Outgoing(TopicPartition(events_topic(service), command.partition), event.record(command.key))


if __name__ == "__main__":
    run("responder", respond)
