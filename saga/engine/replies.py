"""What a reply does to the step it answers: one table, by what it answers and where the step stands.

A reply is believed only if it echoes a command id of this instance (S10), comes from the topic of the service that was asked, and has the
type that the command names. `failed` and `expired` speak of one attempt; `done`, `refused` and `nothing` of the command, whichever
attempt brought them. So a late `done` may meet a step that was given up long ago, and there the naive coordinator loses money: it
ignores it (S15). Here it depends on what was promised since:

    the step is …                    a late `done`
    EXECUTING, VERIFYING             is the step's reply
    UNKNOWN                          is noted; the step is compensated as one that did happen
    COMPENSATING                     is noted; its compensation is on the way
    COMPENSATED, undone              is only late: it was executed, then undone
    COMPENSATED, "nothing to undo"   contradicts what the participant said: park, send nothing more
    REFUSED                          contradicts what the participant said: park, send nothing more
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from saga.engine.decision import Input
from saga.engine.draft import Draft, Ignored
from saga.engine.kinds import Mapped, Waiting
from saga.engine.settle import give_up_verifying, missed, receive, settle_unknown, turn_back
from saga.engine.state import ACTION_OF, BY_HAND, Action, Cause, Phase, Status, StepState, Waits, base_name, command_id, instance_of
from saga.engine.waits import remedied


class Contradiction(Exception):
    """This reply contradicts one that was accepted."""

    def __init__(self, step: str, detail: str) -> None:
        super().__init__(detail)
        self.step = step
        self.detail = detail


class Outcome(StrEnum):
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    NOTHING = "nothing"
    EXPIRED = "expired"


_OUTCOMES = {str(outcome): outcome for outcome in Outcome}
_ACTIONS = {str(action): action for action in Action}

DONE_EARLIER = "done earlier"  # an earlier round was done after all, an operator said; then the later one must not be done too


class Reply:
    """A reply that was found to belong to a step of this instance."""

    def __init__(self, draft: Draft, given: Input) -> None:
        """Raises Ignored if it belongs to nothing that this instance ever sent; ValidationError if its payload is invalid,
        UserCodeRaised if the validators of its class are broken.
        """
        self.input = given
        self.command = given.attributes.get("sagacommand", "")
        self.step, self.action = self._find(draft)
        outcome = _OUTCOMES.get(given.attributes.get("sagaoutcome", ""))
        if outcome is None:
            raise Ignored("unmatched", f"no such outcome: {given.attributes.get('sagaoutcome')!r}")
        self.outcome = outcome
        attempt = given.attributes.get("sagaattempt", "")
        self.attempt = int(attempt) if attempt.isdecimal() and len(attempt) < 10 else 0
        self.message = self._message(draft)

    def _find(self, draft: Draft) -> tuple[str, Action]:
        """The step and action of the command id; older rounds of it too, as far as `done` is concerned."""
        run = instance_of(self.command)
        name, _, tail = self.command.removeprefix(f"{run}:").partition(":")
        text, _, round = tail.partition("~")
        state = draft.state.steps.get(name)
        action = _ACTIONS.get(text)
        if run != draft.state.id and (run != draft.state.undoes or action is not Action.EXECUTE):
            raise Ignored(
                "unmatched", "it answers another run"
            )  # of the run that this one undoes only what is to be undone matters
        whole = state is not None and "/" not in name and isinstance(draft.step(name), Mapped)  # its iterations have commands
        if state is None or action is None or whole:
            raise Ignored("unmatched", f"no command {self.command!r} was sent")
        rounds = state.rounds(action)
        number = int(round) if round.isdecimal() and len(round) < 6 else 1
        if number > rounds or self.command != command_id(run, name, action, number):
            raise Ignored("unmatched", f"no command {self.command!r} was sent")
        self.old_round = number < rounds
        return name, action

    def _message(self, draft: Draft) -> Any:
        step = draft.step(self.step)
        command = step.command_for(self.action)
        if command is None:
            raise Ignored("unmatched", f"{self.step} has nothing to {self.action} with")
        if self.input.topic != (topic := step.answered_on(self.action)):
            raise Ignored("wrong-service", f"{command.__type__} is answered on {topic}, not {self.input.topic}")
        answers = step.answers(self.action, self.outcome)
        if self.input.type not in answers:
            raise Ignored("unmatched", f"{command.__type__} is not answered {self.outcome} by {self.input.type}")
        message = answers[self.input.type]
        return None if message is None else draft.read(self.step, message, self.input.data)

    @property
    def reason(self) -> str:
        data = self.input.data
        said = data.get("reason", "") if isinstance(data, dict) else ""
        return f"{self.input.type}: {said}"[:500] if said else self.input.type


def take_reply(draft: Draft, given: Input, *, believe: bool = False) -> str:
    """Settle the step that a reply answers; say in a word what happened.

    `believe`: an operator looked at a contradiction and lets the later answer stand.
    Raises Ignored, Contradiction, UserCodeRaised, or ValidationError for an invalid payload.
    """
    reply = Reply(draft, given)
    state = draft.state.steps[reply.step]
    if reply.outcome is Outcome.DONE and reply.action is not Action.COMPENSATE:
        _done(draft, reply, state, believe)
    elif reply.old_round:
        raise Ignored("late", "it answers an earlier round")
    else:
        handler = _TABLE.get((reply.action, reply.outcome, state.status))
        if handler is None:
            raise Ignored("late", f"{reply.step} is {state.status}")
        handler(draft, reply, state)
    return str(reply.outcome)


def _done(draft: Draft, reply: Reply, state: StepState, believe: bool) -> None:
    if isinstance(draft.step(reply.step), Waiting):
        if not draft.state.live:
            raise Ignored("after-end")
        remedied(draft, reply.step)
        return
    earlier = reply.old_round and reply.action is Action.EXECUTE
    told_no = (
        earlier is not (state.answer == DONE_EARLIER)
        or state.answer == BY_HAND
        or state.status is Status.REFUSED
        or (state.status is Status.COMPENSATED and state.answer == "nothing")
        or (state.status is Status.EXECUTING and state.answer == "refused")
    )
    if told_no and not believe:
        raise Contradiction(reply.step, f"{reply.command} was answered done after it had been answered {state.answer or 'refused'}")
    if not told_no and state.status in (Status.DONE, Status.COMPENSATED):
        raise Ignored("late", f"{reply.step} is {state.status}")
    if not draft.state.live:
        raise Ignored("after-end")
    if state.status is Status.COMPENSATING:
        if state.succeeded:
            raise Ignored("late", f"{reply.step} is {state.status}")
        draft.set(reply.step, succeeded=True)
        return
    answer = DONE_EARLIER if earlier else str(Outcome.DONE)
    draft.set(reply.step, status=Status.DONE, waits=Waits.NOTHING, due=None, succeeded=True, answer=answer, reason="")
    receive(draft, reply.step, reply.message)


def _refused(draft: Draft, reply: Reply, _state: StepState) -> None:
    """No effect, and final (S12): turn back; after the pivot an operator must help (S19)."""
    step = draft.step(reply.step)
    if isinstance(step, Waiting):
        missed(draft, reply.step, f"its remedy was refused: {reply.reason}")
        return
    if draft.saga.graph.retriable(step.name):
        draft.set(reply.step, waits=Waits.OPERATOR, due=None, answer="refused", reason=reply.reason)
        return
    draft.set(reply.step, status=Status.REFUSED, waits=Waits.NOTHING, due=None, answer=str(reply.outcome), reason=reply.reason)
    if not step.best_effort:
        turn_back(draft, Cause("refused", reply.step, reply.reason))


def _failed(draft: Draft, reply: Reply, state: StepState) -> None:
    _only_the_attempt_that_waits(reply, state)
    attempt_failed(draft, reply.step, reply.reason)


def _expired(draft: Draft, reply: Reply, state: StepState) -> None:
    """The participant no longer remembers whether it did it: unknown; where there is no way on, an operator (S11)."""
    _only_the_attempt_that_waits(reply, state)
    why = "expired: the participant no longer remembers"
    if state.status is Status.EXECUTING and not draft.saga.graph.retriable(base_name(reply.step)):
        settle_unknown(draft, reply.step, why)
    elif not _let_be(draft, reply, why):
        draft.set(reply.step, waits=Waits.OPERATOR, due=None, answer="expired", reason=why)


def _stuck(draft: Draft, reply: Reply, _state: StepState) -> None:
    why = f"{reply.action} refused: {reply.reason}"
    if not _let_be(draft, reply, why):
        draft.set(reply.step, waits=Waits.OPERATOR, due=None, answer=str(reply.outcome), reason=why)


def _let_be(draft: Draft, reply: Reply, why: str) -> bool:
    """Whether a best effort happened is asked about, but no operator is called for it (S1)."""
    if reply.action is Action.VERIFY and draft.step(reply.step).best_effort:
        give_up_verifying(draft, reply.step, why)
        return True
    return False


def _undone(draft: Draft, reply: Reply, state: StepState) -> None:
    if reply.outcome is Outcome.NOTHING and state.succeeded:
        what = "there was nothing to compensate, it says, but it had said done"
        draft.set(reply.step, waits=Waits.OPERATOR, due=None, answer="nothing", reason=what)
        return
    draft.set(reply.step, status=Status.COMPENSATED, waits=Waits.NOTHING, due=None, answer=str(reply.outcome), reason="")


def _only_the_attempt_that_waits(reply: Reply, state: StepState) -> None:
    if state.waits is not Waits.REPLY or reply.attempt != state.attempt:
        raise Ignored("late", f"attempt {reply.attempt} of {reply.step} no longer waits")


_Handler = Callable[[Draft, Reply, StepState], None]

_TABLE: dict[tuple[Action, Outcome, Status], _Handler] = {
    (Action.EXECUTE, Outcome.REFUSED, Status.EXECUTING): _refused,
    (Action.EXECUTE, Outcome.REFUSED, Status.VERIFYING): _refused,
    (Action.EXECUTE, Outcome.REFUSED, Status.UNKNOWN): _refused,
    (Action.EXECUTE, Outcome.NOTHING, Status.EXECUTING): _refused,
    (Action.EXECUTE, Outcome.NOTHING, Status.VERIFYING): _refused,
    (Action.EXECUTE, Outcome.NOTHING, Status.UNKNOWN): _refused,
    (Action.EXECUTE, Outcome.FAILED, Status.EXECUTING): _failed,
    (Action.EXECUTE, Outcome.EXPIRED, Status.EXECUTING): _expired,
    (Action.VERIFY, Outcome.NOTHING, Status.VERIFYING): _refused,
    (Action.VERIFY, Outcome.REFUSED, Status.VERIFYING): _stuck,
    (Action.VERIFY, Outcome.FAILED, Status.VERIFYING): _failed,
    (Action.VERIFY, Outcome.EXPIRED, Status.VERIFYING): _expired,
    (Action.COMPENSATE, Outcome.DONE, Status.COMPENSATING): _undone,
    (Action.COMPENSATE, Outcome.NOTHING, Status.COMPENSATING): _undone,
    (Action.COMPENSATE, Outcome.REFUSED, Status.COMPENSATING): _stuck,
    (Action.COMPENSATE, Outcome.FAILED, Status.COMPENSATING): _failed,
    (Action.COMPENSATE, Outcome.EXPIRED, Status.COMPENSATING): _expired,
}


def attempt_failed(draft: Draft, name: str, why: str) -> None:
    """An attempt failed or timed out: the next one after a pause, or none (S13)."""
    state = draft.state.steps[name]
    action = ACTION_OF[state.status]
    step = draft.step(name)
    policy = step.retry_for(action)
    failures = state.attempt - state.first + 1
    retriable = draft.saga.graph.retriable(step.name)
    hurry = draft.state.phase is Phase.COMPENSATING or draft.state.deadline_over or (draft.state.cancelled and step.pivot)
    given_up = action is Action.EXECUTE and not retriable and hurry
    if retriable or (failures < policy.attempts and not given_up):
        pause = policy.pause(failures, f"{draft.state.id}:{name}:{action}")
        draft.set(name, waits=Waits.RETRY, due=draft.now + pause, reason=why)
    elif action is Action.EXECUTE:
        settle_unknown(draft, name, why)
    elif action is Action.VERIFY and not step.pivot and (step.best_effort or draft.state.phase is Phase.COMPENSATING):
        give_up_verifying(draft, name, why)
    else:
        since = f", {failures} of them since the retry" if state.first > 1 else ""
        draft.set(name, waits=Waits.OPERATOR, due=None, answer="", reason=f"{why} (after {state.attempt} attempts{since})")
