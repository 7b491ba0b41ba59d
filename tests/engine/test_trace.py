"""The W3C trace context: what counts as one, and what a trace that begins here looks like."""

from __future__ import annotations

import pytest

from saga.engine.trace import begin, read, trace_id

ID, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{ID}-{PARENT}-01"


def test_a_valid_traceparent_is_handed_on_as_it_came() -> None:
    assert read(VALID) == VALID
    assert trace_id(VALID) == ID


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "t",
        f"00-{ID}-{PARENT}",
        f"00-{ID}-{PARENT}-01-more",
        f"00-{ID.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"ff-{ID}-{PARENT}-01",
        f" {VALID}",
        f"{VALID}\n",
        VALID.replace("4", "٤", 1),
    ],
)
def test_a_malformed_traceparent_counts_as_none(malformed: str) -> None:
    assert read(malformed) == ""
    assert trace_id(malformed) == ""


def test_of_a_later_version_what_is_known_is_handed_on() -> None:
    """Section 4.3 of W3C Trace Context: parse what version 00 has, and send on version 00."""
    assert read(f"cc-{ID}-{PARENT}-03-what-the-future-will-be-like") == f"00-{ID}-{PARENT}-01"


def test_a_trace_that_begins_is_valid_and_the_same_for_the_same_seed() -> None:
    seeds = ["", "checkout:order-7:mb2k9x1c", "☂", "\ud800"]
    begun = [begin(seed) for seed in seeds]
    assert [read(each) for each in begun] == begun, "a trace that begins here is not a valid one"
    assert [begin(seed) for seed in seeds] == begun
    assert len({trace_id(each) for each in begun}) == len(seeds)
