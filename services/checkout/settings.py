"""Settings of the checkout services: read once from the environment, frozen. Kafka's are read by saga.config.

CHECKOUT_DATA             folder of the databases and the mail drop (".data")
CHECKOUT_DATABASE         a SQLAlchemy URL with {service} in it; by default an SQLite file each in CHECKOUT_DATA
CHECKOUT_ORDER_HTTP       host:port where orders are taken (127.0.0.1:8080)
CHECKOUT_GATEWAY_HTTP     host:port of the payment gateway (127.0.0.1:8081)
CHECKOUT_ANALYTICS_HTTP   host:port where analytics tells its numbers (127.0.0.1:8082)
CHECKOUT_SMTP             host:port of a mail server to send mails to, besides the mail drop (none)
CHECKOUT_STOCK            the file with the stock at the beginning (stock.json beside this file)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from saga import Misconfigured

SERVICES = ("order", "payment", "inventory", "shipping")  # they take commands
REACTORS = ("notification", "analytics")  # they only listen; they need Faust, which is an extra
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Settings:
    data: Path = Path(".data")
    database_url: str = ""
    order_http: str = "127.0.0.1:8080"
    gateway_http: str = "127.0.0.1:8081"
    analytics_http: str = "127.0.0.1:8082"
    smtp: str = ""
    stock: Path = HERE / "stock.json"

    @staticmethod
    def read(environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings from the environment. Raises Misconfigured for a value that does not fit."""
        usual = Settings()
        given = Settings(
            data=Path(environment.get("CHECKOUT_DATA") or usual.data),
            database_url=environment.get("CHECKOUT_DATABASE", ""),
            order_http=environment.get("CHECKOUT_ORDER_HTTP") or usual.order_http,
            gateway_http=environment.get("CHECKOUT_GATEWAY_HTTP") or usual.gateway_http,
            analytics_http=environment.get("CHECKOUT_ANALYTICS_HTTP") or usual.analytics_http,
            smtp=environment.get("CHECKOUT_SMTP", ""),
            stock=Path(environment.get("CHECKOUT_STOCK") or usual.stock),
        )
        if given.database_url and "{service}" not in given.database_url:
            raise Misconfigured(
                f"CHECKOUT_DATABASE={given.database_url!r} has no {{service}}: each service has a database of its own"
            )
        for address in (given.order_http, given.gateway_http, given.analytics_http, given.smtp or usual.order_http):
            host_and_port(address)
        return given

    def database(self, service: str) -> str:
        """The SQLAlchemy URL of a service's database."""
        if self.database_url:
            return self.database_url.replace("{service}", service)
        return f"sqlite:///{self.data.resolve() / service}.db"

    @property
    def gateway_ledger(self) -> Path:
        return self.data / "gateway.db"

    @property
    def carriers_books(self) -> Path:
        return self.data / "carriers.db"

    @property
    def mail_drop(self) -> Path:
        return self.data / "mail"


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:8080` in two. Raises Misconfigured if it is not that."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise Misconfigured(f"{address!r} is not host:port")
    return host, int(port)


SETTINGS = Settings.read()
