"""A database of its own for each test, and an environment with a secret and a proxy in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.participant.http.card_api import SECRET


@pytest.fixture
def url(tmp_path: Path) -> str:
    """SQLite only: what a database does with the kit is tested without HTTP."""
    return f"sqlite:///{tmp_path / 'payment.db'}"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret, and what must have no effect: a proxy where nobody answers."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("CARD_TOKEN", SECRET)
