"""How to speak to brokers that ask for TLS or a login: from what can be written in a setting to what aiokafka takes.

    {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "shop", "sasl_plain_password": "…",
     "ssl_cafile": "/etc/kafka/ca.pem"}

The naive way hands all of it to aiokafka. But that takes a context for TLS, which no text can be, and says nothing of settings that do
not fit each other: a login without a protocol that asks for one is left out, and all is sent in plain text.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka.helpers import create_ssl_context  # type: ignore[import-untyped]

from saga.errors import Misconfigured

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER")
FILES = ("ssl_cafile", "ssl_capath", "ssl_certfile", "ssl_keyfile", "ssl_password")  # as kafka-python names them
LOGIN = ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password", "sasl_kerberos_service_name", "sasl_kerberos_domain_name")
OBJECTS = ("ssl_context", "sasl_oauth_token_provider")  # only for who makes a KafkaLog in a program


def client_security(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of aiokafka's clients. No message tells a value, since some are secret.

    Raises Misconfigured for a name that is none, settings that do not fit each other, or a file that cannot be used.
    """
    if unknown := sorted(set(given) - {"security_protocol", *FILES, *LOGIN, *OBJECTS}):
        raise Misconfigured(
            f"SAGA_SECURITY: {', '.join(unknown)} is not known; what is: security_protocol, {', '.join(LOGIN + FILES)}"
        )
    protocol = given.get("security_protocol", "PLAINTEXT")
    if protocol not in PROTOCOLS:
        raise Misconfigured(f"SAGA_SECURITY: security_protocol must be one of {', '.join(PROTOCOLS)}")
    encrypted, login = protocol.endswith("SSL"), protocol.startswith("SASL")
    if not encrypted and any(name.startswith("ssl_") for name in given):
        raise Misconfigured(f"SAGA_SECURITY: ssl_… is given, but with security_protocol {protocol} nothing would be encrypted")
    if not login and any(name.startswith("sasl_") for name in given):
        raise Misconfigured(f"SAGA_SECURITY: sasl_… is given, but with security_protocol {protocol} nobody would log in")
    made = {name: value for name, value in given.items() if name not in FILES}
    if login:
        _check_login(given)
    if encrypted and "ssl_context" not in given:
        made["ssl_context"] = _context({name.removeprefix("ssl_"): given[name] for name in FILES if name in given})
    return made


def _check_login(given: Mapping[str, Any]) -> None:
    mechanism = given.get("sasl_mechanism", "PLAIN")
    if mechanism not in MECHANISMS:
        raise Misconfigured(f"SAGA_SECURITY: sasl_mechanism must be one of {', '.join(MECHANISMS)}")
    needed = {"GSSAPI": (), "OAUTHBEARER": ("sasl_oauth_token_provider",)}.get(
        mechanism, ("sasl_plain_username", "sasl_plain_password")
    )
    if missing := [name for name in needed if not given.get(name)]:
        raise Misconfigured(f"SAGA_SECURITY: {mechanism} needs {' and '.join(missing)}")


def _context(files: Mapping[str, str]) -> ssl.SSLContext:
    """One that checks the broker's certificate and name, by the given authority or else the system's."""
    try:
        context: ssl.SSLContext = create_ssl_context(**files)
    except (OSError, TypeError, ValueError) as error:  # SSLError is an OSError
        raise Misconfigured(f"SAGA_SECURITY: the ssl_… files cannot be used: {error}") from None
    return context
