"""The kit's tests run on SQLite and on a real PostgreSQL, each on a database of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.participant.kit import World

Drive = Callable[[Callable[[World], Awaitable[None]]], None]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'payment.db'}"
    server = sa.make_url(request.getfixturevalue("postgresql"))
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def drive(url: str) -> Drive:
    """Runs a test's coroutine in a world of its own, with an event loop and threads as in production."""

    def run(story: Callable[[World], Awaitable[None]]) -> None:
        async def told() -> None:
            world = World(url)
            await world.open()
            try:
                await story(world)
            finally:
                await world.close()

        asyncio.run(told())

    return run
