"""What belongs together in one deployment is checked as it is put together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from saga import App, Misconfigured


@pytest.mark.parametrize("begin", ["now", "", None, datetime(2026, 1, 1)])
def test_where_topics_begin_is_one_of_three_things(begin: Any) -> None:
    with pytest.raises(Misconfigured, match='begin= is "earliest", "latest" or a datetime with a time zone, not '):
        App(sagas=[], begin=begin)


@pytest.mark.parametrize("begin", ["earliest", "latest", datetime(2026, 1, 1, tzinfo=UTC)])
def test_each_of_the_three_is_taken(begin: Any) -> None:
    assert App(sagas=[], begin=begin).begin == begin
