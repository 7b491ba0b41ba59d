"""One customer action updates billing, the CRM and insights at once, each with a database of its own; what fails is made good or undone."""

from __future__ import annotations

from saga import App, Reactor
from services.customer.billing import billing
from services.customer.crm import crm
from services.customer.customer import customer
from services.customer.saga import change, withdrawal
from topics.customer import ChangeWithdrawn, PlanChanged

app = App(
    sagas=[change, withdrawal],
    participants=[customer, billing, crm],
    reactors=[Reactor(name, listens=[PlanChanged, ChangeWithdrawn]) for name in ("crm-listener", "insights")],
    begin="earliest",
    partitions=4,
)
