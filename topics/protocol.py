"""What the coordinator itself says and hears, as schemas: the answers that are no domain event, `saga.events`, and `saga.retry.v1`.

The coordinator writes these by hand, as plain JSON; the classes here describe them for others. A test compares the two.
"""

from __future__ import annotations

from typing import Any, ClassVar

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
    why: str = Field(description="refused, unknown or deadline")
    step: str = Field(description='The step that was refused or unknown; "" for the deadline.')
    detail: str


class Parked(Told):
    """An instance waits for an operator. It is not an outcome: it goes on after `saga retry`, or when a late reply comes."""

    type_ = "saga.parked.v1"
    reason: str
    step: str = Field(description='The step that is stuck, or "".')
    detail: str


class Resumed(Told):
    """A parked instance goes on."""

    type_ = "saga.resumed.v1"


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


class Retry(Said):
    """An operator lets a parked instance go on."""

    type_ = "saga.retry.v1"
    saga: str = Field(min_length=1, description="The saga's name.")
    key: str = Field(min_length=1, description="The business id.")
    who: str = Field(min_length=1, description="Who asks; it is kept in the journal.")
    why: str = Field(min_length=1, description="For what reason; it is kept in the journal.")


Schema = type[Said] | type[Rejected]

ANSWERS: tuple[Schema, ...] = (Failed, Nothing, Expired)
ANNOUNCEMENTS: tuple[Schema, ...] = (Started, Rejected, Completed, Compensated, Parked, Resumed)
REQUESTS: tuple[Schema, ...] = (Retry,)
