"""Models are trained on tumour samples, go on trial, and predict; one is worse and is rolled back; what a model doubts a person decides.

`make demo-prediction`
"""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar

from services.prediction.audit import COMPENSATED, COMPLETED, audit, read_books
from services.prediction.saga import Prediction, Review, prediction, review
from services.prediction.samples import BATCH, FIRST, LAST, samples
from services.stage.example import Example, main
from services.stage.findings import Finding, counted
from topics.prediction import Batch, ModelAsked, Verdict


class Predictions(Example):
    """Models on trial: trained, promoted, checked, used or rolled back, with a person for what they doubt."""

    name, app = "prediction", "services.prediction:app"
    processes: ClassVar = {name: ("services.prediction", name) for name in ("preparer", "trainer", "registry", "predictor")}

    async def story(self) -> None:
        last = FIRST + 2 * BATCH if self.short else LAST
        first, better, worse, impossible = asked(batches(last))
        self.say("a first model is trained on 60 samples")
        await self.start(first)
        await self.settled(prediction.name, 1)
        self.say("a second on 250; beside it one is asked for that wants a feature which nobody has")
        await self.start(better)
        await self.start(impossible)
        self.under_way.set()
        await self.settled(prediction.name, 3)
        self.say("a third knows only two features; on trial it turns out worse, and the second is current again")
        await self.start(worse)
        await self.settled(prediction.name, 4)
        async with asyncio.TaskGroup() as answers:
            for doubts in await self._reviews(2):
                answers.create_task(self._answer(doubts))
        await self.settled(review.name, 2)

    async def _answer(self, doubts: Review) -> None:
        """What a pathologist types."""
        self.say(f"{doubts.version} doubts {counted(len(doubts.samples), 'sample')}; a pathologist answers")
        said = verdict(doubts.samples).model_dump_json()
        who = ("--saga", review.name, "--role", "pathologist", "--why", "seen under the microscope")
        await self.typed("answer", doubts.run_id, "verdict", said, *who)

    async def _reviews(self, count: int) -> list[Review]:
        """The reviews that have begun, once there are so many: those who start them do not wait for them."""
        found: list[Review] = []

        async def all_there() -> bool:
            found[:] = [Review.model_validate(state.data) for state in await self.instances(review.name)]
            return len(found) >= count

        await self.until(all_there, lambda: f"{len(found)} of {count} reviews have begun")
        return found

    async def audit(self) -> list[Finding]:
        runs = [(str(state.phase), Prediction.model_validate(state.data)) for state in await self.instances(prediction.name)]
        reviews = [(str(state.phase), Review.model_validate(state.data)) for state in await self.instances(review.name)]
        return audit(read_books(runs, reviews), DUE)


DUE = {"first": COMPLETED, "better": COMPLETED, "worse": COMPENSATED, "impossible": COMPENSATED}


def batches(last: int) -> tuple[Batch, ...]:
    """The samples up to `last` that are to be predicted."""
    return tuple(Batch(first=first, count=min(BATCH, last - first)) for first in range(FIRST, last, BATCH))


def asked(of: tuple[Batch, ...]) -> tuple[ModelAsked, ModelAsked, ModelAsked, ModelAsked]:
    """The models of the story, in the order of DUE."""
    few = ("mean smoothness", "mean symmetry")
    return (
        ModelAsked(run_id="first", samples=60, batches=of),
        ModelAsked(run_id="better", samples=250, batches=of),
        ModelAsked(run_id="worse", samples=40, features=few, batches=of),
        ModelAsked(run_id="impossible", samples=100, features=("star sign",), batches=of),
    )


def verdict(doubtful: tuple[int, ...]) -> Verdict:
    """What a pathologist who knows would say: the data set has it."""
    return Verdict(malignant=tuple(sample for sample in doubtful if samples().malignant[sample]))


if __name__ == "__main__":
    sys.exit(main(Predictions))
