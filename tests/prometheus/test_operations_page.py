"""docs/OPERATIONS.md names every series with its labels, and has a runbook for every alert; and neither names what is not there."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from saga.metrics import Metrics, ParticipantMetrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
ALERTS = (ROOT / "infra" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
TESTS = (ROOT / "infra" / "prometheus" / "alerts_test.yml").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `((?:saga|participant)_\w+)` \| ([\w, ]*)\| (.+) \|$", re.MULTILINE)


def registered(registry: CollectorRegistry) -> dict[str, frozenset[str]]:
    """Each series of ours with its labels, as /metrics names it."""
    found = {}
    for collector in list(registry._collector_to_names):
        for family in collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            if name.startswith(("saga_", "participant_")):
                found[name] = frozenset(getattr(collector, "_labelnames", ()))
    return found


def test_the_page_names_every_series_with_its_labels() -> None:
    documented = {name: frozenset(filter(None, re.split(r",? +", labels))) for name, labels, _ in ROW.findall(PAGE)}
    there = registered(Metrics().registry) | registered(ParticipantMetrics().registry)
    assert len(there) > 25, "no series were found"
    assert documented == there


def test_a_series_that_both_kinds_of_process_have_is_the_same_in_both() -> None:
    ours, theirs = registered(Metrics().registry), registered(ParticipantMetrics().registry)
    both = ours.keys() & theirs.keys()
    assert both == {"saga_deadletter_total"}
    assert all(ours[name] == theirs[name] for name in both)


def test_every_alert_has_a_runbook_a_severity_a_wait_and_tests() -> None:
    rules = re.split(r"^      - alert: ", ALERTS, flags=re.MULTILINE)[1:]
    names = [rule.partition("\n")[0] for rule in rules]
    assert len(names) >= 6
    runbook = PAGE[PAGE.index("\n## Alerts\n") : PAGE.index("\n## What operators do\n")]
    sections = re.findall(r"^### (\w+)$", runbook, re.MULTILINE)
    assert sorted(sections) == sorted(names), "the page's runbook and the alerts differ"
    for name, rule in zip(names, rules, strict=True):
        assert f"runbook: docs/OPERATIONS.md#{name.lower()}\n" in rule, f"{name}: its link leads nowhere"
        assert re.search(r"^        for: \d+[sm]$", rule, re.MULTILINE), f"{name} has no `for`"
        assert re.search(r"severity: (critical|warning)\}", rule), f"{name} has no severity"
        assert re.search(r"^          summary: ", rule, re.MULTILINE), f"{name} has no summary"
        assert f"- name: {name} fires" in TESTS, f"no test shows that {name} fires"
        assert f"- name: {name} is silent" in TESTS, f"no test shows that {name} stays silent"


def test_alerts_use_only_series_and_labels_that_there_are() -> None:
    there = registered(Metrics().registry) | registered(ParticipantMetrics().registry)
    expressions = re.sub(r"#.*|^ +(summary|runbook|- alert).*", "", ALERTS, flags=re.MULTILINE)
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\b(?:saga|participant)_\w+", expressions)}
    assert used
    assert used <= there.keys(), f"no such series: {used - there.keys()}"


def test_every_link_within_the_page_leads_somewhere() -> None:
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}
    links = re.findall(r"\]\(#([\w-]+)\)", PAGE)
    assert links
    assert set(links) <= anchors
