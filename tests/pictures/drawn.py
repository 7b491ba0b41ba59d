"""Reading an SVG back: where its boxes are, what lines there are and where they run."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import NamedTuple

NS = "{http://www.w3.org/2000/svg}"


class Box(NamedTuple):
    name: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom

    def holds(self, x: float, y: float, slack: float) -> bool:
        """Is this point inside, and not only at the edge?"""
        return self.left + slack < x < self.right - slack and self.top + slack < y < self.bottom - slack


def read(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def classed(element: ET.Element, name: str) -> Iterator[ET.Element]:
    return (one for one in element.iter() if name in one.get("class", "").split())


def boxes(root: ET.Element) -> list[Box]:
    """The cards, with all that stands out of them but for a state's chip."""
    found = []
    for item in root.iter(f"{NS}g"):
        at = re.fullmatch(r"translate\((-?\d+) (-?\d+)\)", item.get("transform", ""))
        if at:
            x, y = int(at[1]), int(at[2])
            rects = [rect for rect in item.iter(f"{NS}rect") if "card" in rect.get("class", "").split()]
            edges = [[float(rect.get(name, "0")) for name in ("x", "y", "width", "height")] for rect in rects]
            name = next(text.text or "" for text in item.iter(f"{NS}text") if text.get("class") in ("name", "actor"))
            left, top = min(edge[0] for edge in edges), min(edge[1] for edge in edges)
            conditioned = any(one.get("class") == "if" for one in item.iter())
            right, bottom = max(edge[0] + edge[2] for edge in edges), max(edge[1] + edge[3] for edge in edges)
            found.append(Box(name, x + left, y + (0 if conditioned else top), x + right, y + bottom))
    return found


def links(root: ET.Element, attribute: str) -> set[tuple[str, str]]:
    """The links that lines say they draw: `data-links` forward, `data-back` back."""
    said = " ".join(line.get(attribute, "") for line in root.iter(f"{NS}path")).split()
    return {(one.split(">")[0], one.split(">")[1]) for one in said}


def points(path: str) -> Iterator[tuple[float, float]]:
    """Points along a line, a few px from each other."""
    at = (0.0, 0.0)
    for command, numbers in re.findall(r"([MLC])([^MLC]*)", path):
        values = [float(number) for number in re.findall(r"-?[\d.]+", numbers)]
        pairs = list(zip(values[::2], values[1::2], strict=True))
        if command == "M":
            at = pairs[0]
            continue
        p = [at, *pairs] if command == "C" else [at, at, pairs[0], pairs[0]]
        for step in range(1, 101):
            t = step / 100
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            yield sum(w * x for w, (x, _) in zip(weights, p, strict=True)), sum(w * y for w, (_, y) in zip(weights, p, strict=True))
        at = p[-1]
