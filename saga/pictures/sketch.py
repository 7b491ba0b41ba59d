"""A drawing that somebody else lays out: nodes, edges and their kinds, as Mermaid or as DOT. Both formats are only syntax, so here they are
side by side, for a saga and for the map alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Look(StrEnum):
    """What a node is, told by its shape in every theme; colours are for strokes alone, so that they serve on light and on dark."""

    BEGIN = "begin"
    END = "end"
    COMMAND = "command"
    EACH = "each"
    EVENT = "event"
    QUESTION = "question"
    PAUSE = "pause"
    SAGA = "saga"
    CHAIN = "chain"
    UNDO = "undo"
    SERVICE = "service"
    REACTOR = "reactor"
    CLOCK = "clock"


class Accent(StrEnum):
    NONE = ""
    PIVOT = "pivot"
    OPTIONAL = "optional"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Node:
    """`id`: ASCII letters, digits and _, and no word of either language. The first of `lines` is the name."""

    id: str
    look: Look
    lines: tuple[str, ...]
    accent: Accent = Accent.NONE


@dataclass(frozen=True, slots=True)
class Edge:
    source: str
    target: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Sketch:
    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    down: bool = True  # else from left to right


_MERMAID = {  # what stands around a label
    Look.BEGIN: ("([", "])"),
    Look.END: ("([", "])"),
    Look.COMMAND: ("[", "]"),
    Look.EACH: ("[/", "/]"),
    Look.EVENT: (">", "]"),
    Look.QUESTION: ("{{", "}}"),
    Look.PAUSE: ("(", ")"),
    Look.SAGA: ("[[", "]]"),
    Look.CHAIN: ("[/", "\\]"),
    Look.UNDO: ("[", "]"),
    Look.SERVICE: ("[", "]"),
    Look.REACTOR: (">", "]"),
    Look.CLOCK: ("(", ")"),
}
_CLASSES = {
    Accent.PIVOT: "stroke:#5b50e6,stroke-width:3px",
    Accent.OPTIONAL: "stroke-dasharray:5 4",
    Accent.UNDO: "stroke:#b06a10,stroke-dasharray:4 3",
}
_DOT = {
    Look.BEGIN: "shape=oval",
    Look.END: "shape=oval",
    Look.COMMAND: "shape=box",
    Look.EACH: "shape=box3d",
    Look.EVENT: "shape=note",
    Look.QUESTION: "shape=hexagon",
    Look.PAUSE: "shape=octagon",
    Look.SAGA: "shape=box peripheries=2",
    Look.CHAIN: "shape=cds",
    Look.UNDO: "shape=box",
    Look.SERVICE: "shape=component",
    Look.REACTOR: "shape=note",
    Look.CLOCK: "shape=octagon",
}
_ACCENTS = {
    Accent.PIVOT: ' color="#5b50e6" penwidth=3',
    Accent.OPTIONAL: " style=dashed",
    Accent.UNDO: ' style=dashed color="#b06a10"',
}


def mermaid(sketch: Sketch) -> str:
    """A Mermaid flowchart, as GitHub shows it in a block of its own."""
    lines = [f"flowchart {'TD' if sketch.down else 'LR'}"]
    for node in sketch.nodes:
        begin, end = _MERMAID[node.look]
        name, *rest = (_mermaid_text(line) for line in node.lines)
        lines.append(f'    {node.id}{begin}"{"<br>".join([f"<b>{name}</b>", *rest])}"{end}')
    for edge in sketch.edges:
        label = f'|"{_mermaid_text(edge.label)}"|' if edge.label else ""
        lines.append(f"    {edge.source} {'-.->' if edge.dashed else '-->'}{label} {edge.target}")
    for accent, style in _CLASSES.items():
        found = [node.id for node in sketch.nodes if node.accent is accent]
        if found:
            lines += [f"    classDef {accent} {style}", f"    class {','.join(found)} {accent}"]
    return "\n".join(lines) + "\n"


def dot(sketch: Sketch) -> str:
    """A digraph for Graphviz."""
    lines = [f"digraph {_dot_text([sketch.name])} {{", f"    rankdir={'TB' if sketch.down else 'LR'}"]
    lines += ['    node [fontname="Helvetica" fontsize=11]', '    edge [fontname="Helvetica" fontsize=10]']
    for node in sketch.nodes:
        lines.append(f"    {node.id} [label={_dot_text(node.lines)} {_DOT[node.look]}{_ACCENTS.get(node.accent, '')}]")
    for edge in sketch.edges:
        said = [f"label={_dot_text([edge.label])}"] if edge.label else []
        said += ['style=dashed color="#b06a10"'] if edge.dashed else []
        lines.append(f"    {edge.source} -> {edge.target}{' [' + ' '.join(said) + ']' if said else ''}")
    return "\n".join([*lines, "}"]) + "\n"


_ENTITIES = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;"})


def _mermaid_text(words: str) -> str:
    """Mermaid reads HTML, and entities of its own, also in labels that are quoted."""
    return words.translate(_ENTITIES)


def _dot_text(lines: Iterable[str]) -> str:
    return '"' + r"\n".join(line.replace("\\", r"\\").replace('"', r"\"") for line in lines) + '"'
