"""A viewer's event stream as an async iterator of bytes, for any server on Trio."""

import math
from collections.abc import Iterator
from itertools import chain
from types import TracebackType
from typing import Self

import trio

from ._batch import EventFilter
from ._mailbox import Mailbox
from ._pipe import Pipe
from ._sse import missed_frame, preamble

RETRY_MS = 2000
"""What a client waits before it reconnects, in milliseconds."""

_BEGINNING = preamble(RETRY_MS)

PRIVATE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",  # nor may another site's page embed it
}

JSON_HEADERS = {**PRIVATE_HEADERS, "Content-Type": "application/json", "Cache-Control": "no-store"}

STREAM_HEADERS = {
    **PRIVATE_HEADERS,
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

DRAIN_SECONDS = 0.5
"""How long a stream goes on writing what is queued once its pipe has ended. A client
that keeps up needs a small part of it; the others must not hold up the exit."""

LAST_WORDS_SECONDS = 1.0
"""How long the server may take to end a response, once it has told the app that it is over."""


class EventStream:
    """The body of one event stream: enter it, then iterate over its writes.

    The client is subscribed on entry and taken off on exit, both in the task that
    serves it. Iterating gives the preamble at once, then what the history holds for
    ``last_event_id``, then events as they come, with ``missed`` events where there are
    gaps, and a comment when nothing else was sent for a while. It ends when the pipe
    does. Every step is a checkpoint and may be cancelled; no step waits longer than
    ``heartbeat_interval``, or a round of its pipe when that is busy.

    Args:
        pipe: Where the events come from.
        filter: Which of them the client wants; all by default.
        last_event_id: The ID that a returning client saw last; ``""`` for a new one.
        heartbeat_interval: Seconds of silence after which a comment is sent. Proxies
            commonly close a connection that is silent for 30 to 60 seconds.
    """

    def __init__(
        self,
        pipe: Pipe,
        *,
        filter: EventFilter | None = None,  # noqa: A002 - the field's word
        last_event_id: str = "",
        heartbeat_interval: float = 15.0,
    ) -> None:
        self._pipe = pipe
        self._filter = filter
        self._last_event_id = last_event_id
        self._heartbeat_interval = heartbeat_interval
        self._mailbox: Mailbox | None = None
        self._prelude: Iterator[bytes] | None = None
        self._drained_by = math.inf

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C in between would leave a client for ever
    def __enter__(self) -> Self:
        # No checkpoint between these two: each event is in one of them and not in both. And
        # nothing after them that can raise: a `with` that is never entered is never left.
        replay = self._pipe.replay(self._last_event_id, self._filter) if self._last_event_id else ()
        self._mailbox = self._pipe.subscribe(
            self._filter, heartbeat_interval=self._heartbeat_interval, last_event_id=self._last_event_id
        )._mailbox
        self._prelude = chain([_BEGINNING], replay)
        return self

    @trio.lowlevel.enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._mailbox is not None:
            self._mailbox.close()

    def __aiter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> bytes:
        mailbox = self._mailbox
        if mailbox is None:
            raise RuntimeError("enter the stream first: with stream: ...")
        is_late = False
        if mailbox.ended:
            self._drained_by = min(self._drained_by, trio.current_time() + DRAIN_SECONDS)
            is_late = trio.current_time() > self._drained_by
            if is_late:
                mailbox.queue.abandon()
        while self._prelude is not None:
            await trio.lowlevel.checkpoint()
            write = next(self._prelude, None)
            is_lost = bool(write) and is_late and write is not _BEGINNING
            if is_lost or write is None:
                self._prelude = None
            if write:
                return missed_frame("history", None) if is_lost else write
        await mailbox.until_ready()  # and not receive_bytes(): see Mailbox
        try:
            return mailbox.take_bytes(trio.current_time())
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
