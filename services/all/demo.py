"""All examples at once, on one broker and one set of orchestrators.

    python -m services.all.demo [--kill NAME|random|none] [--seed N] [--short] [--keep] [--stop]

Their stories are told side by side, one process of theirs is killed on the way, and each of their audits has to agree.
"""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar

from services.chain.demo import Chain
from services.checkout.example import Checkout
from services.customer.demo import Customer
from services.nightly.demo import Nightly
from services.pipeline.demo import Pipeline
from services.platform.demo import Platform
from services.prediction.demo import Predictions
from services.stage.example import Example, main
from services.stage.findings import Finding

PARTS: tuple[type[Example], ...] = (Checkout, Customer, Chain, Pipeline, Predictions, Platform, Nightly)


class All(Example):
    """Every example, as one system."""

    name, app = "all", "services.all:app"
    processes: ClassVar = {name: module for part in PARTS for name, module in part.processes.items()}
    spared: ClassVar = tuple(name for part in PARTS for name in part.spared)

    def settings(self) -> dict[str, str]:
        on_a_file = bool(self.crew.environment.get("SAGA_LOG"))
        for part in PARTS:
            if on_a_file and part.needs_kafka:
                self.say(f"{part.name} is left out on a file log: {part.needs_kafka}")
        chosen = [part for part in PARTS if not (on_a_file and part.needs_kafka)]
        self.parts = [part(self.crew, self.random.randrange(2**24), self.short) for part in chosen]
        return {name: text for part in self.parts for name, text in part.settings().items()}

    def running(self) -> dict[str, tuple[str, ...]]:
        return {name: module for part in self.parts for name, module in part.processes.items()}

    async def story(self) -> None:
        for part in self.parts:
            part.join(self)
        async with asyncio.TaskGroup() as stories:
            for part in self.parts:
                stories.create_task(part.story())
            waits = [asyncio.create_task(part.under_way.wait()) for part in self.parts]
            await asyncio.wait(waits)  # whatever is killed now has work to lose
            self.under_way.set()

    async def audit(self) -> list[Finding]:
        found = []
        for part in self.parts:
            found += [Finding(f"{part.name}: {finding.what}", finding.off) for finding in await part.audit()]
        return found


if __name__ == "__main__":
    sys.exit(main(All))
