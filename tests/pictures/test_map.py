"""How sagas hang together: what is found in the definitions, and the table that shows it."""

from __future__ import annotations

from itertools import combinations

import pytest

from saga import START, App, Participant, Reactor, Saga, Work, hours
from saga.cli_pictures import relations_of_app
from saga.engine.calendar import Slot
from saga.pictures.map_svg import NAMES, UPRIGHT, map_svg
from saga.pictures.relations import Starts
from services.all import app as everything
from tests.pictures.drawn import NS, boxes, classed, read
from tests.pictures.sagas import Order, OrderPlaced, Reserve, Reserved, audit, begin, every, rating, small

stock = Participant("stock")


@stock.handles(Reserve)
def handle(_: Reserve, _work: Work) -> Reserved:
    return Reserved()


nightly: Saga[OrderPlaced, Order] = small("nightly")


@nightly.every("0 2 * * *", tz="Europe/Berlin")
def at_night(_: Slot) -> OrderPlaced:
    return OrderPlaced(order_id="1")


APP = App(
    sagas=[every, audit, rating, nightly],
    participants=[stock, Participant("idle")],
    reactors=[Reactor("analytics", listens=["saga.events", OrderPlaced])],
    begin="earliest",
)
RELATIONS = relations_of_app(APP)
SERVICES = {service.name: service for service in RELATIONS.services}


def test_who_starts_whom() -> None:
    assert RELATIONS.starts == (Starts("every-kind", "audit", True), Starts("every-kind", "rating", False))
    (clocked,) = (saga for saga in RELATIONS.sagas if saga.clocks)
    assert (clocked.name, clocked.clocks) == ("nightly", ("0 2 * * * Europe/Berlin",))


def test_which_service_takes_what_and_what_has_no_handler() -> None:
    assert SERVICES["payment"].commands == {"Take": ["every-kind"], "Find": ["every-kind"], "Return": ["every-kind"]}
    assert SERVICES["payment"].where == "elsewhere"
    assert SERVICES["stock"].where == "service"
    assert SERVICES["stock"].unhandled == ("Release",)
    assert SERVICES["payment"].unhandled == ()  # it is not in this app, so nothing is known of its handlers
    assert SERVICES["idle"].commands == {}
    assert SERVICES["crm"].commands == {"Note": ["every-kind", "audit", "rating", "nightly"]}


def test_who_waits_for_and_listens_to_what() -> None:
    assert SERVICES["carrier"].events == {"PickedUp": ["every-kind"]}
    assert SERVICES["order"].events == {"OrderPlaced": ["every-kind", "audit", "rating", "nightly", "analytics"]}
    assert SERVICES["saga"].events == {"": ["analytics"]}
    assert RELATIONS.sagas[0].roles == ("finance", "cfo")


def test_only_some_sagas_with_what_is_next_to_them() -> None:
    assert [saga.name for saga in relations_of_app(APP, frozenset({"rating"})).sagas] == ["every-kind", "rating"]
    assert [saga.name for saga in relations_of_app(APP, frozenset({"nightly"})).sagas] == ["nightly"]


def test_the_table_has_a_row_for_each_saga_and_a_mark_for_each_relation() -> None:
    root = read(map_svg(RELATIONS))
    rows = [
        item.get("aria-label", "") for item in root.iter(f"{NS}g") if item.get("role") == "listitem" and not item.get("transform")
    ]
    assert [row.split(".")[0] for row in rows] == [
        "every-kind",
        "audit",
        "rating",
        "nightly",
        "analytics",
    ]  # children below parents
    pairs = sum(len(actor.sends) for actor in RELATIONS.sagas)
    assert len(list(classed(root, "mark-commands"))) == pairs + 1  # and one in the legend
    assert len(list(classed(root, "mark-starts"))) == 4 + 1
    assert len(list(classed(root, "mark-events"))) == 3 + 1
    assert "no handler here" in [text.text for text in classed(root, "bad-word")]


def test_what_a_service_is_of_this_app() -> None:
    relations = relations_of_app(App(sagas=[audit], reactors=[Reactor("order", listens=["saga.events"])], begin="latest"))
    assert {service.name: service.where for service in relations.services} == {
        "order": "reactor",
        "crm": "elsewhere",
        "saga": "outcomes",
    }


def test_dozens_of_processes_are_seen_at_a_glance() -> None:
    """Every relation of all examples has its mark, and the table is as narrow as its marks: names stand upright."""
    relations = relations_of_app(everything)
    assert len(relations.services) > UPRIGHT
    root = read(map_svg(relations))
    actors = [*relations.sagas, *relations.reactors]
    assert len(list(classed(root, "mark-commands"))) == sum(len(actor.sends) for actor in actors) + 1  # and one in the legend
    assert len(list(classed(root, "mark-events"))) == sum(len(actor.hears) for actor in actors) + 1
    assert float(root.get("width", "")) < NAMES[1] + 45 * len(relations.services)
    assert all("rotate(-90" in text.get("transform", "") for text in classed(root, "column"))


@pytest.mark.parametrize("app", [APP, everything], ids=["few", "dozens"])
def test_cards_of_services_do_not_overlap(app: App) -> None:
    found = boxes(read(map_svg(relations_of_app(app))))
    assert len(found) >= 4
    assert [(one.name, other.name) for one, other in combinations(found, 2) if one.meets(other)] == []


def test_a_saga_that_starts_itself_and_two_that_start_each_other_are_drawn_once_each() -> None:
    one, other = (
        Saga(name, version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Order, deadline=hours(1)) for name in "ab"
    )
    for saga in (one, other):
        saga.start(begin)
    for saga, target in ((one, one), (one, other), (other, one)):

        def go(o: Order) -> OrderPlaced:
            return OrderPlaced(order_id=o.order_id)

        go.__name__ = f"go_{target.name}"
        saga.starts(target, after=START)(go)
    relations = relations_of_app(App(sagas=[one, other], begin="latest"))
    root = read(map_svg(relations))
    assert len([item for item in root.iter(f"{NS}g") if item.get("role") == "listitem" and not item.get("transform")]) == 2
