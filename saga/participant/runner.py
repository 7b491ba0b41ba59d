"""Runs a participant: reads its commands, has them executed, publishes the answers, commits the offsets."""

from __future__ import annotations

import asyncio

from saga.log.base import Log
from saga.participant.participant import Participant
from saga.participant.settings import Meter, NoMeter, Settings
from saga.participant.store import Store


class ParticipantRunner:
    """One process's share of a participant's work.

    `log` must be open. The group is the participant's name, the topic `<service>.commands`.
    """

    def __init__(
        self, participant: Participant, store: Store, log: Log, *, settings: Settings | None = None, meter: Meter | None = None
    ) -> None:
        self.participant = participant
        self.store = store
        self.log = log
        self.settings = settings or Settings()
        self.meter: Meter = meter or NoMeter()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what is in flight, publish, commit, and leave the group."""
        raise NotImplementedError
