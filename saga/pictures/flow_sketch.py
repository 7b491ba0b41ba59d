"""A saga for Mermaid and DOT. These lay a graph out by themselves, and know nothing of a line that is also a way back. So here the way back
is boxes of its own: from each step that can fail to the compensations that are then due, and on to the end `compensated`."""

from __future__ import annotations

from saga.engine.nodes import START
from saga.pictures.flow import END, Box, Flow, Kind, Mark
from saga.pictures.sketch import Accent, Edge, Look, Node, Sketch

_LOOKS = {
    Kind.SAGA: Look.BEGIN,
    Kind.COMMAND: Look.COMMAND,
    Kind.EACH: Look.EACH,
    Kind.EVENT: Look.EVENT,
    Kind.QUESTION: Look.QUESTION,
    Kind.PAUSE: Look.PAUSE,
    Kind.CHILD: Look.SAGA,
    Kind.CHAIN: Look.CHAIN,
    Kind.END: Look.END,
}
_ENDS = {START.name: "begin", END: "completed"}


def flow_sketch(flow: Flow) -> Sketch:
    """Ids are `do_<step>` and `undo_<step>`, so that no step's name is a word of the language."""
    nodes = [_node(box) for box in flow.boxes]
    edges = [Edge(_do(link.source), _do(link.target), flow.box(link.target).condition) for link in flow.links]
    undone = [box for box in flow.boxes if box.undo and box.kind is not Kind.SAGA]
    nodes += [Node(f"undo_{box.name}", Look.UNDO, (f"undo {box.name}", box.undo), Accent.UNDO) for box in undone]
    if flow.boxes[0].undo:
        nodes.append(Node("compensated", Look.END, ("compensated",), Accent.UNDO))
    turning = dict.fromkeys(link.target for link in flow.links if link.back)
    for name in turning:  # of a mapped step some items may have run when another one fails
        own = [name] if flow.box(name).kind is Kind.EACH and flow.box(name).undo else flow.undone_before(name)
        edges += [Edge(_do(name), _undo(other), "fails", dashed=True) for other in own]
    for box in reversed(undone):
        edges += [Edge(_undo(box.name), _undo(other), dashed=True) for other in flow.undone_before(box.name)]
    return Sketch(flow.name, tuple(nodes), tuple(edges))


def _node(box: Box) -> Node:
    words = [*box.marks, *([box.kind] if box.kind not in (Kind.COMMAND, Kind.SAGA, Kind.END) else [])]
    lines = (box.title, *([", ".join(words)] if words else []), *box.lines)
    accent = Accent.PIVOT if Mark.PIVOT in box.marks else Accent.OPTIONAL if Mark.BEST_EFFORT in box.marks else Accent.NONE
    return Node(_do(box.name), _LOOKS[box.kind], lines, accent)


def _do(name: str) -> str:
    return _ENDS.get(name, f"do_{name}")


def _undo(name: str) -> str:
    return "compensated" if name == START.name else f"undo_{name}"
