"""What the demo plays on: a log, six services and two orchestrators, brought up; and how to look around in it afterwards."""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from infra.broker.settings import free_ports
from services.checkout.crew import FOLDER, ROOT, Crew, DemoFailed, no_kafka
from services.checkout.settings import REACTORS, SERVICES

READY_SECONDS = 90.0  # ten Python processes start at once, on what may be two slow cores
PATIENT_SECONDS = "30"  # for an answer of the log, for the same reason; in production 10
SESSION_SECONDS = "6"  # after so long without a sign of life an orchestrator's partitions go to the other; in production 10
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
        crew.environment.setdefault("SAGA_TIMEOUT_SECONDS", PATIENT_SECONDS)
        crew.environment |= {"SAGA_DEV": "1", "SAGA_SESSION_SECONDS": SESSION_SECONDS, "CHECKOUT_DATA": str(crew.folder / "data")}
        crew.environment |= {
            "CHECKOUT_ORDER_HTTP": order,
            "CHECKOUT_GATEWAY_HTTP": gateway,
            "CHECKOUT_ANALYTICS_HTTP": analytics,
        }

    @property
    def log(self) -> str:
        """Where the log is, in a few words."""
        environment = self.crew.environment
        return environment.get("SAGA_LOG") or f"Kafka at {environment.get('SAGA_BOOTSTRAP', '?')}"

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
        self._choose_log()
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

    def _choose_log(self) -> None:
        """What SAGA_LOG or SAGA_BOOTSTRAP names; else a Kafka of our own; else, where there is no way to one, a file log."""
        environment = self.crew.environment
        if environment.get("SAGA_LOG") or environment.get("SAGA_BOOTSTRAP"):
            prefix = environment.setdefault("SAGA_PREFIX", f"demo-{int(time.time())}-")
            what = f"in a folder {prefix}" if environment.get("SAGA_LOG") else f"topics begin with {prefix!r} and stay there"
            self._say(f"the log is {self.log}, {what}")
            return
        self._say("looking for Java and Kafka; if Kafka is not here yet, Maven fetches it now, once")
        if reason := no_kafka():
            environment["SAGA_LOG"] = f"file:{self.crew.folder / 'log'}"
            self._say(f"no Kafka here, so the same on a file log in {shown(self.crew.folder)}/log: {reason}")
        else:
            self._say("starting Kafka")
            environment["SAGA_BOOTSTRAP"] = self.crew.start_broker()

    async def ready(self) -> None:
        """Wait until everything answers. Raises DemoFailed."""
        waiting = {f"{self.url('order')}/healthz", f"{self.url('gateway')}/healthz"}
        waiting |= {f"http://{address}/readyz" for address in self._http.values()}

        async with httpx.AsyncClient(trust_env=False) as http:

            async def all_answer() -> bool:
                for url in sorted(waiting):
                    with contextlib.suppress(httpx.HTTPError):
                        if (await http.get(url)).status_code == 200:
                            waiting.discard(url)
                return not waiting

            await self.crew.until(all_answer, READY_SECONDS, lambda: f"no answer yet from {', '.join(sorted(waiting))}")

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


def shown(folder: Path) -> Path:
    """As short as it can be said here."""
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
