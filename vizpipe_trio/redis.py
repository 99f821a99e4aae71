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
from contextlib import suppress
from functools import partial
from typing import cast

import trio

try:
    from ._link import check_url, open_link
except ImportError as _missing:
    raise ImportError("vizpipe_trio.redis needs coredis: pip install 'vizpipe-trio[redis]'") from _missing

from ._pipe import Pipe
from ._receiver import Receiver
from ._sender import Sender
from ._statistics import RelayStatistics

__all__ = ["RedisRelay", "RelayStatistics"]

START_SECONDS = 3.0
"""How long `RedisRelay.run` waits for the server before it says that it has started."""

END_SECONDS = 1.0
"""How long the relay goes on sending once its pipe has ended."""

NOT_STARTED = "not started"
"""The first fault of each run."""

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0
"""Seconds between two tries to reach the server: twice as many each time, from the first to the
longest, unless a connection has held for longer than that."""


class RedisRelay:
    """Brings a pipe's events to other workers, and theirs to this pipe.

    Make it before the pipe runs; run it as you run the pipe. All workers that share a server,
    a database and a key see each other's events. A pipe has one relay at most.

    Whoever can write to the key can show events to all viewers: give the server a password.

    Args:
        pipe: The pipe.
        url: The server: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user, password
            and database (also as ``?db=1``), and ``?client_name=``. One server: Cluster and
            Sentinel are refused.
        key: The stream's key; another one for each application that shares a server.
        username: Goes before the one in the URL.
        password: Goes before the one in the URL.
        ssl_context: For ``rediss://`` only. By default the system's certificates, and the server's
            name is checked.
        capacity: How many events may wait for the server, at least 1; past it they are lost
            for other workers. The default holds ten seconds at 1000 events a second.
        stream_length: How many messages the server keeps, at least 1, each up to 128 KiB: what
            a worker that was away can still get. It keeps a few more, and 16 at least.
        flush_interval: Seconds to wait between two messages, so that one carries many events.
            The first event after a pause goes at once. Half of it between two reads.
        logger: Where it is said that the server is gone or back. By default ``vizpipe_trio``.

    Raises:
        ValueError: The URL is of something that cannot be used, or without TLS though an ``ssl_context``
            is given, or a number is too small.
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
        is_tls = url.startswith(("rediss:", "valkeys:"))
        if ssl_context is not None and not is_tls:
            raise ValueError(
                "ssl_context is for rediss://: with this URL the connection would be in the clear"
            )
        if is_tls and ssl_context is None:
            # Now, since that takes 20 ms. coredis' own would not look at the server's name.
            ssl_context = ssl.create_default_context()
        if capacity < 1 or stream_length < 1:
            raise ValueError(
                f"capacity and stream_length must be at least 1, not {capacity}, {stream_length}"
            )
        if not 0 <= flush_interval < 60:  # noqa: PLR2004 - a minute is no live picture any more
            raise ValueError(f"flush_interval must be 0 to 60 seconds, not {flush_interval}")
        self._junction = pipe._join(capacity)
        run = pipe._log.run
        self._logger = logger or logging.getLogger("vizpipe_trio")
        self._open_link = partial(
            open_link, url, key, stream_length, username=username, password=password, ssl_context=ssl_context
        )
        self._sender = Sender(self._junction, run, flush_interval)
        self._receiver = Receiver(self._junction, run, flush_interval / 2, self._sender.answer)
        self._running = False
        self._connections = 0
        self._fault = NOT_STARTED
        self._up = trio.Event()
        self._junction.report = self.statistics

    def statistics(self) -> RelayStatistics:
        """Return a snapshot of the account; no checkpoint. In Trio's thread."""
        outbox, receiver, origins = self._junction.outbox, self._receiver, self._receiver.origins
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
            unknown_in=self._junction.unknown,
            malformed=receiver.malformed,
            other_version=receiver.other_version,
            workers=len(origins),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay events until the pipe ends. Start it in a nursery of yours.

        It has started when the server has answered, and the latest events of other workers are
        in the pipe's history; or after three seconds without that: then it goes on trying, for
        as long as it runs, with pauses of up to five seconds. What the pipe broadcasts in the
        meantime waits, and is lost for others past ``capacity``. Nothing that the server does
        or does not do is raised here: it is logged once, and stands in the statistics.

        When the pipe ends it sends what waits, for a second at most, and returns. What it could
        not send is lost for others, and logged. When it is
        cancelled it says nothing; but if that comes while it connects, coredis writes
        "Connection attempt failed unexpectedly!" to its own logger.

        Raises:
            RuntimeError: The relay is already running.
        """
        if self._running:
            raise RuntimeError("this relay is already running: start run() once")
        self._running = True
        self._fault = NOT_STARTED
        self._junction.attend()
        self._up = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_connected)
                with trio.move_on_after(START_SECONDS):
                    await self._up.wait()
                task_status.started()
            self._give_up()
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
                    self._note_fault(_cause(group) or group)
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

    def _give_up(self) -> None:
        """Count as lost what could not be sent before the end: nobody is left to tell others of it."""
        if rest := self._junction.outbox.discard():
            self._say(logging.WARNING, f"the relay has ended, and {rest} events are lost for other workers")

    def _note_fault(self, error: BaseException) -> None:
        fault = f"{type(error).__name__}: {error}"
        # A system's error says it all itself, and coredis has it in the cause.
        if not isinstance(error, OSError) and (reason := str(_cause(error.__cause__) or "")):
            fault += f" ({reason})"
        if self._fault in {"", NOT_STARTED}:
            self._say(logging.WARNING, f"the relay is not connected, and tries again: {fault}")
        self._fault = fault

    def _say(self, level: int, message: str) -> None:
        with suppress(Exception):  # whatever handlers the logger has
            self._logger.log(level, "%s", message)

    async def _connect(self) -> None:
        """Relay over one link until it fails, or the pipe has ended."""
        async with self._open_link() as link:
            await self._receiver.catch_up(link, self._up.set)
            hello = await self._sender.say_hello(link, self._receiver.read_to)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receiver.run, link, hello)
                await self._receiver.has_read.wait()
                self._note_connected()
                await self._settle()
                await self._sender.run(link)
                nursery.cancel_scope.cancel()

    def _note_connected(self) -> None:
        self._connections += 1
        if self._connections > 1 or self._fault != NOT_STARTED:
            self._say(logging.INFO, "the relay is connected")
        self._fault = ""
        self._up.set()

    async def _settle(self) -> None:
        """Find out what became of events that an earlier link failed to confirm.

        What the server has comes back. The rest may be sent again if nobody can have read it. But where
        a server has lost something, it may be what some worker has read already: a viewer that
        changes workers would see it twice.
        """
        receiver, outbox = self._receiver, self._junction.outbox
        if outbox.is_unconfirmed:
            await receiver.is_level.wait()
            if receiver.is_whole:
                outbox.retract()
            else:
                outbox.abandon()
        receiver.is_whole = True


def _cause(error: BaseException | None) -> BaseException | None:
    """Return what an exception group is about."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error
