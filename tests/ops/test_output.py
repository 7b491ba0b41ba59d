"""Tables and stories as they leave: whole in a pipe, fitted on a terminal, plain where nobody wants colours; keys that can be seen."""

from __future__ import annotations

import io

import pytest

from saga.ops.lines import Tone
from saga.ops.output import MOST_PADDED, Format, Output
from saga.ops.words import counted, named

LONG = "order-" + "x" * 300 + "-0007"
ROWS = [
    (Tone.STUCK, ("parked", LONG, "the reason stands here, and is what an operator reads first")),
    (Tone.PLAIN, ("running", "k", "soon")),
]


def table(width: int | None, monkeypatch: pytest.MonkeyPatch, *, colours: bool = True) -> str:
    for name, value in {
        "FORCE_COLOR": "1" if width else "",
        "COLUMNS": str(width or ""),
        "NO_COLOR": "" if colours else "1",
    }.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    Output(Format.TABLE, out).table(("STATE", "KEY", "WHAT"), ROWS)
    return out.getvalue()


def test_in_a_pipe_nothing_is_cut_and_one_long_key_does_not_widen_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    head, parked, running = table(None, monkeypatch).splitlines()
    assert parked == f"parked   {LONG}  the reason stands here, and is what an operator reads first"
    assert running == f"running  k{' ' * MOST_PADDED} soon"
    assert head.endswith("  WHAT")


def test_on_a_terminal_a_long_key_keeps_its_end_and_the_reason_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = table(140, monkeypatch, colours=False).splitlines()
    assert len(wide) == 3
    assert "…" in wide[1]
    assert "xx-0007  the reason stands here" in wide[1]
    narrow = table(50, monkeypatch, colours=False).splitlines()
    assert narrow[0].split() == ["STATE", "KEY"]
    assert narrow[2:4] == ["    the reason stands here, and is what an", "    operator reads first"]
    assert max(map(len, narrow)) <= 50


def test_who_wants_no_colours_gets_no_codes_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" in table(140, monkeypatch)
    assert "\x1b" not in table(140, monkeypatch, colours=False)


@pytest.mark.parametrize(
    ("key", "shown"), [("o-1", "o-1"), (" o-1", '" o-1"'), ("   ", '"   "'), ("", '""'), ("a b", "a b"), ("\u00a0", '"\\xa0"')]
)
def test_a_key_whose_spaces_would_not_be_seen_is_quoted(key: str, shown: str) -> None:
    assert named(key) == shown


def test_one_is_not_many() -> None:
    assert [counted(n, "decision") for n in (0, 1, 2)] == ["0 decisions", "1 decision", "2 decisions"]
