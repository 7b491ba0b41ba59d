"""The catalogue lists every message of the examples, once, and the topics are those that an app of all of them makes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import topics
from saga.engine.messages import Message
from saga.topics import specs
from services.all import app
from topics.catalogue import MESSAGES, TOPICS


def declared() -> set[type[Message]]:
    """Every message class declared in a module of `topics`."""
    modules = [importlib.import_module(f"topics.{found.name}") for found in pkgutil.iter_modules(topics.__path__)]
    return {
        value
        for module in modules
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Message) and value.__module__.startswith("topics.") and value.__type__
    }


def test_every_message_class_in_topics_is_listed_once() -> None:
    assert len(declared()) >= 20, "hardly any message was found: this test would prove nothing"
    assert set(MESSAGES) == declared()
    assert len(MESSAGES) == len(set(MESSAGES))


def test_no_two_messages_have_the_same_type() -> None:
    types = [message.__type__ for message in MESSAGES]
    assert sorted(types) == sorted(set(types))


def test_every_message_that_a_saga_reads_or_sends_is_listed() -> None:
    used = {message for saga in app.sagas for message in saga.messages()}
    assert used <= set(MESSAGES)


def test_every_command_that_a_participant_takes_is_listed() -> None:
    taken = {handler.command for participant in app.participants.values() for handler in participant.handlers.values()}
    assert taken <= set(MESSAGES)


def test_the_topics_of_the_catalogue_are_topics_of_the_app() -> None:
    assert set(TOPICS) <= {spec.name for spec in specs(app, replication=1, min_insync=1)}
