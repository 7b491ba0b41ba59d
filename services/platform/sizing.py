"""How many workers a load needs. The meter asks when it looks whether something is to be said, and the saga when it decides."""

from __future__ import annotations

FEWEST, MOST = 1, 4
JOBS_EACH = 10  # that wait, for each worker: more than this, and another one is wanted
CALM = (
    3  # jobs that wait; only below it workers are stopped, so that a load around a limit does not start and stop one all the time
)


def workers_for(waiting: int, have: int) -> int:
    """So many workers, where `have` work and so many jobs wait."""
    wanted = max(FEWEST, min(MOST, -(-waiting // JOBS_EACH)))
    return wanted if wanted > have or waiting < CALM else have
