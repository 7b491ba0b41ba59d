"""S1 to S5: a mistake in a definition is one clear error with file and line, when the module is imported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from saga.engine import definition, messages, nodes, policy
from saga.engine.definition import Saga, hours
from saga.engine.graph import difference
from saga.engine.kinds import Step
from saga.engine.nodes import START
from saga.errors import DefinitionError
from tests.engine import parts
from tests.engine.kit import DIAMOND, LINE, PIVOT, Do, Ordered, Part, Undo, Work, make

HERE = Path(__file__).parent
GOLDEN = HERE / "mistakes.golden"


def blocks() -> dict[str, str]:
    """Each mistake by its title, as source that keeps its line numbers."""
    found: dict[str, str] = {}
    title = ""
    for number, line in enumerate((HERE / "mistakes.txt").read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("# --- "):
            title = line.removeprefix("# --- ")
            assert title not in found, f"two mistakes are called {title!r}"
            found[title] = "\n" * number
        elif title:
            found[title] += line + "\n"
    return found


def surroundings() -> dict[str, Any]:
    """What a block can use: a saga with one step, another saga's step, and all messages."""
    saga = _saga("shop")
    names: dict[str, Any] = {
        name: value for module in (parts, messages, definition, nodes, policy) for name, value in vars(module).items()
    }

    class Other(Work):
        pass

    def pay(w: Work) -> Do:
        raise NotImplementedError

    def undo(w: Work, sent: Do) -> Undo:
        raise NotImplementedError

    def begin(e: Ordered) -> Work:
        raise NotImplementedError

    saga.start(begin)
    names |= {"shop": saga, "pay": saga.step(after=START)(pay), "elsewhere": _saga("other").step(after=START)(pay)}
    return names | {"undo": undo, "begin": begin, "key": lambda event: event.key, "Other": Other, "__name__": "mistakes"}


def _saga(name: str) -> Saga[Ordered, Work]:
    return Saga(name, version=1, starts_on=Ordered, key=lambda event: event.key, data=Work, deadline=hours(1))


def said(source: str) -> str:
    code = compile(source, "mistakes.txt", "exec", dont_inherit=True)
    with pytest.raises(DefinitionError) as caught:
        exec(code, surroundings())
    return re.sub(r"test_definition\.py:\d+", "surroundings:1", str(caught.value).replace(f"{HERE}/", ""))


def test_s01_each_mistake_is_told_with_file_and_line() -> None:
    """After a change on purpose, copy what this test prints into mistakes.golden."""
    told = "".join(f"{title}\n    {said(source)}\n" for title, source in blocks().items())
    print(told)
    assert len(blocks()) > 40
    assert told == GOLDEN.read_text(encoding="utf-8"), "a definition's mistake is told otherwise than before"


def test_s01_each_message_names_a_line_of_the_block_it_is_about() -> None:
    for title, source in blocks().items():
        begin = len(source) - len(source.lstrip("\n")) + 1
        file, line, _ = said(source).split(":", 2)
        about_the_saga = file in ("surroundings", "<string>")
        assert about_the_saga or begin <= int(line) <= source.count("\n"), f"{title}: {said(source)}"


@pytest.mark.parametrize("parts", [LINE, DIAMOND, PIVOT, {"p": Part(pivot=True)}, {"a": Part(undo=False)}])
def test_s01_what_is_right_is_accepted(parts: dict[str, Part]) -> None:
    make(parts).saga.check()


def test_s03_messages_may_be_local_to_a_function() -> None:
    class Asked(messages.Event, type="shop.asked.v1"):
        key: str

    class Answered(messages.Event, type="desk.answered.v1"):
        text: str

    class Answer(messages.Command[Answered], service="desk"):
        key: str

    class Talk(Work):
        text: str = ""

    talk = Saga("talk", version=1, starts_on=Asked, key=lambda event: event.key, data=Talk, deadline=hours(1))

    @talk.start
    def begin(event: Asked) -> Talk:
        return Talk(key=event.key)

    @talk.step(after=START, compensation=None)
    def answer(t: Talk) -> Answer:
        return Answer(key=t.key)

    @answer.done
    def answered(t: Talk, reply: Answered) -> Talk:
        return t.model_copy(update={"text": reply.text})

    talk.check()
    assert isinstance(answer, Step)
    assert answer.command_class is Answer
    assert answer.command_class.__type__ == "desk.answer.v1"


def test_s04_a_wait_for_ever_is_only_what_is_written_so() -> None:
    step = _saga("shop").step(after=START)(surroundings()["pay"].command)
    assert step.timeout == policy.DEFAULT_TIMEOUT


def test_s05_the_hash_tells_the_structure_and_nothing_else() -> None:
    base = make(LINE).saga.graph.hash
    same = [
        make(LINE, deadline=5),
        make(LINE, version=2),
        make({name: Part(part.after, timeout=99, attempts=7, unknown="park") for name, part in LINE.items()}),
        make(dict(sorted(LINE.items()))),
    ]
    assert {made.saga.graph.hash for made in same} == {base}, "S5: a time-out, a retry or an order of writing is no structure"
    others: list[dict[str, Part]] = [
        LINE | {"c": Part(after=("a",))},
        LINE | {"c": Part(after=("b",), undo=False)},
        LINE | {"c": Part(after=("b",), verify=True)},
        LINE | {"c": Part(after=("b",), pivot=True)},
        LINE | {"d": Part()},
    ]
    hashes = {make(parts).saga.graph.hash for parts in others}
    assert len(hashes) == len(others), "S5: a change of structure does not show"
    assert base not in hashes


def test_s05_the_difference_of_two_structures_is_told_a_line_a_step() -> None:
    old, new = make(LINE).saga.graph.outline, make(LINE | {"c": Part(after=("a",)), "d": Part(after=("c",))}).saga.graph.outline
    lines = difference(old, new).splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["c", "d"]
    assert "was [after b;" in lines[0]
    assert "is [after a;" in lines[0]
    assert "was [not there]" in lines[1]


def test_s02_every_step_is_reachable_and_none_comes_after_itself() -> None:
    """A link is an object that must exist before it is linked to, so neither can be written; the graph says the same."""
    graph = make(DIAMOND).saga.graph
    assert [name for name, before in graph.before.items() if not before] == ["a"]
    for name, before in graph.before.items():
        names = list(graph.steps)
        assert all(names.index(other) < names.index(name) for other in before), f"S2: {name} comes after a later step"


def test_s02_two_hundred_steps_are_possible() -> None:
    assert len(make({f"s{number}": Part() for number in range(definition.MAX_STEPS)}).saga.steps) == 200


def test_one_refusal_needs_no_tuple() -> None:
    class Lone(messages.Command[parts.Did], service="work", refuses=parts.Declined): ...

    assert Lone.__refusals__ == (parts.Declined,)
