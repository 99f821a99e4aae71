"""Watch a pipe from another program on Trio::

    async with open_events("http://127.0.0.1:8000", token=token) as events:
        async for event in events:
            print(event)

Needs the extra ``client``: ``pip install 'vizpipe-trio[client]'``.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Self

import trio

try:
    import httpx2
except ImportError as _missing:
    raise ImportError("vizpipe_trio.client needs httpx2: pip install 'vizpipe-trio[client]'") from _missing

from ._access import fits_header
from ._batch import Missed
from ._connections import CLOSE_TIMEOUT, CONNECT_TIMEOUT, Connections, EventStreamError
from ._event import Event

__all__ = ["EventReader", "EventStreamError", "Missed", "open_events"]

READ_AHEAD = 64
"""Events that are read before they are asked for: a task switch for each would cost more than it."""

STREAM_PATH = "/api/viz/events"

PAGE_PARAMETERS = ("text", "window")
"""What the dashboard keeps in its address beside filters. They are nothing to the stream, which would refuse them."""


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
        source = Connections(
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
        with suppress(trio.EndOfChannel):
            given, self.last_event_id = await self._receive.receive()
            return given
        # Out here it keeps its own cause, which says what was wrong with a certificate.
        raise self._error or StopAsyncIteration


async def _read(
    source: Connections, events: EventReader, send: trio.MemorySendChannel[tuple[Event | Missed, str]]
) -> None:
    """Read to the end, or for ever, and leave an error to who iterates."""
    last_event_id = events.last_event_id
    with send:
        try:
            while await source.connect(last_event_id):
                # Without an ID the server cannot know what this client has not seen.
                if source.opened > 1 and not last_event_id:
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


def stream_url(url: str, filters: Mapping[str, str | Iterable[str]]) -> httpx2.URL:
    """Return the stream's address for any of those that `open_events` takes."""
    stream = httpx2.URL(url)
    if stream.scheme not in {"http", "https"} or not stream.host:
        raise ValueError("url must begin with http:// or https:// and a host")
    stream.raw_host.decode("ascii").encode("idna")  # as the resolver will, whose error would end the block
    path = stream.path.rstrip("/")
    if not path or path.endswith("/viz"):
        stream = stream.copy_with(path=path.removesuffix("/viz") + STREAM_PATH)
        for name in PAGE_PARAMETERS:
            stream = stream.copy_remove_param(name)
    for name, values in filters.items():
        for value in [values] if isinstance(values, str) else values:
            stream = stream.copy_add_param(name, value)
    return stream
