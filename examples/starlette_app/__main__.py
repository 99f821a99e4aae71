"""Every request of a Starlette app in a live stream and in Prometheus's format.

Start ``python -m examples.starlette_app``, then ``vizpipe tail --token sesame http://127.0.0.1:8002`` in another
terminal, and ask for ``/greet/world``, ``/greet/nobody`` and ``/metrics`` in a third. Ctrl-C ends it.
"""

import secrets
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from hypercorn.config import Config
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from vizpipe_trio import Pipe, current_recording
from vizpipe_trio.asgi import EventStream, EventStreamResponse, RecordRequests
from vizpipe_trio.hypercorn import serve
from vizpipe_trio.prometheus import PipeCollector

MOST_VIEWERS = 100


def create_app(pipe: Pipe, token: str) -> RecordRequests:
    """Return the app, recorded. It runs the pipe."""
    registry = CollectorRegistry()
    registry.register(PipeCollector(pipe))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            yield
            pipe.stop()

    async def greet(request: Request) -> Response:
        recording = current_recording()
        name: str = request.path_params["name"]
        with recording.stage("look up") as stage:
            await trio.sleep(0.002)
            stage.hit = True
        if name == "nobody":
            raise HTTPException(403, "nobody is not greeted")
        return PlainTextResponse(f"Hello, {name}!\n")

    async def events(request: Request) -> EventStreamResponse:  # noqa: ASYNC124 - else Starlette takes a thread
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "a token is needed", {"WWW-Authenticate": "Bearer"})
        if pipe.statistics().clients >= MOST_VIEWERS:
            raise HTTPException(503, "all places are taken", {"Retry-After": "5"})
        return EventStreamResponse(EventStream(pipe, last_event_id=request.headers.get("Last-Event-ID", "")))

    async def metrics(_: Request) -> Response:  # noqa: ASYNC124 - as above
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    routes = [
        Route("/greet/{name}", greet),
        Route("/api/viz/events", events),
        Route("/metrics", metrics),
    ]
    return RecordRequests(
        Starlette(routes=routes, lifespan=lifespan), pipe, source="greeter", skip=["/metrics"]
    )


async def main(port: int) -> None:
    """Serve until Ctrl-C."""
    pipe, config = Pipe(), Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(serve, create_app(pipe, "sesame"), config, pipe)
        print(f"Listening on {address}", flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 8002)
