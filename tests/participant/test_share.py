"""Where a participant reads on: a command read twice does no harm, one that is passed over is lost."""

from __future__ import annotations

import pytest

from saga.log.base import Bounds, TopicPartition
from saga.participant.share import Progress, _within

HELD = Bounds(10, 20)


@pytest.mark.parametrize(
    ("committed", "reads_from"),
    [
        pytest.param(None, 10, id="a new group: from the start"),
        pytest.param(10, 10, id="at the start"),
        pytest.param(15, 15, id="in the middle"),
        pytest.param(20, 20, id="at the end"),
        pytest.param(9, 10, id="retention ate some: from what is left"),
        pytest.param(21, 10, id="the topic was made anew: from its start, not from its end"),
    ],
)
def test_a_partition_is_read_on_where_no_command_is_passed_over(committed: int | None, reads_from: int) -> None:
    assert _within(TopicPartition("payment.commands", 0), committed, HELD) == reads_from


def test_what_is_committed_is_the_first_record_that_is_not_done() -> None:
    progress = Progress(5)
    assert progress.position == 5
    for offset in (5, 6, 8):
        progress.began(offset)
    progress.read = 9
    assert progress.position == 5
    progress.done(6)
    assert progress.position == 5, "6 is done and 5 is not"
    progress.done(5)
    assert progress.position == 8
    progress.done(8)
    assert progress.position == 9, "all is done that was read"
