"""The topics of an app: what they must be, and that what is wrong with them is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from saga.log.base import TopicSpec
from saga.topics import needed_to_run, problems, specs
from services import app

WANTED = specs(app, replication=3, min_insync=2)
HEALTHY = {spec.name: spec for spec in WANTED}


def changed(name: str, **settings: str) -> dict[str, TopicSpec]:
    """The healthy topics, with settings of one of them changed (an underscore for each dot)."""
    given = {setting.replace("_", "."): text for setting, text in settings.items()}
    return {**HEALTHY, name: replace(HEALTHY[name], config={**HEALTHY[name].config, **given})}


def test_an_app_has_the_coordinators_topics_and_two_for_each_service() -> None:
    services = ("order", "payment", "inventory", "shipping")
    own = {"saga.journal", "saga.requests", "saga.events", "saga.deadletter"}
    assert set(HEALTHY) == own | {f"{s}.{kind}" for s in services for kind in ("commands", "events")}
    assert len(WANTED) == len(HEALTHY), "a topic is named twice"


def test_the_journal_is_never_deleted_by_the_broker_and_its_time_is_the_brokers() -> None:
    config = HEALTHY["saga.journal"].config
    assert config["cleanup.policy"] == "delete"
    assert (config["retention.ms"], config["retention.bytes"]) == ("-1", "-1")
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert config["max.message.bytes"] == "4194304"


def test_topics_as_they_should_be_have_no_problem() -> None:
    assert problems(WANTED, HEALTHY) == []


def test_more_than_is_asked_for_is_no_problem() -> None:
    assert problems(WANTED, changed("saga.requests", retention_ms="-1", min_insync_replicas="3")) == []
    assert problems(WANTED, {**HEALTHY, "order.commands": replace(HEALTHY["order.commands"], partitions=64, replication=5)}) == []


def test_event_topics_of_others_may_have_any_number_of_partitions_and_their_own_time() -> None:
    theirs = replace(changed("order.events", message_timestamp_type="CreateTime")["order.events"], partitions=3)
    assert problems(WANTED, {**HEALTHY, "order.events": theirs}) == []


@pytest.mark.parametrize(
    ("topic", "settings", "both_values"),
    [
        ("saga.journal", {"cleanup_policy": "compact"}, ("compact", "delete")),
        ("saga.journal", {"retention_ms": "604800000"}, ("604800000", "-1")),
        ("saga.journal", {"retention_bytes": "1000000"}, ("1000000", "-1")),
        ("saga.journal", {"message_timestamp_type": "CreateTime"}, ("CreateTime", "LogAppendTime")),
        ("saga.journal", {"max_message_bytes": "1048588"}, ("1048588", "4194304")),
        ("saga.journal", {"unclean_leader_election_enable": "true"}, ("true", "false")),
        ("saga.requests", {"min_insync_replicas": "1"}, ("1", "at least 2")),
        ("payment.commands", {"retention_ms": "3600000"}, ("3600000", "at least 604800000")),
        ("order.events", {"cleanup_policy": "compact"}, ("compact", "delete")),
        ("saga.requests", {"retention_ms": "a week"}, ("a week", "at least 604800000")),
    ],
)
def test_a_wrong_setting_is_one_sentence_with_both_values_and_what_to_do(
    topic: str, settings: dict[str, str], both_values: tuple[str, str]
) -> None:
    (said,) = problems(WANTED, changed(topic, **settings))
    assert topic in said
    assert all(value in said for value in both_values), said
    assert f"kafka-configs.sh --alter --entity-type topics --entity-name {topic}" in said


@pytest.mark.parametrize(
    ("topic", "partitions", "advice"),
    [
        ("saga.journal", 32, "App(partitions=32)"),
        ("saga.requests", 8, "App(partitions=8)"),
        ("order.commands", 8, "add partitions"),
    ],
)
def test_another_number_of_partitions_is_told_with_what_to_do(topic: str, partitions: int, advice: str) -> None:
    (said,) = problems(WANTED, {**HEALTHY, topic: replace(HEALTHY[topic], partitions=partitions)})
    assert topic in said
    assert str(partitions) in said
    assert str(app.partitions) in said
    assert advice in said


def test_too_few_replicas_and_a_missing_topic_are_told() -> None:
    there = {**HEALTHY, "saga.journal": replace(HEALTHY["saga.journal"], replication=1)}
    del there["shipping.commands"]
    first, second = problems(WANTED, there)
    assert "saga.journal is on 1 brokers, it must be on 3" in first
    assert "SAGA_DEV=1" in first
    assert "shipping.commands does not exist" in second
    assert "saga topics apply" in second


def test_what_an_orchestrator_needs_is_a_safe_journal_and_a_place_for_each_output() -> None:
    needed = {spec.name: spec for spec in needed_to_run(app, replication=3, min_insync=2)}
    assert needed["saga.journal"].config["retention.ms"] == "-1"
    assert {"saga.events", "saga.deadletter", "saga.requests", "payment.commands"} <= needed.keys()
    assert "payment.events" not in needed, "domain events may be other teams' topics, with settings of their own"
    there = {name: TopicSpec(name, spec.partitions, 3, spec.config) for name, spec in needed.items()}
    assert problems(needed.values(), there) == []
    del there["payment.commands"]
    assert len(problems(needed.values(), there)) == 1
