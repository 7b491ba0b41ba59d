"""How a check is told: a line for each thing that was looked at, and under one that does not hold what was expected, what came, why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from saga.conformance.findings import Finding, Result
from saga.conformance.player import NAME
from saga.conformance.session import Checked, Plan
from saga.ops.lines import Tone
from saga.ops.output import Output
from saga.ops.words import brief, plain

PAGE = "docs/PROTOCOL.md"
LONGEST_VALUE = 500  # characters of what came; the rest is on the topic, at the place that is named
_SIGNS = {Result.OK: ("✓", Tone.GOOD), Result.FAILED: ("✗", Tone.STUCK), Result.SKIPPED: ("–", Tone.QUIET)}
_LABEL = 10  # columns: expected, came, rule


def tell_plan(plan: Plan, output: Output) -> None:
    """What would be sent."""
    if not output.for_people:
        output.values([plan.to_json()])
        return
    step = ""
    for one in plan.commands:
        if one["step"] != step:
            step = one["step"]
            output.text(plain(step), Tone.TITLE)
        _print(
            output,
            f"  {one['action']:<{_LABEL}}  ",
            " " * (_LABEL + 4),
            f"{one['type']} {brief(one['data'], LONGEST_VALUE)}",
            Tone.PLAIN,
        )
    said = [
        f"These go to {plan.topic}, under keys that begin with {NAME}-; answers are expected on {plan.answers}. "
        f"At most {plan.done_at_most} are done, and undone at the end where they have a compensation."
    ]
    if plan.garbage:
        said.append(f"{plan.garbage} records that cannot be read are sent too; a participant that stops at one stays there.")
    kept = {
        "starts": "where an orchestrator runs it begins one for each",
        "is awaited by": "an orchestrator that runs keeps it a while",
    }
    said += [f"{type} {what} {saga}: {kept[what]}." for type, what, saga in plan.heard]
    for text in said:
        _print(output, "", "", text, Tone.PLAIN)


def tell(heading: str, findings: Sequence[Finding], output: Output) -> None:
    """One part of the check, for people."""
    output.text(plain(heading), Tone.TITLE)
    for finding in findings:
        sign, tone = _SIGNS[finding.result]
        _print(output, f"  {sign} ", "    ", finding.says + _remark(finding), tone)
        for label, text in _reasons(finding):
            _print(output, f"      {label:<{_LABEL}}", " " * (6 + _LABEL), text, Tone.PLAIN)


def summary(checked: Checked) -> str:
    """How many checks hold, and what is left behind."""
    count = {result: sum(finding.result is result for finding in checked.findings) for result in Result}
    holds, fails = ("holds" if count[Result.OK] == 1 else "hold"), ("does not" if count[Result.FAILED] == 1 else "do not")
    parts = [f"{count[Result.OK]} {holds}", f"{count[Result.FAILED]} {fails}", f"{count[Result.SKIPPED]} could not be looked at"]
    told = ", ".join(part for part, result in zip(parts, Result, strict=True) if count[result] or result is Result.OK)
    if not any(finding.check == "many-keys" for finding in checked.findings):
        stands = "what was sent stands on its topic, and is done when it runs"
        return f"{told}. Nothing was answered, so no more was asked: does it run, on this log, under this SAGA_PREFIX? ({stands})"
    left = f"{checked.left} are left" if checked.left else "none is left"
    return (
        f"{told}. {checked.sent} records were sent under keys {checked.keys}-…; {checked.undone} effects were undone again, {left}."
    )


def _remark(finding: Finding) -> str:
    if not finding.remark:
        return ""
    return f" ({plain(finding.remark)})" if finding.result is Result.OK else f": {plain(finding.remark)}"


def _reasons(finding: Finding) -> Iterator[tuple[str, str]]:
    if finding.result is not Result.FAILED:
        return
    yield "expected", plain(finding.expected[:LONGEST_VALUE])
    yield "came", plain(finding.came[:LONGEST_VALUE]) + (f" · {plain(finding.where)}" if finding.where else "")
    yield "rule", f"“{finding.rule}” ({PAGE})"


def _print(output: Output, first: str, hang: str, text: str, tone: Tone) -> None:
    """A text in its column, folded to the terminal."""
    if output.width is None:
        output.text(first + text, tone)
        return
    for line in textwrap.wrap(text, output.width, initial_indent=first, subsequent_indent=hang, break_on_hyphens=False):
        output.text(line, tone)
