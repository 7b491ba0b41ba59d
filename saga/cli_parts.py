"""What the commands of `saga` share, in whatever file they stand: options, settings, the app, and how a command ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from saga.app import App, find_app
from saga.config import Config
from saga.ops.output import INTERRUPTED, Format

messages = Console(stderr=True, highlight=False, soft_wrap=True)

AppOption = Annotated[str | None, typer.Option("--app", help="module:attribute of the App; else [tool.saga] app in pyproject.toml")]
FormatOption = Annotated[Format, typer.Option("--output", "-o", help="for people, or for programs")]


def settings() -> Config:
    """The settings; a variable that is none is told. What a library logs of its tries is not: the error that ends them says it."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    config = Config.read()
    for line in config.remarks:
        messages.print(f"saga: {line}", markup=False)
    return config


def named_app(name: str | None) -> App:
    """The app of --app, or of this folder's project. Raises Misconfigured."""
    return find_app(name, Path.cwd())


def run_to_end(what: Coroutine[Any, Any, int | None]) -> None:
    """Run a command; its result is the exit code."""
    try:
        code = asyncio.run(what)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if code:
        raise typer.Exit(code)
