"""The nightly example: sales by day, and a report each night that nobody has to remember."""

from saga import App
from services.nightly.alarm import alarm
from services.nightly.mailroom import mailroom
from services.nightly.numbers import numbers
from services.nightly.press import press
from services.nightly.saga import nightly, sale
from services.nightly.till import till

app = App(sagas=[sale, nightly], participants=[till, numbers, press, mailroom, alarm], begin="earliest", partitions=4)
