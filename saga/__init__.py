"""A saga coordinator for Kafka: business processes that span services finish, or are undone; nothing is lost in between."""

from typing import TYPE_CHECKING

from saga.lazy import on_demand

if TYPE_CHECKING:
    from saga.app import App, Reactor
    from saga.engine.calendar import Slot
    from saga.engine.definition import Saga, days, hours, minutes, seconds
    from saga.engine.kinds import Step
    from saga.engine.messages import Command, Event, Message, Refusal
    from saga.engine.nodes import START, unless
    from saga.engine.policy import Retry
    from saga.engine.settle import TurnBack
    from saga.errors import DefinitionError, Misconfigured, SagaError
    from saga.participant import Nothing, Participant, ParticipantRunner, Refused, Store, Work
    from saga.participant.http import HttpParticipant

__getattr__ = on_demand(
    __name__,
    {
        "saga.app": "App Reactor",
        "saga.engine.calendar": "Slot",
        "saga.engine.definition": "Saga days hours minutes seconds",
        "saga.engine.kinds": "Step",
        "saga.engine.messages": "Command Event Message Refusal",
        "saga.engine.nodes": "START unless",
        "saga.engine.policy": "Retry",
        "saga.engine.settle": "TurnBack",
        "saga.errors": "DefinitionError Misconfigured SagaError",
        "saga.participant": "Nothing Participant ParticipantRunner Refused Store Work",
        "saga.participant.http": "HttpParticipant",
    },
)

__all__ = [
    "START",
    "App",
    "Command",
    "DefinitionError",
    "Event",
    "HttpParticipant",
    "Message",
    "Misconfigured",
    "Nothing",
    "Participant",
    "ParticipantRunner",
    "Reactor",
    "Refusal",
    "Refused",
    "Retry",
    "Saga",
    "SagaError",
    "Slot",
    "Step",
    "Store",
    "TurnBack",
    "Work",
    "days",
    "hours",
    "minutes",
    "seconds",
    "unless",
]
