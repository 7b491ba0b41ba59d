"""The catalogue: every message class of the shipped examples, and the topics they travel on.

A module of this package belongs to it by standing in MODULES; what it declares is listed in the order in which it stands there. How many
partitions a topic has and how long it keeps its records is said in one place for all apps, `saga.topics.specs`.
"""

from __future__ import annotations

from types import ModuleType

from saga import Message
from saga.engine.messages import topic_of
from topics import chain, customer, inventory, nightly, order, payment, pipeline, platform, prediction, shipping

MODULES = (order, payment, inventory, shipping, customer, chain, pipeline, prediction, platform, nightly)


def declared(module: ModuleType) -> list[type[Message]]:
    """The message classes that a module declares itself, in order."""
    found = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
    return [value for value in found if issubclass(value, Message) and value.__type__]


MESSAGES: tuple[type[Message], ...] = tuple(message for module in MODULES for message in declared(module))
TOPICS: tuple[str, ...] = tuple(dict.fromkeys(topic_of(message) for message in MESSAGES))
