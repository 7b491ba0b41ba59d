"""Random sagas: plain ones, of commands only, and rich ones, with steps of every kind and with conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from saga.errors import DefinitionError
from tests.engine.kit import Part, make

RICH = 1000  # a seed from here on makes a rich saga


def random_parts(random: Random) -> dict[str, Part]:
    """Up to eight steps; a part of them before a pivot, if there is one, all others after it."""
    names = list("abcdefgh"[: random.randint(1, 8)])
    pivot = random.choice([None, *names])
    before = names[: names.index(pivot)] if pivot else names
    parts: dict[str, Part] = {}
    for name in names:
        if name == pivot:
            sinks = tuple(n for n in before if not any(n in part.after for part in parts.values()))
            parts[name] = _part(random, sinks, pivot=True)
        elif name in before:
            parts[name] = _part(random, tuple(n for n in parts if random.random() < 0.35), pivot=False)
        else:
            allowed = [n for n in parts if n not in before]
            parts[name] = _part(random, tuple(random.sample(allowed, random.randint(1, len(allowed)))), pivot=None)
    return parts


def _part(random: Random, after: tuple[str, ...], *, pivot: bool | None) -> Part:
    """`pivot` None: after it."""
    timeout = random.choice([3, 10, 40])
    attempts = random.choice([1, 2, 4])
    if pivot is None:
        return Part(after, timeout=timeout, attempts=attempts)
    verify = random.random() < 0.4
    undo = not pivot and random.random() < 0.75
    unknown = random.choice([None, "park", *(["verify"] if verify else []), *(["compensate"] if undo else [])])
    wait = timeout if pivot or random.random() < 0.85 else None
    return Part(after, pivot=pivot, undo=undo, verify=verify, unknown=unknown, timeout=wait, attempts=attempts)  # type: ignore[arg-type]


def rich_parts(random: Random) -> dict[str, Part]:
    """The same, with maps, waits, conditions, best efforts, and a pivot on each of two paths. What is no right saga is drawn again."""
    while True:
        parts = random_parts(random)
        if random.random() < 0.25:
            parts = _two_paths(parts)
        parts = {name: _enriched(random, name, part, parts) for name, part in parts.items()}
        try:
            make(parts)
        except DefinitionError:
            continue
        return parts


def _two_paths(parts: Mapping[str, Part]) -> dict[str, Part]:
    """Beside the pivot there is another one, for when the first is not wanted; all that comes after one comes after both."""
    pivot = next((name for name, part in parts.items() if part.pivot), None)
    if pivot is None:
        return dict(parts)
    found: dict[str, Part] = {}
    for name, part in parts.items():
        after = part.after if pivot not in part.after else (*part.after, "q")
        found[name] = replace(part, after=after, when="?" if name == pivot else "")
        if name == pivot:
            found["q"] = replace(part, when=f"!{pivot}")
    return found


def _enriched(random: Random, name: str, part: Part, parts: Mapping[str, Part]) -> Part:
    if not part.pivot and random.random() < 0.15:
        part = replace(part, best_effort=True, unknown=None)
    if not part.when and random.random() < 0.25:
        others = list(parts)[: list(parts).index(name)]
        part = replace(part, when=random.choice(["?", "?", "?", *others, *(f"!{other}" for other in others)]))
    chance = random.random()
    if part.pivot or chance > 0.45:
        return part
    if chance < 0.2:
        return replace(part, items=random.randint(0, 4), at_once=random.randint(1, 3))
    within = random.choice([5, 30, 200])
    if chance < 0.35:
        return Part(
            part.after, waits="event", within=within, late=random.random() < 0.5, when=part.when, best_effort=part.best_effort
        )
    return Part(part.after, waits="pause", within=within, when=part.when, best_effort=part.best_effort)
