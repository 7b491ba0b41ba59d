"""What an audit says: a sentence with its numbers for each check, and what is off."""

from __future__ import annotations

from typing import NamedTuple

SHOWN = 5  # of what is off, in full; the rest is counted


class Finding(NamedTuple):
    """What one check came to. Nothing is off if all is well."""

    what: str
    off: list[str]


def counted(number: int, one: str, many: str = "") -> str:
    """`1 night`, `2 nights`; a word that does not end so is given."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def render(findings: list[Finding]) -> str:
    """A line for each check, and beneath it what is off."""
    lines = []
    for finding in findings:
        lines.append(f"  {'OFF' if finding.off else 'ok '}  {finding.what}")
        lines += [f"         {what}" for what in finding.off[:SHOWN]]
        if len(finding.off) > SHOWN:
            lines.append(f"         … and {len(finding.off) - SHOWN} more")
    return "\n".join(lines)
