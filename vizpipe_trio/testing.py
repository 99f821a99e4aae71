"""For tests of code that feeds a pipe or reads from one.

The fixtures are in `vizpipe_trio.pytest_plugin`, which pytest finds by itself::

    async def test_a_search_is_shown(viz_pipe, viz_events):
        await search(viz_pipe, "loops")
        [event] = await wait_for_events(viz_events)
        assert event.subject == "loops"

Needs nothing but the package itself, except for the fixtures: pytest and pytest-trio, which
are the extra ``testing``.
"""

import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec
import trio

from ._event import Event, StageInfo
from ._sse import marshal_sse
from ._stream_check import Message, check_stream
from ._subscription import Subscription

__all__ = ["Message", "RecordingMetric", "check_stream", "make_event", "stalled_client", "wait_for_events"]

LONGEST_HEAD = 16_384
"""Bytes of a response's head at most."""


class RecordingMetric:
    """A `DropMetric` that remembers: give it to a pipe, and look at ``count``.

    Attributes:
        count: Events that the pipe dropped at its entrance.
    """

    def __init__(self) -> None:
        self.count: int = 0

    def inc(self) -> None:
        """Count one event."""
        self.count += 1


def make_event(number: int = 1, **fields: object) -> Event:
    """Return an event that can go on the wire, the same each time, with no field left empty.

    Args:
        number: Tells events apart: the request's ID is ``req-<number>``.
        fields: What is to be otherwise, by `Event`'s names.

    Raises:
        ValueError: With these fields it cannot go on the wire.
        TypeError: There is no such field.
    """
    event = Event(
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        request_id=f"req-{number}",
        source="search",
        subject="how do loops end",
        labels=["eu"],
        result_count=3,
        total_ms=2.5,
        stages=[
            StageInfo(1, "policy", 0.1),
            StageInfo(2, "cache", 0.4),
            StageInfo(3, "lookup", 2.0, hit=True),
        ],
    )
    event = msgspec.structs.replace(event, **fields)
    marshal_sse(event)
    return event


async def wait_for_events(
    subscription: Subscription,
    count: int = 1,
    *,
    where: Callable[[Event], bool] | None = None,
    seconds: float = 5.0,
) -> list[Event]:
    """Return the next events of a subscription, as many as were asked for; a checkpoint.

    Args:
        subscription: Where from. It has to be there before the events are emitted.
        count: How many.
        where: Which events count; others are passed over. All do by default.
        seconds: How long to wait by Trio's clock, so none at all with ``autojump_clock``.

    Raises:
        AssertionError: They did not come, or the pipe ended before. The message has those
            that did come, and what was missed.
    """
    events: list[Event] = []
    passed_over, ended = 0, ""
    with trio.move_on_after(seconds):
        while len(events) < count:
            try:
                event = await anext(subscription)
            except StopAsyncIteration:
                ended = ", and the pipe has ended"
                break
            if where is None or where(event):
                events.append(event)
            else:
                passed_over += 1
    if len(events) < count:
        raise AssertionError(
            f"{len(events)} of {count} events came "
            f"({passed_over} were passed over, {subscription.missed} missed){ended}: {events}"
        )
    await trio.lowlevel.checkpoint()
    return events


@asynccontextmanager
async def stalled_client(
    url: str, *, token: str | None = None, receive_buffer: int = 4096
) -> AsyncGenerator[trio.SocketStream]:
    """Open an event stream, and read no more than its first bytes while in the block.

    Give it a server of your test's own. It gets all that is emitted in the block, and takes
    nothing of it: once what the kernel holds is full, the server has nowhere to go with it.

    Args:
        url: The stream's address, ``http://127.0.0.1:8000/api/viz/events``. Not over TLS.
        token: Sent as a bearer token.
        receive_buffer: Bytes that the kernel is asked to hold at most, on this side (SO_RCVBUF).

    Yields:
        The connection, to read from it after all; HTTP's chunks are still in it.

    Raises:
        AssertionError: The server's answer was no event stream.
    """
    parts = urlsplit(url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    with trio.socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect((parts.hostname, parts.port or 80))
        stream = trio.SocketStream(sock)
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        head = await _read_until(stream, b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise AssertionError(f"this is no event stream: {head!r}")
        # A stream's first bytes say that its client is registered: from there on it gets all events.
        await _read_until(stream, b"\n\n")
        yield stream


async def _read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    """Return what comes up to an end, and leave the rest to the kernel."""
    data = b""
    while not data.endswith(end):
        byte = await stream.receive_some(1)
        if not byte or len(data) > LONGEST_HEAD:
            raise AssertionError(f"this is no event stream: {data!r}")
        data += byte
    return data
