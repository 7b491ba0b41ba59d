"""A package's public names, each loaded when it is first used.

Problem: `import saga` loads everything, which takes half a second; and pytest imports it at every start once this package is installed,
for its plugin, also for people whose tests know no saga. So the names are promised, and loaded when somebody asks for one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def on_demand(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`. `homes`: for each module the names that come from it, in one text."""
    found = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in found:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(found[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
