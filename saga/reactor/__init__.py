"""Reactors: services that nobody commands. They listen to what others say, with Faust, and may say something themselves.

    reactor = FaustReactor(Config.read(), "crm", folder=Path("data"), partitions=4)
    reactor.listen("customer.events", heard({PlanChanged: on_changed, ChangeWithdrawn: on_withdrawn}))
    await reactor.run(stop)

It needs Faust, an extra (`pip install 'saga-kafka[reactors]'`), and Kafka, which Faust is made for. A saga that depends on what a
reactor does watches it: with `expect`, and a remedy for what is late.
"""

from saga.cloudevents import CloudEvent, iso_time
from saga.reactor.reactor import FaustReactor, Handler, React, heard
from saga.reactor.table import Table

__all__ = ["CloudEvent", "FaustReactor", "Handler", "React", "Table", "heard", "iso_time"]
