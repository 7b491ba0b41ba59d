"""For an example whose services start programs themselves: children that end with the process which started them, also if it is killed."""

from __future__ import annotations

from infra.process import command_line, halt, last_lines, spawn

__all__ = ["command_line", "halt", "last_lines", "spawn"]
