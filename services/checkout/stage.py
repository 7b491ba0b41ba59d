"""What the demo plays on: a log, six services and two orchestrators, brought up; and how to look around in it afterwards."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from infra.broker.settings import free_ports
from services.checkout.settings import REACTORS, SERVICES
from services.stage.crew import FOLDER, Crew, DemoFailed
from services.stage.log import choose_log, log_of, shown

READY_SECONDS = 90.0  # ten Python processes start at once, on what may be two slow cores
PYTHON = Path(sys.executable)
ORCHESTRATORS = ("orchestrator-1", "orchestrator-2")


class Stage:
    """Everything that runs. `say` tells a person what happens."""

    def __init__(self, crew: Crew, say: Callable[[str], None]) -> None:
        self.crew = crew
        self.reactors: tuple[str, ...] = ()
        self._say = say
        order, gateway, analytics, first, second = (f"127.0.0.1:{port}" for port in free_ports(5))
        self._http = dict(zip(ORCHESTRATORS, (first, second), strict=True))
        crew.environment |= {"CHECKOUT_DATA": str(crew.folder / "data")}
        crew.environment |= {
            "CHECKOUT_ORDER_HTTP": order,
            "CHECKOUT_GATEWAY_HTTP": gateway,
            "CHECKOUT_ANALYTICS_HTTP": analytics,
        }

    @property
    def log(self) -> str:
        """Where the log is, in a few words."""
        return log_of(self.crew)

    @property
    def mails(self) -> Path:
        return Path(self.crew.environment["CHECKOUT_DATA"]) / "mail"

    @property
    def audit(self) -> list[str]:
        """The audit's module and arguments."""
        return ["services.checkout.audit", *([] if self.reactors else ["--without-reactors"])]

    def url(self, service: str) -> str:
        """Where order, gateway or analytics answers."""
        return f"http://{self.crew.environment[f'CHECKOUT_{service.upper()}_HTTP']}"

    def bring_up(self) -> None:
        """Start everything. Raises DemoFailed, BrokerUnavailable; Ctrl-C ends it at once."""
        choose_log(self.crew, self._say)
        if self.crew.run("saga.cli", "topics", "apply", quiet=True) != 0:
            raise DemoFailed("the topics could not be created")
        kafka = not self.crew.environment.get("SAGA_LOG")
        self.reactors = REACTORS if kafka and importlib.util.find_spec("faust") else ()
        names = " and ".join(REACTORS)
        listening = f"{names} listen" if self.reactors else f"without {names}, which need Faust on a Kafka"
        self._say(f"starting the payment gateway, four services and two orchestrators; {listening}")
        for service in ("gateway", *SERVICES, *self.reactors):
            self.crew.start(service, "services.checkout", service)
        for name, address in self._http.items():
            self.crew.start(name, "saga.cli", "run", SAGA_HTTP=address)

    async def ready(self) -> None:
        """Wait until everything answers. Raises DemoFailed."""
        orchestrators = [f"http://{address}/readyz" for address in self._http.values()]
        await self.crew.until_ready(
            [f"{self.url('order')}/healthz", f"{self.url('gateway')}/healthz", *orchestrators], READY_SECONDS
        )

    def tell_how_to_look(self) -> None:
        """Writes `env` into the demo's folder, which sets a shell to it, and says what can be done with it."""
        environment, folder = self.crew.environment, shown(self.crew.folder)
        ours = [name for name in sorted(environment) if name.startswith(("SAGA_", "CHECKOUT_"))]
        lines = [f"export {name}={shlex.quote(environment[name])}" for name in ours if name != "SAGA_SECURITY"]  # it holds secrets
        lines.append(f'export PATH={shlex.quote(str(PYTHON.parent))}:"$PATH"')
        (self.crew.folder / "env").write_text("\n".join(lines) + "\n", encoding="utf-8")
        numbers = f"\n  curl {self.url('analytics')}/numbers" if self.reactors else ""
        elsewhere = "" if self.crew.folder == FOLDER else f" --folder {folder}"
        print(f"""
Everything is still up, on {self.log}. In a shell, in this folder:
  . {folder}/env                        # sets SAGA_… and CHECKOUT_… to this demo, and finds `saga`
  saga list --state all
  saga show order-0007
  saga why order-0007
  curl {self.url("order")}/orders/order-0007
  curl http://{self._http[ORCHESTRATORS[1]]}/metrics{numbers}
  python -m {" ".join(self.audit)}
  ls {folder}/data/mail {folder}/*.log
To stop it and remove it:
  {shown(PYTHON)} -m services.checkout.demo --stop{elsewhere}""")
