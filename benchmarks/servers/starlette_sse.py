"""sse-starlette on uvicorn with uvloop and httptools: a queue for each client.

It follows the project's own ``examples/02_broadcasting.py`` (and its README: "Always check
``await request.is_disconnected()`` in loops"): one `ServerSentEvent` is made for all, put into
each client's bounded queue, and taken from there by an iterator that `EventSourceResponse`
reads. Two things differ, so that an overloaded server can be measured at all: a client whose
queue is full misses the event, where the example throws the client out, and the queue
holds as many events as our own pipe's, not 100.

Argument ``lean``: leave out the check before each event, against the README's advice. It is a
large part of what an event costs there, so the results show both.
"""

import asyncio
import socket
import sys
from datetime import UTC, datetime

import msgspec
import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from benchmarks.events import COUNT, make_templates, request_id
from benchmarks.pace import TICK, Pace

from . import BACKLOG, EVENTS, Emission, announce

CAPACITY = 1024
Queue = asyncio.Queue[ServerSentEvent]


class Stream:
    """One client's events, as in the example."""

    def __init__(self, request: Request, queues: set[Queue], *, checks: bool) -> None:
        self._request = request
        self._queue = Queue(CAPACITY)
        self._queues = queues
        self._checks = checks

    def __aiter__(self) -> "Stream":
        self._queues.add(self._queue)
        return self

    async def __anext__(self) -> ServerSentEvent:
        try:
            if self._checks and await self._request.is_disconnected():
                raise StopAsyncIteration  # noqa: TRY301 - as in the example
            return await self._queue.get()
        except BaseException:
            self._queues.discard(self._queue)
            raise


class Broadcaster:
    """The clients' queues, and what is put into them."""

    def __init__(self, *, checks: bool) -> None:
        self._checks = checks
        self._templates = make_templates()
        self._queues: set[Queue] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._emission = Emission()
        self._missed = 0

    def broadcast(self, number: int) -> None:
        """Send the event of a number to every client."""
        event = {
            "ts": datetime.now(UTC),
            "request_id": request_id(number),
            **self._templates[number % COUNT],
        }
        message = ServerSentEvent(data=msgspec.json.encode(event).decode())
        for queue in self._queues:
            try:
                queue.put_nowait(message)
            except asyncio.QueueFull:
                self._missed += 1

    async def events(self, request: Request) -> Response:
        """Answer with the event stream."""
        return EventSourceResponse(Stream(request, self._queues, checks=self._checks))

    async def start(self, request: Request) -> Response:
        """Begin to emit."""
        pace = Pace(float(request.query_params["rate"]), float(request.query_params["seconds"]))
        self._emission.running += 1
        task = asyncio.create_task(self._run(pace))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return JSONResponse({})

    async def counts(self, _: Request) -> Response:
        """Answer with what was emitted."""
        return JSONResponse(self._emission.counts(missed=self._missed))

    async def _run(self, pace: Pace) -> None:
        while (due := pace.due()) is not None:
            for _ in range(due):
                self.broadcast(self._emission.next_number())
            await asyncio.sleep(TICK)
        self._emission.running -= 1


async def ping(_: Request) -> Response:  # noqa: ASYNC124 - the framework's interface
    return PlainTextResponse("pong")


def main() -> None:
    broadcaster = Broadcaster(checks="lean" not in sys.argv)
    app = Starlette(
        routes=[
            Route("/ping", ping),
            Route("/start", broadcaster.start),
            Route("/counts", broadcaster.counts),
            Route(EVENTS, broadcaster.events),
        ]
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    announce(listener.getsockname()[1])
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="warning", backlog=BACKLOG
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
