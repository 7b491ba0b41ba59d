"""What the coordinator itself says and hears, as schemas: the answers that are no domain event, `saga.events`, and `saga.requests` with
what operators ask and what instances say to each other.

The coordinator writes these by hand, as plain JSON; the classes here describe them for others. A test compares the two.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from saga.engine.messages import EXPIRED, FAILED, NOTHING
from topics.values import Text


class Said(BaseModel):
    """Unknown fields are ignored, as in messages."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    type_: ClassVar[str] = ""


class Failed(Said):
    """A technical failure of one attempt. Nothing is said of whether the effect happened; the saga decides when to try again."""

    type_ = FAILED
    reason: str = Field(default="", description="For people: it is shown in the story of the instance.")


class Nothing(Said):
    """To a compensation: there was nothing to undo. To a verify: it never happened. To an execute: it was closed before it came.

    Whoever answers so has closed the execute command for ever.
    """

    type_ = NOTHING


class Expired(Said):
    """The command is older than what the participant remembers: whether it was executed is not known."""

    type_ = EXPIRED
    reason: str = Field(default="", description="For people.")


class Told(Said):
    """Which instance it is about."""

    saga: Text = Field(description="The saga's name.")
    key: str = Field(min_length=1, description="The business id, for example of the order.")
    instance: str = Field(description="<saga>:<key>:<run>")
    version: int = Field(description="The version of the definition that this instance runs.")


class Started(Told):
    """An instance has started. Said again, under the same ce_id, when the same start comes again while it runs."""

    type_ = "saga.started.v1"


class Completed(Told):
    """An instance has ended: every step is done. Said again, under the same ce_id, when the same start comes again."""

    type_ = "saga.completed.v1"
    data: Any = Field(description="The saga's data at the end, as its definition has it.")


class Compensated(Told):
    """An instance has ended: what was done is undone. Said again, under the same ce_id, when the same start comes again."""

    type_ = "saga.compensated.v1"
    data: Any = Field(description="The saga's data at the end, as its definition has it.")
    why: str = Field(description="refused, decided, unknown, late, deadline, cancelled, operator or parent")
    step: str = Field(description='The step that was refused, unknown or late; "" for the others.')
    detail: str = Field(description="Of cancelled and operator: who and why.")


class Parked(Told):
    """An instance waits for an operator. It is not an outcome: it goes on after `saga retry`, or when a late reply comes."""

    type_ = "saga.parked.v1"
    reason: str
    step: str = Field(description='The step that is stuck, or "".')
    detail: str


class Resumed(Told):
    """A parked instance goes on."""

    type_ = "saga.resumed.v1"


class Asked(Told):
    """A person of this role is asked for an answer, for example with `saga answer`. Escalated, it is asked of another role once more."""

    type_ = "saga.asked.v1"
    step: str = Field(description="The step that asks.")
    role: str = Field(description="Who may answer.")
    answer: str = Field(description="The type of the answer; its schema is that of the event.")
    until: int | None = Field(description="Until when, in ms since 1970; null: for as long as it takes.")


class Late(Told):
    """What a step waits for did not come in time. Nothing is wrong yet with the saga; somebody may want to know."""

    type_ = "saga.late.v1"
    step: str = Field(description="The step that waits.")
    awaited: str = Field(description="The type of the event, or of the answer.")
    role: str = Field(description='Who was asked; "" for an event.')
    last: bool = Field(
        description="Nothing more is tried: the saga turns back, or parks. Else its remedy or the escalation follows."
    )
    since: int = Field(description="Since when it has been waited for, in ms since 1970.")


class Conflict(Told):
    """A start with a key that was used already, with another payload."""

    reason: str = Field(description="conflict")
    detail: str


class Invalid(Said):
    """A start, or an operator's action, that is not as it must be. `type`, `id` and `source` are its own ce_ headers."""

    type: str
    id: str
    source: str
    reason: str = Field(description="schema or key")
    detail: str


class Rejected(RootModel[Conflict | Invalid]):
    """A start that made no instance."""

    type_: ClassVar[str] = "saga.rejected.v1"


class Asking(Said):
    """An operator's action on one instance. It is kept in the journal with who and why, and refused there with the reason."""

    saga: str = Field(min_length=1, description="The saga's name.")
    key: str = Field(min_length=1, description="The business id.")
    who: str = Field(min_length=1, description="Who asks; it is kept in the journal.")
    why: str = Field(min_length=1, description="For what reason; it is kept in the journal.")
    instance: str = Field(default="", description='The run that is meant, by its id; of another run it is refused. "": any.')
    parked: str = Field(default="", description='Only if it is parked for this reason. "": whatever it is parked for, or not.')


class Retry(Asking):
    """An operator lets a parked instance go on: what is stuck gets another attempt; what was kept is taken."""

    type_ = "saga.retry.v1"


class Resume(Asking):
    """An operator lets a parked instance take what was kept for it. No command is sent again."""

    type_ = "saga.resume.v1"


class Cancel(Asking):
    """An operator, or a service, wants an instance to turn back. Refused from its pivot on."""

    type_ = "saga.cancel.v1"


class Compensate(Asking):
    """As cancel; and a step that is stuck is compensated as if it had happened."""

    type_ = "saga.compensate.v1"


class Skip(Asking):
    """An operator settles a step that is stuck: as done, as never done, or, of a compensation, as compensated."""

    type_ = "saga.skip.v1"
    step: str = Field(min_length=1, description="Of a mapped step with its item: reserve/2.")
    result: Any = Field(default=None, description="What the step would have been answered; as the schema of its reply says.")
    nothing: bool = Field(default=False, description="It never happened; the saga turns back.")


class Edit(Asking):
    """An operator gives a parked instance other data. It stays parked."""

    type_ = "saga.edit.v1"
    data: Any = Field(description="All of the saga's data, as its definition has it.")
    was: str | None = Field(
        default=None,
        description="Of the data that this replaces: BLAKE2b, 12 bytes, in hex, of its JSON with sorted keys and no spaces. If it is "
        "another by now, this is refused. null: any.",
    )


class Signal(Asking):
    """An event that a step waits for, said in place of its service; or a person's answer to a question."""

    type_ = "saga.signal.v1"
    type: str = Field(min_length=1, description="The type of the event, or of the answer.")
    data: Any = Field(description="As the schema of that type says.")
    step: str = Field(default="", description='Which step, where several wait for this type; "": the first that does.')
    role: str = Field(default="", description="Of an answer: the role in which it is given.")


class About(Said):
    """Whom a parent speaks to."""

    saga: str = Field(min_length=1, description="The child's saga.")
    key: str = Field(min_length=1, description="The child's key.")


class Undo(About):
    """A parent turns back: the child is to turn back too or, where it had completed, to undo that in a second run."""

    type_ = "saga.undo.v1"


class Release(About):
    """A parent has ended: its child need not be kept any longer to be undone."""

    type_ = "saga.release.v1"


class Scheduled(Said):
    """An orchestrator has this schedule in its app. Said again at each start; only a change of it changes anything."""

    type_ = "saga.scheduled.v1"
    name: str = Field(description="The schedule's own saga, and its key: <saga>-<function>.")
    cron: str
    tz: str
    missed: Literal["skip", "once", "all"]
    overlap: Literal["skip", "queue", "allow"]


class ChildCompleted(RootModel[Any]):
    """A child has completed. The value is its data at the end, as its definition has it."""

    type_: ClassVar[str] = "saga.completed.v1"


class ChildCompensated(Said):
    """A child was compensated; in answer to saga.undo.v1 that is what was asked for, else it counts as refused."""

    type_ = "saga.compensated.v1"
    reason: str = Field(default="", description="Why, step, detail.")


class ChildRejected(Said):
    """A child could not start, or cannot be undone."""

    type_ = "saga.rejected.v1"
    reason: str


class ChildNothing(Nothing):
    """A child has nothing to undo: it was never started for this command, or has undone everything itself."""


Schema = type[Said] | type[Rejected] | type[ChildCompleted]

ANSWERS: tuple[Schema, ...] = (Failed, Nothing, Expired)
ANNOUNCEMENTS: tuple[Schema, ...] = (Started, Rejected, Completed, Compensated, Parked, Resumed, Asked, Late)
REQUESTS: tuple[Schema, ...] = (Retry, Resume, Cancel, Compensate, Skip, Edit, Signal)
PARENTS: tuple[Schema, ...] = (Undo, Release, Scheduled)  # what an instance, or an orchestrator, says to another instance
CHILDREN: tuple[Schema, ...] = (ChildCompleted, ChildCompensated, ChildRejected, ChildNothing)


def name_of(said: Schema) -> str:
    """The name of a schema: the type; a child's answers have the types of the outcomes that are told to everybody, and other values."""
    return f"{said.type_}.child" if said in CHILDREN else said.type_
