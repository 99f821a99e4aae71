"""What the servers on Quart-Trio share: the benchmark's own routes, and Hypercorn."""

import gc
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

import hypercorn.trio
import trio
from hypercorn.config import Config
from quart import Response, request
from quart_trio import QuartTrio

from benchmarks.pace import TICK, Pace

from . import BACKLOG, EVENTS, Emission, announce


def add_control(
    app: QuartTrio,
    emission: Emission,
    emit: Callable[[int], None],
    counts: Callable[[], dict[str, Any]] = dict,
) -> None:
    """Give an app the routes that every server here has; ``emit`` sends the event of a number."""
    full_collections = _watch_collections()

    @app.get("/ping")
    async def ping() -> str:  # noqa: ASYNC124 - the framework's interface
        return "pong"

    @app.get("/start")
    async def start() -> dict[str, Any]:  # noqa: ASYNC124 - the framework's interface
        emission.running += 1
        app.nursery.start_soon(run, Pace(float(request.args["rate"]), float(request.args["seconds"])))
        return {}

    @app.get("/counts")
    async def report() -> dict[str, Any]:  # noqa: ASYNC124 - the framework's interface
        return emission.counts(full_collections=full_collections, **counts())

    async def run(pace: Pace) -> None:
        while (due := pace.due()) is not None:
            for _ in range(due):
                emit(emission.next_number())
            await trio.sleep(TICK)
        emission.running -= 1


def add_stream(app: QuartTrio, stream: Callable[[], AsyncGenerator[bytes]]) -> None:
    """Give an app an event stream as Quart's how-to "Server Sent Events" shows it."""

    @app.get(EVENTS)
    async def events() -> Response:  # noqa: ASYNC124 - the framework's interface
        response = Response(stream(), content_type="text/event-stream")
        response.timeout = None
        return response


def _watch_collections() -> list[tuple[int, int]]:
    """Return a list of when each full garbage collection began and ended, which goes on growing.

    In nanoseconds of CLOCK_MONOTONIC. The whole process stands still meanwhile.
    """
    collections: list[tuple[int, int]] = []
    began = 0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if info["generation"] == 2:  # noqa: PLR2004 - the oldest, and with it all
            if phase == "start":
                began = time.monotonic_ns()
            else:
                collections.append((began, time.monotonic_ns()))

    gc.callbacks.append(note)
    return collections


async def _serve(app: Any) -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.backlog = BACKLOG
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(hypercorn.trio.serve, app, config))
        announce(int(addresses[0].rpartition(":")[2]))


def serve(app: Any) -> None:
    """Serve an ASGI app by Hypercorn, on Trio, until the process is ended."""
    trio.run(_serve, app)
