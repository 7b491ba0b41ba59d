"""A data pipeline on measurements of real patients, some of them damaged: collected, cleaned, analysed, loaded once; a stage is run again.

`make demo-pipeline`
"""

from __future__ import annotations

import sys
from typing import ClassVar

from services.pipeline import files
from services.pipeline.audit import audit, read_books
from services.pipeline.clinics import MOST_BATCHES, Delivery, deliveries, patients
from services.pipeline.saga import Batch, pipeline
from services.pipeline.settings import Settings
from services.stage.example import Example, free_address, main
from services.stage.findings import Finding
from topics.pipeline import BatchArrived, Part


class Pipeline(Example):
    """Batches of measurements, some damaged, on their way into a warehouse."""

    name, app = "pipeline", "services.pipeline:app"
    processes: ClassVar = {name: ("services.pipeline", name) for name in ("source", "collector", "cleaner", "analyst", "warehouse")}

    made: list[Delivery]

    def settings(self) -> dict[str, str]:
        self._settings = Settings(free_address(), self.random.randrange(2**31), 5 if self.short else MOST_BATCHES)
        self.made = deliveries(self._settings.batches, self._settings.seed)
        return self._settings.environment()

    async def story(self) -> None:
        first, rest = self.made[:2], self.made[2:]
        self.say(
            f"{len(self.made)} batches of diabetes measurements are delivered, with {sum(len(d.damage) for d in self.made)} damaged rows"
        )
        await self._deliver(first)
        await self.settled(pipeline.name, 1)
        await self._deliver(rest)
        self.under_way.set()
        await self.settled(pipeline.name, len(self.made))
        self.say("all have an outcome; the stage that cleans is run again for the first two: now decimal commas are mended")
        for number, delivery in enumerate(first):
            again = arrived(delivery, self._settings.source, run=2).model_copy(update={"reuse": 1, "repair": True})
            if number == 0:  # as a person would; the other is published by a program
                await self.typed("publish", again.__type__, again.model_dump_json())
            else:
                await self.start(again)
        await self.settled(pipeline.name, len(self.made) + len(first))

    async def audit(self) -> list[Finding]:
        runs = [(str(state.phase), Batch.model_validate(state.data)) for state in await self.instances(pipeline.name)]
        return audit(read_books(runs), self.made, patients())

    async def _deliver(self, made: list[Delivery]) -> None:
        for delivery in made:
            await self.start(arrived(delivery, self._settings.source))


def arrived(delivery: Delivery, source: str, run: int = 1) -> BatchArrived:
    """What the clinics say of a delivery. `source`: host:port of their server."""

    def where(part: int) -> str:
        if delivery.by_file(part):
            return str(files.delivered(delivery.batch_id, part))
        return f"http://{source}/batches/{delivery.batch_id}/parts/{part}"

    parts = tuple(Part(number=part, where=where(part)) for part in range(len(delivery.parts)))
    return BatchArrived(batch_id=delivery.batch_id, run=run, parts=parts)


if __name__ == "__main__":
    sys.exit(main(Pipeline))
