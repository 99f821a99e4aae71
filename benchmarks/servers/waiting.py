"""Streams that do nothing but wait, for what a viewer's memory would be without us.

Argument: ``hypercorn``, a bare ASGI app, or ``quart``, a Quart-Trio stream.
"""

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import trio
from quart_trio import QuartTrio

from . import EVENTS, Emission
from .on_trio import add_control, add_stream, serve

_WELCOME = b": welcome\n\n"


def quart_app() -> QuartTrio:
    app = QuartTrio(__name__)

    async def stream() -> AsyncGenerator[bytes]:
        yield _WELCOME
        await trio.sleep_forever()

    add_stream(app, stream)
    add_control(app, Emission(), lambda number: None)
    return app


async def bare_app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    streams = scope["path"] == EVENTS
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": _WELCOME if streams else b"{}", "more_body": streams})
    if streams:
        await receive()
        await receive()  # the client has gone


def main() -> None:
    serve(quart_app() if sys.argv[1] == "quart" else bare_app)


if __name__ == "__main__":
    main()
