"""A JSON Schema for each message type, as text that is the same whenever it is made."""

from __future__ import annotations

import inspect
import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from saga import Command, Message, Refusal
from topics.catalogue import MESSAGES
from topics.protocol import ANNOUNCEMENTS, ANSWERS, CHILDREN, PARENTS, REQUESTS, Schema, name_of

DIALECT = GenerateJsonSchema.schema_dialect  # JSON Schema 2020-12, by its name
PROTOCOL: tuple[Schema, ...] = (*ANSWERS, *ANNOUNCEMENTS, *REQUESTS, *PARENTS, *CHILDREN)


def by_type() -> dict[str, type[BaseModel]]:
    """Every type on the wire, with the class that describes it; of a child's answers, the type and `.child`."""
    return {message.__type__: message for message in MESSAGES} | {name_of(said): said for said in PROTOCOL}


def schema(type: str, model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a message's value."""
    made = model.model_json_schema(mode="validation")
    title = made.pop("title")
    made.pop("description", None)
    return {"$schema": DIALECT, "$id": type, "title": title, "description": description(model), **_open(made)}


def description(model: type[BaseModel]) -> str:
    """What a message means: its docstring, and for a command what it is answered."""
    said = [inspect.cleandoc(model.__doc__)] if model.__doc__ else []
    if issubclass(model, Command):
        said.append(f"A command to {model.__service__}, answered {model.__reply__.__type__}{_no(model)}.")
    elif issubclass(model, Refusal):
        said.append(f'The business "no" of {model.__service__}: final, and nothing was done.')
    elif issubclass(model, Message):
        said.append(f"A fact, said by {model.__service__}.")
    return "\n\n".join(said)


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _no(command: type[Command[Any]]) -> str:
    return "".join(f" or {refusal.__type__}" for refusal in command.__refusals__)


def _open(value: Any) -> Any:
    """Unknown fields are ignored by whoever reads a message; said, since a reader may think otherwise."""
    if isinstance(value, dict):
        found = {name: _open(part) for name, part in value.items()}
        if found.get("type") == "object" and "additionalProperties" not in found:
            found["additionalProperties"] = True
        return found
    return [_open(part) for part in value] if isinstance(value, list) else value
