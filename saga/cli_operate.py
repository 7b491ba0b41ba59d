"""What operators do: `saga retry`, `resume`, `cancel`, `compensate`, `skip`, `edit`, `signal`, `answer`.

Every action is a record in the journal with who and why. What came of it is heard from there: exit code 0 if it was done, 3 if it was
refused or the instance parked, 1 if the instance is not known or nobody decided in time, 2 for a mistake in the command.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Annotated, Any

import typer

from saga.cli_parts import AppOption, FormatOption
from saga.cli_tool import (
    KeyArgument,
    OlderOption,
    ReasonOption,
    SagaOption,
    StepOption,
    book_at_hand,
    json_value,
    with_tool,
)
from saga.engine.actions import CANCEL, COMPENSATE, EDIT, RESUME, RETRY, SIGNAL, SKIP
from saga.errors import Misconfigured
from saga.ops.acting import Chosen, act_on, answer, edit
from saga.ops.commands import login_name
from saga.ops.edits import merged
from saga.ops.listing import Filter, Shown
from saga.ops.operate import DEFAULT_PATIENCE, DEFAULT_RATE, Act
from saga.ops.output import Format
from saga.ops.words import parse_duration

operate_cli = typer.Typer()

WhyOption = Annotated[str, typer.Option("--why", help="why you do it; it stands in the journal (needed to do anything)")]
WhoOption = Annotated[str, typer.Option("--who", help="who does it; else the login name")]
WaitOption = Annotated[float, typer.Option("--wait", min=0, help="how many seconds to wait for what comes of it")]
OfOption = Annotated[str | None, typer.Option("--saga", help="of this saga; needed where the key is of several")]
StepArgument = Annotated[
    str, typer.Argument(metavar="STEP", help="the step's name; of a mapped step with its item, e.g. reserve/2", show_default=False)
]

_MANY = """

The action goes into the journal with who and why.

With KEY it is done at once. With --saga, --step, --reason or --older those that fit are shown, and it is done with --yes.
Exit code 0 if it was done, 3 if one was refused or parked, 1 if one is not known or nobody decided it in time."""


def _one_or_many(name: str, action: str, shown: Shown, what: str) -> None:
    """A command that acts on one instance, or on all that a filter takes."""

    @operate_cli.command(name, help=what + _MANY)
    def command(
        key: Annotated[str | None, typer.Argument(metavar="KEY", help="one instance; without it all that the options name")] = None,
        saga: SagaOption = None,
        step: StepOption = None,
        reason: ReasonOption = None,
        older: OlderOption = "0s",
        why: WhyOption = "",
        who: WhoOption = "",
        yes: Annotated[bool, typer.Option("--yes", help="do it; without it many are only shown")] = False,
        rate: Annotated[float, typer.Option("--rate", min=0.01, help="at most so many a second")] = DEFAULT_RATE,
        wait: WaitOption = DEFAULT_PATIENCE,
        app: AppOption = None,
        output: FormatOption = Format.TABLE,
    ) -> None:
        wanted = Filter(saga, shown, step, reason, parse_duration(older))
        if key is None and wanted == Filter(shown=shown):
            raise Misconfigured("say which: a KEY, or --saga, --step, --reason, --older")
        act = Act(who or login_name(), why.strip(), rate, wait, action)
        if key is not None or yes:
            _needs_why(act)
        with_tool(output, book_at_hand(app), lambda tool: act_on(tool, Chosen(key, wanted, yes), act))


_one_or_many("retry", RETRY, Shown.PARKED, "Let parked instances go on: what is stuck gets another attempt.")
_one_or_many("resume", RESUME, Shown.PARKED, "Let parked instances take what was kept for them; no command is sent again.")
_one_or_many("cancel", CANCEL, Shown.LIVE, "Turn instances back, as long as they are before their pivot.")
_one_or_many(
    "compensate",
    COMPENSATE,
    Shown.LIVE,
    "Turn instances back, and undo what is stuck, too, as if it had happened: its participant knows whether it did.",
)


@operate_cli.command()
def skip(
    key: KeyArgument,
    step: StepArgument,
    result: Annotated[str, typer.Option("--result", help="what the step would have been answered, as JSON")] = "",
    nothing: Annotated[bool, typer.Option("--nothing", help="it never happened: the saga turns back")] = False,
    saga: OfOption = None,
    why: WhyOption = "",
    who: WhoOption = "",
    wait: WaitOption = DEFAULT_PATIENCE,
    app: AppOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Settle a step that is stuck, by hand.

    With --result it counts as done, with --nothing as never done. A compensation counts as done, and takes neither.
    """
    if result and nothing:
        raise Misconfigured("--result says that it was done, --nothing that it was not; say one of them")
    given: dict[str, Any] = {"nothing": True} if nothing else {"result": json_value(result, "--result")} if result else {}
    act = Act(who or login_name(), why.strip(), patience=wait, action=SKIP, data={"step": step, **given})
    _act_on_one(key, saga, act, output, app)


@operate_cli.command("edit")
def edit_(
    key: KeyArgument,
    data: Annotated[str, typer.Option("--data", help="all of its data, as JSON")] = "",
    set_: Annotated[list[str], typer.Option("--set", help="one value of it, e.g. address.city=Rome; JSON, else text")] = [],  # noqa: B006
    saga: OfOption = None,
    why: WhyOption = "",
    who: WhoOption = "",
    wait: WaitOption = DEFAULT_PATIENCE,
    app: AppOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Change the data of a parked instance. It stays parked; `saga retry` lets it go on.

    Exit code 2 for a field that the data does not have: with the app's definitions nothing is done then, without them the rest is.
    """
    if bool(data) == bool(set_):
        raise Misconfigured("say what is to change: --set total=4200, or all of it: --data '{\"total\": 4200, …}'")
    change = _setting(set_) if set_ else _giving(json_value(data, "--data"))
    act = _needs_why(Act(who or login_name(), why.strip(), patience=wait, action=EDIT))
    with_tool(output, book_at_hand(app), lambda tool: edit(tool, Chosen(key, Filter(saga), yes=True), change, act))


@operate_cli.command()
def signal(
    key: KeyArgument,
    type: Annotated[str, typer.Argument(metavar="TYPE", help="of the event, e.g. parcel.picked.v1", show_default=False)],
    data: Annotated[str, typer.Argument(metavar="DATA", help="its data, as JSON", show_default=False)],
    step: Annotated[str, typer.Option("--step", help="the step that waits, where several wait for such an event")] = "",
    saga: OfOption = None,
    why: WhyOption = "",
    who: WhoOption = "",
    wait: WaitOption = DEFAULT_PATIENCE,
    output: FormatOption = Format.TABLE,
) -> None:
    """Tell an instance that an event has come which it waits for."""
    given = {"type": type, "data": json_value(data, "the data"), "step": step}
    _act_on_one(key, saga, Act(who or login_name(), why.strip(), patience=wait, action=SIGNAL, data=given), output)


@operate_cli.command("answer")
def answer_(
    key: KeyArgument,
    step: StepArgument,
    data: Annotated[str, typer.Argument(metavar="DATA", help="the answer, as JSON", show_default=False)],
    role: Annotated[str, typer.Option("--role", help="the role in which you answer", show_default=False)],
    saga: OfOption = None,
    why: WhyOption = "",
    who: WhoOption = "",
    wait: WaitOption = DEFAULT_PATIENCE,
    app: AppOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Answer a question. `saga questions` lists those that are open, with the roles that may answer."""
    said = json_value(data, "the answer")
    act = _needs_why(Act(who or login_name(), why.strip(), patience=wait, action=SIGNAL, data={"role": role}))
    with_tool(output, book_at_hand(app), lambda tool: answer(tool, Chosen(key, Filter(saga), yes=True), step, said, act))


def _act_on_one(key: str, saga: str | None, act: Act, output: Format, app: str | None = None) -> None:
    _needs_why(act)
    with_tool(output, book_at_hand(app), lambda tool: act_on(tool, Chosen(key, Filter(saga), yes=True), act))


def _needs_why(act: Act) -> Act:
    if not act.why:
        raise Misconfigured('say why: --why "gateway is back"; it stands in the journal')
    return act


def _giving(data: Any) -> Callable[[Any], Any]:
    return lambda _before: data


def _setting(given: list[str]) -> Callable[[Any], Any]:
    """What puts these values into the data. Raises Misconfigured for one without a `=`."""
    pairs = []
    for text in given:
        path, equals, value = text.partition("=")
        if not path or not equals:
            raise Misconfigured(f"--set takes a place and a value, like address.city=Rome, not {text!r}")
        try:
            pairs.append((path, json_value(value, path)))
        except Misconfigured:
            pairs.append((path, value))
    return lambda before: reduce(lambda data, pair: merged(data, *pair), pairs, before)
