"""What the demo tells the processes of the pipeline, besides EXAMPLE_DATA.

EXAMPLE_PIPELINE_SOURCE    host:port where the clinics serve their batches (127.0.0.1:8090)
EXAMPLE_PIPELINE_SEED      of the damage (0)
EXAMPLE_PIPELINE_BATCHES   how many there are (5)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "EXAMPLE_PIPELINE_"


@dataclass(frozen=True)
class Settings:
    source: str = "127.0.0.1:8090"
    seed: int = 0
    batches: int = 5

    @staticmethod
    def read(environment: Mapping[str, str] = os.environ) -> Settings:
        usual = Settings()
        return Settings(
            source=environment.get(PREFIX + "SOURCE") or usual.source,
            seed=int(environment.get(PREFIX + "SEED") or usual.seed),
            batches=int(environment.get(PREFIX + "BATCHES") or usual.batches),
        )

    def environment(self) -> dict[str, str]:
        """The same as environment variables, for other processes."""
        return {PREFIX + "SOURCE": self.source, PREFIX + "SEED": str(self.seed), PREFIX + "BATCHES": str(self.batches)}
