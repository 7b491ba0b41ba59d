"""An edit of an instance's data: what is set where, and what came of it. Pure.

The data goes through the user's class, which passes over what it does not know; a name with a typing mistake would then be nothing
that anybody notices. So it is put through that class before it is sent, where the class is at hand, and what the class does not give
back is told. Where it is not, what was decided is compared with what was asked for.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from saga.errors import Misconfigured
from saga.ops.words import plain


def merged(data: Any, path: str, value: Any) -> Any:
    """The data with another value at a path like `address.city` or `lines.0.sku`. Raises Misconfigured if there is no such place."""
    name, _, rest = path.partition(".")
    if isinstance(data, list) and name.isdecimal() and int(name) < len(data):
        return [
            merged(old, rest, value) if rest and n == int(name) else value if n == int(name) else old for n, old in enumerate(data)
        ]
    if isinstance(data, dict) and name:
        return {**data, name: merged(data.get(name, {}), rest, value) if rest else value}
    raise Misconfigured(f"--set {path}: there is no such place in {'a list' if isinstance(data, list) else 'a value'}")


def require_fields(model: type[BaseModel], data: Any) -> None:
    """Raises Misconfigured for a place that the data's class passes over. Data that is not valid is for the engine to refuse."""
    for text in unknown_fields(model, data):
        raise Misconfigured(text)


def unknown_fields(model: type[BaseModel], data: Any) -> Iterator[str]:
    """A sentence for each place that the class passes over, with the name that is meant; none for data that is not valid."""
    try:
        made = json.loads(model.model_validate(data).model_dump_json())
    except Exception:  # whatever a validator raises: the instance's owner says so, for the journal
        return
    for path, known in passed_over(data, made):
        *above, name = path.split(".")
        meant = difflib.get_close_matches(name, known, n=1)
        place = f" at {'.'.join(above)}" if above else ""
        yield f"{model.__name__} has no {name!r}{place}" + (f"; is {meant[0]!r} meant?" if meant else "")


def passed_over(asked: Any, made: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """The places that were asked for and are not in what was made of it, each with the names that there are."""
    if isinstance(asked, dict) and isinstance(made, dict):
        for name, value in asked.items():
            place = f"{path}.{plain(name)}" if path else plain(name)
            if name in made:
                yield from passed_over(value, made[name], place)
            else:
                yield place, list(made)
    elif isinstance(asked, list) and isinstance(made, list):
        for number, (value, other) in enumerate(zip(asked, made, strict=False)):
            yield from passed_over(value, other, f"{path}.{number}")
