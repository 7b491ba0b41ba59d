"""The map for Mermaid, DOT, and as text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from saga.pictures.flow_text import INDENT, Said
from saga.pictures.relations import OUTCOMES, Actor, Relations, Service
from saga.pictures.sketch import Accent, Edge, Look, Node, Sketch


def map_sketch(relations: Relations) -> Sketch:
    """From left to right: services whose events start or continue a saga are where their commands end as well, so each is drawn once."""
    nodes: list[Node] = []
    edges: list[Edge] = []
    for saga in relations.sagas:
        asks = (f"asks {', '.join(saga.roles)}",) if saga.roles else ()
        nodes.append(Node(_id("saga", saga.name), Look.SAGA, (saga.name, f"on {saga.starts_on}", *asks)))
        for number, clock in enumerate(saga.clocks):
            nodes.append(Node(f"{_id('clock', saga.name)}_{number}", Look.CLOCK, (clock,)))
            edges.append(Edge(f"{_id('clock', saga.name)}_{number}", _id("saga", saga.name), "starts"))
    for service in relations.services:
        title = "saga.events" if service.name == OUTCOMES else service.name
        outside = service.where == "elsewhere"
        lines, accent = ((title, "not in this app"), Accent.OPTIONAL) if outside else ((title,), Accent.NONE)
        nodes.append(Node(_id("service", service.name), Look.SERVICE, lines, accent))
    nodes += [Node(_id("reactor", reactor.name), Look.REACTOR, (reactor.name, "reactor")) for reactor in relations.reactors]
    for one in relations.starts:
        edges.append(Edge(_id("saga", one.saga), _id("saga", one.other), "child" if one.waits else "starts"))
    for saga in relations.sagas:
        edges.append(Edge(_id("service", saga.started_by), _id("saga", saga.name), saga.starts_on))
        edges += [Edge(_id("saga", saga.name), _id("service", name), ", ".join(what)) for name, what in saga.sends.items()]
    for kind, actors in (("saga", relations.sagas), ("reactor", relations.reactors)):
        for actor in actors:
            for name, what in actor.hears.items():
                edges.append(Edge(_id("service", name), _id(kind, actor.name), ", ".join(what), dashed=True))
    return Sketch("map", tuple(nodes), tuple(edges), down=False)


def map_text(relations: Relations) -> list[Said]:
    """Sagas with what they start below them, then services with what they take, then reactors."""
    lines = [Said("title", "SAGAS")]
    for saga in relations.sagas:
        lines += _saga(relations, saga)
    lines += [Said("", ""), Said("title", "SERVICES")]
    for service in relations.services:
        if service.name != OUTCOMES:
            lines += _service(service)
    if relations.reactors:
        lines += [Said("", ""), Said("title", "REACTORS")]
        lines += [Said("", f"{reactor.name}  listens to {', '.join(_heard(reactor))}") for reactor in relations.reactors]
    return lines


def _saga(relations: Relations, saga: Actor) -> Iterable[Said]:
    yield Said("accent", saga.name)
    yield Said("", f"{INDENT}starts on {saga.starts_on} from {saga.started_by}")
    for clock in saga.clocks:
        yield Said("", f"{INDENT}by the clock: {clock}")
    for one in relations.parents(saga.name):
        yield Said("", f"{INDENT}{'a child of' if one.waits else 'started by'} {one.saga}")
    for name, commands in saga.sends.items():
        yield Said("soft", f"{INDENT}→ {name}: {', '.join(commands)}")
    for heard in _heard(saga):
        yield Said("soft", f"{INDENT}← waits for {heard}")
    if saga.roles:
        yield Said("soft", f"{INDENT}? asks {', '.join(saga.roles)}")


def _service(service: Service) -> Iterable[Said]:
    yield Said("accent", service.name + ("  (not in this app)" if service.where == "elsewhere" else ""))
    for command, sagas in service.commands.items():
        missing = "; NO HANDLER" if command in service.unhandled else ""
        yield Said("back" if missing else "soft", f"{INDENT}takes {command} from {', '.join(sagas)}{missing}")
    for event, actors in service.events.items():
        yield Said("soft", f"{INDENT}tells {event} to {', '.join(actors)}")


def _heard(actor: Actor) -> list[str]:
    return [
        f"{event} from {name}" if event else f"all of {name}.events" for name, events in actor.hears.items() for event in events
    ]


def _id(kind: str, name: str) -> str:
    return f"{kind}_{re.sub(r'[^A-Za-z0-9]', '_', name)}"
