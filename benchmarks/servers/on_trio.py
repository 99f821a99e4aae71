"""What the servers on Quart-Trio share: the benchmark's own routes, and Hypercorn."""

from collections.abc import Callable
from functools import partial
from typing import Any

import hypercorn.trio
import trio
from hypercorn.config import Config
from quart import request
from quart_trio import QuartTrio

from benchmarks.pace import TICK, Pace

from . import BACKLOG, Emission, announce


def add_control(
    app: QuartTrio,
    emission: Emission,
    emit: Callable[[int], None],
    counts: Callable[[], dict[str, Any]] = dict,
) -> None:
    """Give an app the routes that every server here has; ``emit`` sends the event of a number."""

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
        return emission.counts(**counts())

    async def run(pace: Pace) -> None:
        while (due := pace.due()) is not None:
            for _ in range(due):
                emit(emission.next_number())
            await trio.sleep(TICK)
        emission.running -= 1


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
