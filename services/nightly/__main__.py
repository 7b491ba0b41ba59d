"""Start services of it: `python -m services.nightly shop|office`."""

from __future__ import annotations

import argparse
from importlib import import_module

from saga import Participant, Store
from saga.participate import serve
from services.nightly import app
from services.stage.example import data_folder, database

HOUSES = {"shop": ("till",), "office": ("numbers", "press", "mailroom", "alarm")}  # two processes: the shop's, and the office's


def stores(house: str) -> dict[Participant, Store]:
    """The participants of a house, each with a database of its own."""
    data_folder().mkdir(parents=True, exist_ok=True)
    tables = {name: import_module(f"services.nightly.{name}").TABLES for name in HOUSES[house]}
    return {app.participants[name]: Store(database(name), tables=made) for name, made in tables.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.nightly", description=__doc__)
    parser.add_argument("house", choices=[*HOUSES])
    serve(stores(parser.parse_args().house))
