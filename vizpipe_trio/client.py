"""Watch a pipe from another program on Trio::

    async with open_events("http://127.0.0.1:8000", token=token) as events:
        async for event in events:
            print(event)

Needs the extra ``client``: ``pip install 'vizpipe-trio[client]'``.
"""

import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Self

import msgspec
import trio

try:
    import httpx2
except ImportError as _missing:
    raise ImportError("vizpipe_trio.client needs httpx2: pip install 'vizpipe-trio[client]'") from _missing

from ._access import fits_header
from ._batch import Missed
from ._event import Event

__all__ = ["EventReader", "EventStreamError", "Missed", "open_events"]

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

READ_AHEAD = 64
"""Events that are read before they are asked for: a task switch for each would cost more than it."""

STREAM_PATH = "/api/viz/events"

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


@asynccontextmanager
async def open_events(
    url: str,
    *,
    token: str | None = None,
    filters: Mapping[str, str | Iterable[str]] | None = None,
    last_event_id: str = "",
    reconnect: bool = True,
    idle_timeout: float = 45.0,
    client: httpx2.AsyncClient | None = None,
) -> AsyncGenerator["EventReader"]:
    """Open an event stream: an async iterator of `Event` and `Missed` objects.

    When the connection is lost, or the server ends, it comes back by itself: after what the server
    asks to wait, then after twice as long each time, up to 30 seconds, and with some chance in it, so that
    clients do not come back all at once. It resumes by ``Last-Event-ID``: each event comes once, in
    order, and what is lost for good comes as `Missed`, in its place. It never gives up on a server
    that cannot be reached: put a time-out round it. What can never work is not tried twice.

    It reads in a nursery of its own, so an exception from the block comes in an exception group.

    Args:
        url: The stream's address, or only the server's: ``/api/viz/events`` is added to an address
            without a path, and put in the place of the dashboard's ``/viz/``, behind a prefix too.
        token: Sent as a bearer token.
        filters: Which events: a value or several for each of ``op``, ``status``, ``source``,
            ``actor_type``, ``label``.
        last_event_id: Where to go on: the ``last_event_id`` of an earlier run.
        reconnect: False lets the iteration end with the stream, and raise what broke it.
        idle_timeout: Seconds of silence after which a connection is taken for dead. A server's
            heartbeats come every 15 seconds by default.
        client: An HTTP client to use, for proxies, certificates, cookies. It stays open.

    Raises:
        ValueError: The address is not one of HTTP, or the token or the ID cannot be sent.
    """
    # Here, and not in the request: that would be tried again and again, and its errors quote the token.
    for name, value in (("token", token), ("last_event_id", last_event_id or None)):
        if value is not None and not fits_header(value):
            raise ValueError(f"{name} must be printable ASCII without spaces or line ends, and not empty")
    async with AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(httpx2.AsyncClient())
        send, receive = trio.open_memory_channel[tuple[Event | Missed, str]](READ_AHEAD)
        stack.enter_context(receive)
        events = EventReader(receive, last_event_id)
        source = _Source(
            client,
            stream_url(url, filters or {}),
            {} if token is None else {"Authorization": f"Bearer {token}"},
            httpx2.Timeout(CONNECT_TIMEOUT, read=idle_timeout),
            reconnect=reconnect,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, source, events, send)
            yield events
            nursery.cancel_scope.cancel()


class EventReader:
    """Made by `open_events`: iterate over it. Each step is a checkpoint; cancelling it loses nothing.

    Iterating raises `EventStreamError` when the server refuses, as for a wrong token or an unknown
    filter; `httpx2.LocalProtocolError` when the request cannot be sent, as with headers of the client's
    that HTTP forbids; and, without ``reconnect``, `httpx2.RequestError` when there is no connection
    or it broke.

    Attributes:
        last_event_id: The ID of the event that was given last.
        connected: Whether there is a connection now.
    """

    def __init__(
        self, receive: trio.MemoryReceiveChannel[tuple[Event | Missed, str]], last_event_id: str
    ) -> None:
        self.last_event_id: str = last_event_id
        self.connected: bool = False
        self._receive = receive
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Missed:
        try:
            given, self.last_event_id = await self._receive.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            raise StopAsyncIteration from None
        return given


async def _read(
    source: "_Source", events: EventReader, send: trio.MemorySendChannel[tuple[Event | Missed, str]]
) -> None:
    """Read to the end, or for ever, and leave an error to who iterates."""
    last_event_id = events.last_event_id
    with send:
        try:
            while await source.connect(last_event_id):
                # Without an ID the server cannot know what this client has not seen.
                if source.connections > 1 and not last_event_id:
                    await send.send((Missed("history", None), ""))
                events.connected = True
                async for given, event_id in source:
                    last_event_id = event_id or last_event_id
                    await send.send((given, last_event_id))
                events.connected = False
                await source.disconnect()
        except (EventStreamError, httpx2.RequestError) as error:
            events._error = error
        finally:
            events.connected = False
            with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await source.disconnect()


class _Source:
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
        self.connections = 0
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
        if self.connections and not self._reconnect:
            return False
        failures = 0
        while True:
            if failures or self.connections:
                wait = min(self._retry * 2**failures, max(LONGEST_WAIT, self._retry))
                wait *= random.uniform(1, 1.5)  # noqa: S311 - no cryptography
                at = time.strftime("%H:%M:%S", time.localtime(time.time() + wait))
                _logger.info("not connected, the next attempt is at %s%s", at, self._trouble)
                await trio.sleep(wait)
            try:
                await self._request(last_event_id)
            except (httpx2.TooManyRedirects, httpx2.UnsupportedProtocol) as error:
                raise EventStreamError(f"no event stream: 302 {error}", HTTPStatus.FOUND) from error
            except httpx2.RequestError as error:
                if not self._reconnect or isinstance(error, httpx2.LocalProtocolError):
                    raise
                self._trouble = f": {error_text(error)}"
            else:
                self.connections += 1
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


def error_text(error: BaseException) -> str:
    """Return what an error says; time-outs say nothing but their name."""
    return str(error) or type(error).__name__


def stream_url(url: str, filters: Mapping[str, str | Iterable[str]]) -> httpx2.URL:
    """Return the stream's address for any of those that `open_events` takes."""
    stream = httpx2.URL(url)
    if stream.scheme not in {"http", "https"} or not stream.host:
        raise ValueError("url must begin with http:// or https:// and a host")
    path = stream.path.rstrip("/")
    if not path or path.endswith("/viz"):
        stream = stream.copy_with(path=path.removesuffix("/viz") + STREAM_PATH)
    for name, values in filters.items():
        for value in [values] if isinstance(values, str) else values:
            stream = stream.copy_add_param(name, value)
    return stream
