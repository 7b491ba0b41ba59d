"""The platform example: a supervisor for real processes of the operating system, whose every decision is a saga's."""

from saga import App
from services.platform.host import host
from services.platform.meter import meter
from services.platform.pager import pager
from services.platform.saga import restart, rollout, scale

app = App(sagas=[rollout, restart, scale], participants=[host, meter, pager], begin="earliest", partitions=4)
