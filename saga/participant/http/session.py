"""The connection to an API while a participant runs: bounded in time, in size, in number; its secrets stay in it.

What httpx would do by itself and may not here: follow a redirect (to whom would the money go?), take a proxy, a password or an authority
from the environment, keep cookies, unpack what is compressed (a small answer can unpack to gigabytes), read without end. Its time-outs
are for each read, so an answer that comes a byte at a time never ends; here one limit is for all of a request. Its pool loses a
connection for good when a request is cancelled while it waits for one (httpcore issue 1093), and time-outs cancel; so the pool has no
limit of its own, requests wait for their turn before they come to it.

A 429 or 503 with Retry-After holds back all requests, not only the one: the limit is the account's. Up to a minute: an answer of another
company must not stop a service for a day.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self

import httpx

from saga.config import filled
from saga.errors import Misconfigured, Unavailable
from saga.participant.http.answers import Said
from saga.participant.http.definition import HELD, Api, Request, check_base

MAX_ANSWER = 256 * 1024  # bytes: a reply has to fit into a command's place in a saga's data
MAX_PAUSE = 60.0  # seconds that a Retry-After is believed
CONNECT_SECONDS = 5.0  # of the time-out: who does not even take the connection is not there
_PAUSES = {429, 503}


class Session:
    """`async with Session(api) as session:`. Raises Misconfigured for settings, files and secrets that do not fit."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._secrets: list[str] = []
        self._base = self._fill("base=", api.base).rstrip("/")
        check_base(self._base, api.plain)
        headers = {name: self._fill(name, text) for name, text in api.headers.items()}
        self._client = httpx.AsyncClient(
            headers={"Accept": "application/json", "User-Agent": "saga-kafka", **headers, "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(api.timeout.total_seconds(), connect=min(CONNECT_SECONDS, api.timeout.total_seconds())),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=api.connections),
            verify=_trust(api),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            trust_env=False,
        )
        self._turns = asyncio.Semaphore(api.connections)
        self._not_before = 0.0  # of the event loop's time

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, request: Request) -> Said:
        """Send a request. Raises Unavailable if no whole answer came: it may have taken effect all the same."""
        async with self._turns:
            await self._pause(request.asked)
            within = self._api.timeout.total_seconds()
            try:
                async with asyncio.timeout(within):
                    return await self._exchange(request)
            except (TimeoutError, httpx.TimeoutException):
                raise Unavailable(f"{request.asked} was not answered within {within:g} s") from None
            except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
                raise Unavailable(f"{request.asked} was not answered: {type(error).__name__}: {self.clean(str(error))}") from None

    def clean(self, text: str) -> str:
        """A text without our secrets, should the other side have sent one back."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text

    async def _exchange(self, request: Request) -> Said:
        content = {"Content-Type": "application/json"} if request.body is not None else {}
        async with self._client.stream(
            request.method, self._base + request.path, headers={**request.headers, **content}, content=request.body
        ) as response:
            if response.status_code in _PAUSES:
                self._hold(response.headers.get("retry-after", ""))
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                return Said(request.asked, response.status_code, problem="it is compressed, though we asked for it as it is")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER:
                    return Said(request.asked, response.status_code, problem=f"it is larger than {MAX_ANSWER} bytes")
            return Said(request.asked, response.status_code, bytes(body))

    def _hold(self, retry_after: str) -> None:
        pause = min(_seconds(retry_after), MAX_PAUSE)
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + pause)

    async def _pause(self, asked: str) -> None:
        """Wait as long as the API asked for. Raises Unavailable if that is long: then the saga tries later."""
        left = self._not_before - asyncio.get_running_loop().time()
        if left > HELD.total_seconds():
            raise Unavailable(f"{asked} was not sent: the API asked for a pause, of which {left:.0f} s are left")
        if left > 0:
            await asyncio.sleep(left)

    def _fill(self, name: str, text: str) -> str:
        value, secrets = filled(text)
        self._secrets += secrets
        if not value.isascii() or not value.isprintable():
            raise Misconfigured(f"{name} has a line break or another character in it that a header cannot hold")
        return value


def _trust(api: Api) -> ssl.SSLContext:
    """Whose certificates we believe, and our own."""
    try:
        context = ssl.create_default_context(cafile=api.ca) if api.ca else httpx.create_ssl_context(trust_env=False)
        if api.certificate:
            context.load_cert_chain(api.certificate)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"ca={api.ca!r} or certificate={api.certificate!r} cannot be used: {error}") from None
    return context


def _seconds(retry_after: str) -> float:
    """RFC 9110, 10.2.3: seconds, or a date; 0 for anything else."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        return 0.0
