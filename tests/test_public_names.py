"""The public names: each is there, is loaded only when it is used, and is what the type checker takes it for."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def promised(package: str) -> dict[str, str]:
    """For each name that a type checker sees in a package: the module it comes from."""
    tree = ast.parse(Path(ROOT, *package.split("."), "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {alias.name: str(line.module) for line in block.body if isinstance(line, ast.ImportFrom) for alias in line.names}


@pytest.mark.parametrize("package", ["saga", "saga.testing"])
def test_each_public_name_is_what_the_type_checker_takes_it_for(package: str) -> None:
    module, names = importlib.import_module(package), promised(package)
    assert sorted(names) == sorted(module.__all__), "a name is promised and not public, or the other way round"
    for name, home in names.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nonesuch'"):
        module.Nonesuch  # noqa: B018


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys, saga\n"
        "assert 'saga.app' not in sys.modules\n"
        "from saga import Saga\n"
        "assert 'saga.engine.definition' in sys.modules\n"
        "assert 'sqlalchemy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
