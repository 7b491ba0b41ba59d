"""All examples as one system: one app, so one set of orchestrators runs all of their sagas, and one map shows how they relate."""

from __future__ import annotations

from saga import App
from services import app as checkout
from services.chain import app as chain
from services.customer import app as customer
from services.nightly import app as nightly
from services.pipeline import app as pipeline
from services.platform import app as platform
from services.prediction import app as prediction

PARTS = (checkout, customer, chain, pipeline, prediction, platform, nightly)

app = App(
    sagas=[saga for part in PARTS for saga in part.sagas],
    participants=[participant for part in PARTS for participant in part.participants.values()],
    reactors=[reactor for part in PARTS for reactor in part.reactors],
    begin="earliest",
    partitions=4,
)
