"""The relay: every worker's viewers see every worker's events, by way of a Redis or Valkey server::

    pipe = Pipe()
    relay = RedisRelay(pipe, "redis://localhost")

    @app.before_serving
    async def start():
        await app.nursery.start(relay.run)
        await app.nursery.start(pipe.run)

Local first: a worker's own events reach its own viewers without a round trip, and go on doing
so when the server is slow, down or refuses. The pipe never waits for the network.

Needs the extra ``redis``: ``pip install 'vizpipe-trio[redis]'``.
"""

import logging
import random
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import cast

import trio

try:
    from coredis.exceptions import ResponseError

    from ._link import Link, check_url, open_link
except ImportError as _missing:
    raise ImportError("vizpipe_trio.redis needs coredis: pip install 'vizpipe-trio[redis]'") from _missing

from ._envelope import MAX_EVENTS, MAX_PAYLOAD, Envelope, UnknownVersionError, decode_envelope
from ._junction import Arrival, Epoch
from ._link import ANSWER_SECONDS, MESSAGES_A_READ, Message
from ._origins import Origins
from ._outbox import Load
from ._pipe import Pipe
from ._sight import NO_EPOCH, START
from ._statistics import RelayStatistics

__all__ = ["RedisRelay", "RelayStatistics"]

START_SECONDS = 3.0
"""How long `RedisRelay.run` waits for the server before it says that it has started."""

END_SECONDS = 1.0
"""How long the relay goes on sending once its pipe has ended."""

NOT_STARTED = "not started"
"""The first fault of all."""

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0
"""Seconds between two tries to reach the server: twice as many each time, from the first to the
longest, unless a connection has held for longer than that."""

SETTLING_SECONDS = 60
"""How long after its start a worker hears for the first time of others that are older."""

MESSAGES_A_WRITE = 4
"""Messages that are sent before the server has confirmed the first of them, at most: half a MB, which
is lost when the connection breaks with it. On a busy machine an answer can take a message's worth of
time and more."""

BACKFILL = 64
"""Messages that a worker which starts takes into its history."""


class RedisRelay:
    """Brings a pipe's events to other workers, and theirs to this pipe.

    Make it before the pipe runs; run it as you run the pipe. All workers that share a server,
    a database and a key see each other's events. A pipe has one relay at most.

    Whoever can write to the key can show events to all viewers: give the server a password.

    Args:
        pipe: The pipe.
        url: The server: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user, password
            and database as coredis reads them. One server: Cluster and Sentinel are refused.
        key: The stream's key; another one for each application that shares a server.
        username: Goes before the one in the URL.
        password: Goes before the one in the URL.
        ssl_context: For ``rediss://``. By default the system's certificates, and the server's
            name is checked.
        capacity: How many events may wait for the server, at least 1; past it they are lost
            for other workers. The default holds ten seconds at 1000 events a second.
        stream_length: How many messages the server keeps, at least 1, each up to 128 KiB: what
            a worker that was away can still get.
        flush_interval: Seconds to wait between two messages, so that one carries many events.
            The first event after a pause goes at once. Half of it between two reads.
        logger: Where it is said that the server is gone or back. By default ``vizpipe_trio``.

    Raises:
        ValueError: The URL is of something that cannot be used, or a number is too small.
        RuntimeError: The pipe has run already, or has a relay.
    """

    def __init__(
        self,
        pipe: Pipe,
        url: str,
        *,
        key: str = "vizpipe",
        username: str | None = None,
        password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        capacity: int = 10_000,
        stream_length: int = 1000,
        flush_interval: float = 1 / 30,
        logger: logging.Logger | None = None,
    ) -> None:
        check_url(url)
        if capacity < 1 or stream_length < 1:
            raise ValueError(
                f"capacity and stream_length must be at least 1, not {capacity}, {stream_length}"
            )
        if not 0 <= flush_interval < 60:  # noqa: PLR2004 - a minute is no live picture any more
            raise ValueError(f"flush_interval must be 0 to 60 seconds, not {flush_interval}")
        self._junction = pipe._join(capacity)
        self._run = pipe._log.run
        self._flush_interval = flush_interval
        self._logger = logger or logging.getLogger("vizpipe_trio")
        self._open_link = partial(
            open_link, url, key, stream_length, username=username, password=password, ssl_context=ssl_context
        )
        self._origins = Origins()
        self._running = False
        self._connections = 0
        self._fault = NOT_STARTED
        self._up = trio.Event()
        self._malformed = self._other_version = 0
        # Where the stream is read from, and in which epoch.
        self._read_to = START
        self._epoch = NO_EPOCH
        self._hello = START  # where in the stream this worker said last that it is there
        self._is_read = trio.Event()  # set when all is read up to there
        self._told = Load(0, 0, [])  # where others were told that this worker stands
        self._is_asked = False
        self._joined = 0  # when the first message came, by the server's clock in milliseconds
        self._junction.report = self.statistics

    def statistics(self) -> RelayStatistics:
        """Return a snapshot of the account; no checkpoint. In Trio's thread."""
        outbox, origins = self._junction.outbox, self._origins
        return RelayStatistics(
            connected=self._running and not self._fault,
            connections=self._connections,
            fault=self._fault,
            offered=outbox.offered,
            sent=outbox.sent,
            lost_out=outbox.lost,
            queued_out=outbox.queued,
            capacity=outbox.capacity,
            received=origins.received,
            relayed=self._junction.relayed,
            duplicates=origins.duplicates,
            failed=self._junction.failed,
            queued_in=self._junction.waiting,
            lost_in=origins.lost,
            malformed=self._malformed,
            other_version=self._other_version,
            workers=len(origins),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay events until the pipe ends. Start it in a nursery of yours.

        It has started when the server has answered, and the latest events of other workers are
        in the pipe's history; or after three seconds without that: then it goes on trying, for
        as long as it runs, with pauses of up to five seconds. What the pipe broadcasts in the
        meantime waits, and is lost for others past ``capacity``. Nothing that the server does
        or does not do is raised here: it is logged once, and stands in the statistics.

        When the pipe ends it sends what waits, for a second at most, and returns. When it is
        cancelled it says nothing; but if that comes while it connects, coredis writes
        "Connection attempt failed unexpectedly!" to its own logger.

        Raises:
            RuntimeError: The relay is already running.
        """
        if self._running:
            raise RuntimeError("this relay is already running: start run() once")
        self._running = True
        self._junction.attend()
        self._up = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_connected)
                with trio.move_on_after(START_SECONDS):
                    await self._up.wait()
                task_status.started()
        finally:
            self._running = False
            self._fault = self._fault or "not running"

    async def _keep_connected(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_with_pipe, nursery.cancel_scope)
            pause = FIRST_BACKOFF
            while True:
                began = trio.current_time()
                try:
                    await self._connect()
                    break
                except* Exception as group:
                    # coredis turns a cancellation while it connects into an error: that is none.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    # Whatever it is: a side channel's fault must not end the host.
                    self._note_fault(_cause(group))
                if trio.current_time() > began + LONGEST_BACKOFF:
                    pause = FIRST_BACKOFF
                # Not all workers at once, when the server comes back.
                await trio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
                pause = min(pause * 2, LONGEST_BACKOFF)
            nursery.cancel_scope.cancel()
        self._up.set()

    async def _end_with_pipe(self, scope: trio.CancelScope) -> None:
        await self._junction.ended.wait()
        await trio.sleep(END_SECONDS)
        scope.cancel()

    def _note_fault(self, error: Exception) -> None:
        fault = f"{type(error).__name__}: {error}"
        if self._fault in {"", NOT_STARTED}:
            self._say(logging.WARNING, f"the relay is not connected, and tries again: {fault}")
        self._fault = fault

    def _say(self, level: int, message: str) -> None:
        with suppress(Exception):  # whatever handlers the logger has
            self._logger.log(level, "%s", message)

    async def _connect(self) -> None:
        """Relay over one link until it fails, or the pipe has ended."""
        async with self._open_link() as link:
            await self._catch_up(link)
            await self._say_hello(link)
            self._connections += 1
            if self._connections > 1 or self._fault != NOT_STARTED:
                self._say(logging.INFO, "the relay is connected")
            self._fault = ""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, link)
                self._up.set()
                await self._send(link)
                nursery.cancel_scope.cancel()

    async def _catch_up(self, link: Link) -> None:
        """Find out where to go on reading; the first time, also what was last."""
        epoch = await link.epoch()
        if epoch == self._epoch:
            return
        first_time = self._epoch == NO_EPOCH
        # What is in a stream that has begun anew is all new; of a strange one, the last part will do.
        past: Sequence[Message] = await link.latest(BACKFILL) if first_time else ()
        floor = past[0][0] if len(past) == BACKFILL else START
        await self._junction.until_room()
        self._epoch = epoch
        self._read_to = floor
        self._junction.push(Epoch(epoch, floor))
        for message in past:
            if not self._junction.has_room:
                self._up.set()  # the pipe, which takes them, is commonly started behind this
            await self._junction.until_room()
            self._hear(message, past=True)

    async def _receive(self, link: Link) -> None:
        while True:
            messages = await link.read(self._read_to)
            for message in messages:
                await self._junction.until_room()
                self._hear(message)
            if len(messages) < MESSAGES_A_READ:
                # A read costs more than a message in it. Those of one worker are further apart.
                await trio.sleep(self._flush_interval / 2)

    def _hear(self, message: Message, *, past: bool = False) -> None:
        """Hand a message to the pipe; no checkpoint between what is noted and what is done."""
        self._read_to = message[0]
        if self._read_to >= self._hello:
            self._is_read.set()
        self._junction.push(self._arrival(message, past=past))

    def _arrival(self, message: Message, *, past: bool) -> Arrival:
        spot, fields = message
        nothing = Arrival(spot=spot, until=spot)
        try:
            envelope = decode_envelope(fields, self._run)
        except UnknownVersionError:
            self._other_version += 1
            return nothing
        except ValueError:
            self._malformed += 1
            return nothing
        if envelope.run == self._run:
            count = envelope.count
            if envelope.first + count - 1 > self._junction.outbox.offered or not envelope.first:
                self._malformed += 1  # not sent by us
                return nothing
            self._junction.outbox.confirm(envelope.first + count - 1)
            return Arrival(spot, spot._replace(offset=count), first=envelope.first, echoed=count)
        if envelope.hello and not past:
            self._is_asked = True
            self._junction.nudge()
        self._joined = self._joined or spot.ms
        is_settling = not envelope.hello and spot.ms < self._joined + SETTLING_SECONDS * 1000
        return self._origins.hear(envelope, spot, is_baseline=past or is_settling)

    async def _send(self, link: Link) -> None:
        """Send what the pipe broadcasts until it has ended, and all is sent."""
        outbox = self._junction.outbox
        if outbox.is_unconfirmed:
            await self._settle()
        while True:
            bell = self._junction.bell()
            if outbox.queued or self._is_asked or self._told != outbox.stand:
                await self._tell(link)
            elif self._junction.ended.is_set():
                return
            else:
                await bell.wait()
                continue
            if outbox.queued <= MAX_EVENTS:
                with trio.move_on_after(self._flush_interval):
                    await self._junction.ended.wait()

    async def _settle(self) -> None:
        """Find out what became of events that an earlier link failed to confirm.

        What the server has comes back. To send the rest again would be wrong where a server has lost
        what some worker has read already: a viewer that changes workers would see it twice.
        """
        with trio.fail_after(ANSWER_SECONDS):
            await self._is_read.wait()
        self._junction.outbox.abandon()

    async def _say_hello(self, link: Link) -> None:
        self._is_asked = False
        self._is_read = trio.Event()
        stand = self._junction.outbox.stand
        self._hello = await link.append(self._written(stand, hello=True))
        self._told = stand

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
            outbox.under_way = 0  # it has none of them, so they can be sent later
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


def _cause(error: Exception) -> Exception:
    """Return what an exception group is about."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error
