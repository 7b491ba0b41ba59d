"""What the journal says of every instance, for programs that report, count or check. It joins no group and writes nothing."""

from __future__ import annotations

from saga.config import Config
from saga.connect import opened
from saga.engine.state import Instance, Phase
from saga.ops.look import Journals

__all__ = ["Instance", "Phase", "instances"]


async def instances(saga: str | None = None, config: Config | None = None) -> list[Instance]:
    """Every instance that is remembered, of one saga or of all, as the journal has it now; in the order in which they began.

    `config`: where the log is; else as the environment says. Raises Misconfigured if there is no journal, Unavailable if the log
    cannot be reached.
    """
    async with opened(config or Config.read(), "instances", make=False) as log:
        journals = Journals(log)
        folds = [await journals.fold(partition) for partition in await journals.partitions()]
    found = [state for fold in folds for state in fold.states() if saga in (None, state.saga) and state.phase is not Phase.EARLY]
    return sorted(found, key=lambda state: (state.started, state.id))
