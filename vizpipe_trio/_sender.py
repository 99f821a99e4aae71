"""The relay's way out: sends what the pipe broadcasts, and where this worker stands."""

import trio
from coredis.exceptions import ResponseError

from ._envelope import MAX_EVENTS, MAX_PAYLOAD, Envelope
from ._junction import Junction
from ._link import Link
from ._outbox import Load
from ._sight import Spot

MESSAGES_A_WRITE = 4
"""Messages that are sent before the server has confirmed the first of them, at most: half a MB. On a
busy machine an answer can take a message's worth of time and more."""

KEEP_SECONDS = 15.0
"""How long the connection is idle at most. Servers and networks close, or forget, one that is idle for minutes."""


class Sender:
    """What a worker has told others, over one link after the other.

    Args:
        junction: Where the pipe is joined.
        run: The run part of the pipe's IDs.
        flush_interval: Seconds to wait between two messages.
    """

    def __init__(self, junction: Junction, run: bytes, flush_interval: float) -> None:
        self._junction = junction
        self._run = run
        self._flush_interval = flush_interval
        self._told = Load(0, 0, [])  # where others were told that this worker stands
        self._is_asked = False

    def answer(self) -> None:
        """Say soon where this worker stands."""
        self._is_asked = True
        self._junction.nudge()

    async def say_hello(self, link: Link, after: Spot) -> Spot:
        """Say that this worker is there, and return where in the stream it was said.

        Raises:
            RuntimeError: Not after what was read last: the server has lost something, and its clock is
                behind. What it is given now nobody would read, so the stream has begun anew.
        """
        self._is_asked = False
        self._told = stand = self._junction.outbox.stand
        message = self._written(stand, hello=True)
        spot = await link.append(message)
        if spot <= after:
            await link.begin_anew(message)
            raise RuntimeError("the server has lost a part of the stream, and its clock is behind")
        return spot

    async def run(self, link: Link) -> None:
        """Send what the pipe broadcasts until it has ended, and all is sent."""
        outbox = self._junction.outbox
        while True:
            bell = self._junction.bell()
            if outbox.queued or self._is_asked or self._told != outbox.stand:
                await self._tell(link)
            elif self._junction.ended.is_set():
                return
            else:
                with trio.move_on_after(KEEP_SECONDS) as waiting:
                    await bell.wait()
                if waiting.cancelled_caught:
                    await link.keep()
                continue
            if outbox.queued <= MAX_EVENTS:
                with trio.move_on_after(self._flush_interval):
                    await self._junction.ended.wait()

    async def _tell(self, link: Link) -> None:
        """Send what waits, as much as fits some messages, or only where this worker stands."""
        outbox = self._junction.outbox
        loads = self._next_loads()
        messages = [self._written(load) for load in loads]
        first, dropped, events = loads[-1]
        end = first + len(events)
        self._is_asked = False
        outbox.under_way = end - 1
        try:
            if len(messages) == 1:
                await link.append(messages[0])
            else:
                await link.append_all(messages)
        except ResponseError:
            outbox.retract()
            raise
        outbox.confirm(end - 1)
        self._told = Load(end, dropped, [])

    def _written(self, load: Load, *, hello: bool = False) -> dict[str, bytes]:
        first, dropped, events = load
        return Envelope(self._run, first, dropped, len(events), hello=hello, data=events).encode()

    def _next_loads(self) -> list[Load]:
        outbox = self._junction.outbox
        loads = [outbox.peek(MAX_EVENTS, MAX_PAYLOAD)]
        taken = len(loads[0].events)
        while taken < outbox.queued and len(loads) < MESSAGES_A_WRITE:
            loads.append(outbox.peek(MAX_EVENTS, MAX_PAYLOAD, taken))
            taken += len(loads[-1].events)
        return loads
