"""One AsyncAPI 3.0 document of all topics: who sends what where, with which headers.

An operation for each command (its service receives it, and answers), one for each fact that is nobody's answer, and the coordinator's
own. Payloads are not repeated: they are in schemas/.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from saga import Command, Event, Message
from saga.app import DEFAULT_PARTITIONS
from saga.engine.messages import DEADLETTERS, commands_topic, events_topic, topic_of
from saga.engine.messages import REQUESTS as HOME
from saga.runtime import codec
from saga.topics import KEEP_DEADLETTERS, KEEP_INPUTS
from topics.catalogue import MESSAGES, TOPICS
from topics.headers import ANNOUNCEMENT, CHILD, COMMAND, DEADLETTER, EVENT, PARENT, REPLY, Headers
from topics.json_schema import by_type, description
from topics.protocol import ANNOUNCEMENTS, ANSWERS, CHILDREN, PARENTS, REQUESTS, name_of

KAFKA = "0.5.0"  # version of the AsyncAPI binding for Kafka
SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
KEYS = {"commands": "the saga's key, for example the order id", "events": "the business id, for example the order id"}
ANSWER_TYPES = tuple(answer.type_ for answer in ANSWERS)
DEAD = "deadletter"  # a message of any type


def document() -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "saga-kafka: the shipped examples",
            "version": "1.0.0",
            "description": "Made from topics/catalogue.py by `python -m topics.generate`. What the headers mean, and what a participant"
            " must keep, is in docs/PROTOCOL.md. Every topic name has the coordinator's prefix (SAGA_PREFIX), if one is set."
            " The topic saga.journal is not listed: only the orchestrators write and read it.",
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "schemas": {
                headers.name: headers.schema() for headers in (COMMAND, REPLY, EVENT, ANNOUNCEMENT, PARENT, CHILD, DEADLETTER)
            },
            "messages": _messages(),
        },
    }


# --- channels -------------------------------------------------------------------------------------------------------------------------


def _channels() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for topic in TOPICS:
        service, _, kind = topic.partition(".")
        types = [message.__type__ for message in MESSAGES if topic_of(message) == topic]
        if kind == "commands":
            what = f"Commands to {service}. A command is on the partition number of its saga, whatever its key."
        else:
            what = f"What {service} says: facts, and its answers to commands. An answer is on the partition number of its command."
            types += ANSWER_TYPES if commands_topic(service) in TOPICS else ()
        made[topic] = _channel(topic, what, KEYS[kind], types)
    about = "The coordinator tells what became of sagas."
    made[codec.EVENTS] = _channel(codec.EVENTS, about, "the saga's key", [said.type_ for said in ANNOUNCEMENTS])
    asked = (
        "Operator actions; what instances say to each other; and inputs that came in on another partition, forwarded as they came."
    )
    made[HOME] = _channel(HOME, asked, "the saga's key", [name_of(said) for said in (*REQUESTS, *PARENTS, *CHILDREN)])
    dead = "Records that could not be read or taken, as they came, with their origin and the reason."
    made[DEADLETTERS] = _channel(DEADLETTERS, dead, "as it came", [DEAD], KEEP_DEADLETTERS)
    return made


def _channel(topic: str, what: str, key: str, types: Iterable[str], keep: int = KEEP_INPUTS) -> dict[str, Any]:
    return {
        "address": topic,
        "description": f"{what} Key: {key}.",
        "messages": {type: {"$ref": f"#/components/messages/{type}"} for type in types},
        "bindings": {
            "kafka": {
                "topic": topic,
                "partitions": DEFAULT_PARTITIONS,
                "topicConfiguration": {"cleanup.policy": ["delete"], "retention.ms": keep},
                "bindingVersion": KAFKA,
            }
        },
    }


# --- operations -----------------------------------------------------------------------------------------------------------------------


def _operations() -> dict[str, Any]:
    made: dict[str, Any] = {}
    answers: set[type[Message]] = set()
    for command in MESSAGES:
        if issubclass(command, Command):
            own: tuple[type[Message], ...] = (command.__reply__, *command.__refusals__)
            answers.update(own)
            made[command.__type__] = _received(command, [answer.__type__ for answer in own])
    for event in MESSAGES:
        if issubclass(event, Event) and event not in answers:
            made[event.__type__] = _operation("send", topic_of(event), [event.__type__], f"{event.__service__} says so.")
    told = "The coordinator says what became of a saga."
    made[codec.EVENTS] = _operation("send", codec.EVENTS, [said.type_ for said in ANNOUNCEMENTS], told)
    asked = "The coordinator is asked to act on an instance, by an operator or by a service."
    made[HOME] = _operation("receive", HOME, [name_of(said) for said in REQUESTS], asked)
    family = "Instances speak to each other: parents and children. Only the coordinator sends these, and only it reads them."
    made[f"{HOME}.family"] = _operation("send", HOME, [name_of(said) for said in (*PARENTS, *CHILDREN)], family)
    dead = "The coordinator, or a participant, sets aside what cannot be read or taken."
    made[DEADLETTERS] = _operation("send", DEADLETTERS, [DEAD], dead)
    return made


def _received(command: type[Command[Any]], answers: list[str]) -> dict[str, Any]:
    service = command.__service__
    takes = _operation("receive", commands_topic(service), [command.__type__], f"{service} takes this command, and answers it.")
    reply = events_topic(service)
    return takes | {
        "bindings": {"kafka": {"groupId": {"type": "string", "enum": [service]}, "bindingVersion": KAFKA}},
        "reply": {"channel": _ref("channels", reply), "messages": _listed(reply, [*answers, *ANSWER_TYPES])},
    }


def _operation(action: str, topic: str, types: list[str], what: str) -> dict[str, Any]:
    return {"action": action, "channel": _ref("channels", topic), "description": what, "messages": _listed(topic, types)}


def _listed(topic: str, types: Iterable[str]) -> list[dict[str, str]]:
    return [_ref("channels", topic, "messages", type) for type in types]


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}


# --- messages -------------------------------------------------------------------------------------------------------------------------


def _messages() -> dict[str, Any]:
    answers = {
        answer for command in MESSAGES if issubclass(command, Command) for answer in (command.__reply__, *command.__refusals__)
    }
    own: dict[type[BaseModel], Headers] = {
        **dict.fromkeys(ANSWERS, REPLY),
        **dict.fromkeys((*ANNOUNCEMENTS, *REQUESTS), ANNOUNCEMENT),
        **dict.fromkeys(PARENTS, PARENT),
        **dict.fromkeys(CHILDREN, CHILD),
    }
    made: dict[str, Any] = {}
    for name, model in by_type().items():
        if issubclass(model, Message):
            headers = COMMAND if issubclass(model, Command) else REPLY if model in answers else EVENT
        else:
            headers = own[model]
        made[name] = _message(name, model, headers)
    made[DEAD] = {
        "name": DEAD,
        "title": "Dead letter",
        "description": "Any record, its key, value and headers as they came (of one that is too large, the beginning).",
        "headers": _ref("components", "schemas", DEADLETTER.name),
    }
    return made


def _message(name: str, model: type[BaseModel], headers: Headers) -> dict[str, Any]:
    type = name.removesuffix(".child")
    made: dict[str, Any] = {
        "name": name,
        "title": model.__name__,
        "description": description(model),
        "headers": {
            "allOf": [_ref("components", "schemas", headers.name), {"type": "object", "properties": {"ce_type": {"const": type}}}]
        },
        "payload": {"schemaFormat": SCHEMA_FORMAT, "schema": {"$ref": f"./schemas/{name}.json"}},
    }
    if headers in (COMMAND, REPLY):
        made["correlationId"] = {
            "location": "$message.header#/ce_sagacommand",
            "description": "The command's id: the same for every attempt, echoed by the answer.",
        }
    return made
