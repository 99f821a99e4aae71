"""The client's connections: one after the other, and the patience between them."""

import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from http import HTTPStatus
from typing import Self

import httpx2
import msgspec
import trio

from ._access import fits_header
from ._batch import Missed
from ._event import Event

RETRY_SECONDS = 2.0
"""What is waited before the first attempt to reconnect, until the server says something else."""

SHORTEST_WAIT = 0.5
"""Seconds that are waited at least, whatever the server asks: it might ask for a flood."""

LONGEST_WAIT = 30.0
"""Seconds between two attempts at most, unless the server asks for more."""

MOST_ASKED = 86_400.0
"""Seconds that a server can ask for at most."""

CONNECT_TIMEOUT = 10.0
"""Seconds that it may take until there is a connection, until a request is sent, and to read a refusal."""

MOST_TOLD = 1000
"""Characters of a refusal that are told. It may be any page of any server."""

CLOSE_TIMEOUT = 1.0
"""Seconds that closing a connection may take: over TLS it has something to say."""

_logger = logging.getLogger("vizpipe_trio.client")
_decode_event = msgspec.json.Decoder(Event).decode
_decode_missed = msgspec.json.Decoder(Missed).decode


class EventStreamError(Exception):
    """The server refuses, or is none that has an event stream: to come again would not help.

    Attributes:
        status: The response's HTTP status; 302 where redirects lead nowhere.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def error_text(error: BaseException) -> str:
    """Return what an error says, or what it came from; time-outs say nothing but their name."""
    origin: BaseException | None = error
    # What is wrong with a certificate is said by the last of four errors. A cancellation's words are Trio's own.
    while isinstance(origin, Exception):
        if text := str(origin):
            return text
        origin = origin.__cause__ or origin.__context__
    return type(error).__name__


class Connections:
    """One connection after the other, and the patience between them."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        url: httpx2.URL,
        headers: dict[str, str],
        timeout: httpx2.Timeout,
        *,
        reconnect: bool,
    ) -> None:
        self.opened = 0
        self._client = client
        self._url = url
        self._headers = headers
        self._timeout = timeout
        self._reconnect = reconnect
        self._retry = RETRY_SECONDS
        self._trouble = ""
        self._stack = AsyncExitStack()
        self._messages: AsyncIterator[httpx2.ServerSentEvent] | None = None

    async def connect(self, last_event_id: str) -> bool:
        """Connect, sooner or later; return False when there is nothing to come back for."""
        if self.opened and not self._reconnect:
            return False
        failures = 0
        while True:
            if failures or self.opened:
                wait = min(self._retry * 2**failures, max(LONGEST_WAIT, self._retry))
                wait *= random.uniform(1, 1.5)  # noqa: S311 - no cryptography
                at = time.strftime("%H:%M:%S", time.localtime(time.time() + wait))
                _logger.info("not connected, the next attempt is at %s%s", at, self._trouble)
                await trio.sleep(wait)
            try:
                await self._request(last_event_id)
            except (httpx2.TooManyRedirects, httpx2.UnsupportedProtocol, UnicodeError) as error:
                # The last is the resolver's, for a host with an empty or a too long label.
                raise EventStreamError(f"no event stream: 302 {error}", HTTPStatus.FOUND) from error
            except httpx2.RequestError as error:
                if not self._reconnect or isinstance(error, httpx2.LocalProtocolError):
                    raise
                self._trouble = f": {error_text(error)}"
            else:
                self.opened += 1
                self._trouble = ""
                return True
            await self.disconnect()
            failures = min(failures + 1, 10)

    async def _request(self, last_event_id: str) -> None:
        headers = {**self._headers, **({"Last-Event-ID": last_event_id} if last_event_id else {})}
        source = await self._stack.enter_async_context(
            self._client.sse(self._url, headers=headers, timeout=self._timeout, follow_redirects=True)
        )
        response = source.response
        if response.status_code in {429, 502, 503, 504}:
            asked = response.headers.get("Retry-After", "")
            if asked.isascii() and asked.isdigit():
                self._wait_as_asked(float(asked) * 1000)
            raise httpx2.SSEError(f"the server says {response.status_code}", request=response.request)
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status_code != HTTPStatus.OK or content_type != "text/event-stream":
            text = await _beginning(response)
            raise EventStreamError(f"no event stream: {response.status_code} {text}", response.status_code)
        self._messages = aiter(source)

    def _wait_as_asked(self, milliseconds: float) -> None:
        self._retry = min(max(milliseconds, SHORTEST_WAIT * 1000), MOST_ASKED * 1000) / 1000

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Event | Missed, str]:
        """Return what comes next, and its ID if it has one."""
        while self._messages is not None:
            try:
                message = await anext(self._messages)
            except httpx2.RequestError as error:
                if not self._reconnect:
                    raise
                self._trouble = f": {error_text(error)}"
                break
            if message.retry is not None:
                self._wait_as_asked(message.retry)
            if message.data and message.event in {"message", "missed"}:
                return _decoded(message)
        raise StopAsyncIteration

    async def disconnect(self) -> None:
        """Close the connection."""
        messages, self._messages = self._messages, None
        try:
            if messages is not None:
                # It is made of generators within generators. Closing the outermost leaves the others
                # to the garbage collector, of which Trio warns; a cancellation goes through them all.
                with trio.CancelScope() as scope:
                    scope.cancel()
                    async for _ in messages:
                        pass
        finally:
            await self._stack.aclose()


async def _beginning(response: httpx2.Response) -> str:
    """Return the first words of a page that may be endless, or hang, or break."""
    text = ""
    # Left by a cancellation and no break: it is made of generators within generators.
    with trio.move_on_after(CONNECT_TIMEOUT) as scope, suppress(httpx2.RequestError):
        async for part in response.aiter_text():
            text += part
            if len(text) >= MOST_TOLD:
                scope.cancel()
    return text[:MOST_TOLD]


def _decoded(message: httpx2.ServerSentEvent) -> tuple[Event | Missed, str]:
    if message.id and not fits_header(message.id):  # it could not be given back
        raise EventStreamError(f"this is none of our IDs: {message.id[:200]!r}", 200)
    try:
        if message.event == "missed":
            return _decode_missed(message.data), ""
        return _decode_event(message.data), message.id
    except msgspec.DecodeError as error:
        raise EventStreamError(f"this is none of our events: {error}: {message.data[:200]}", 200) from error
