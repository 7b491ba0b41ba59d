"""A message with blanks in it: what somebody has to say, as JSON that is only to be changed where it is not so. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_BLANKS: Mapping[str, Any] = {"boolean": True, "integer": 0, "number": 0.0, "string": "…", "array": [], "null": None}
_DEEPEST = 3  # levels of a message that are written out


def blank(message: type[BaseModel]) -> str:
    """The fields that a message must have; all of it, where there is none. In shell it goes between single quotation marks."""
    try:
        schema = message.model_json_schema()
    except Exception:  # a type that has no schema
        return "{…}"
    return json.dumps(_value(schema, schema, _DEEPEST), ensure_ascii=False).replace("'", "’")


def _value(schema: Mapping[str, Any], whole: Mapping[str, Any], depth: int) -> Any:
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if chosen := schema.get("enum") or schema.get("examples"):
        return chosen[0]
    if kinds := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return _value(kinds[0], whole, depth)
    fields = schema.get("properties")
    if fields and depth:
        needed = schema.get("required") or list(fields)
        return {name: _value(fields[name], whole, depth - 1) for name in needed}
    return _BLANKS.get(schema.get("type", ""), {})
