"""The sums of analytics: by currency, by window, and only what was written by us."""

from __future__ import annotations

import pytest

from saga.errors import Corrupt
from services.checkout.numbers import WINDOW, Count, Row, by_window, count, decode_row, encode_row

ROWS = [
    Row(True, 3 * WINDOW, "EUR", 100),
    Row(True, 4 * WINDOW - 1, "JPY", 7),
    Row(False, 4 * WINDOW, "EUR", 9_999),
    Row(True, 9 * WINDOW, "EUR", 50),
]


def test_revenue_is_what_completed_orders_cost_in_each_currency() -> None:
    assert count(ROWS) == Count(3, 1, {"EUR": 150, "JPY": 7})
    assert count([]) == Count()


def test_windows_begin_at_multiples_of_their_length_and_come_in_order() -> None:
    by_minute = by_window(reversed(ROWS))
    assert list(by_minute.items()) == [
        (3 * WINDOW, Count(2, 0, {"EUR": 100, "JPY": 7})),
        (4 * WINDOW, Count(0, 1, {})),
        (9 * WINDOW, Count(1, 0, {"EUR": 50})),
    ]
    assert list(by_window(ROWS, 5 * WINDOW)) == [0, 5 * WINDOW]


def test_a_row_is_read_as_it_was_written_and_nothing_else_is_read() -> None:
    assert [decode_row(encode_row(row)) for row in ROWS] == ROWS
    for raw in (b"", b"[]", b"{}", b'[1,2,"EUR",3]', b'[true,2,"EUR",3,4]', b'[true,"2","EUR",3]', b"\xff"):
        with pytest.raises(Corrupt, match="no row of the table outcomes"):
            decode_row(raw)
