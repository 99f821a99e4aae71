"""Quart-Trio cancels its own last send, so Hypercorn cannot close the connection, nor reuse it.

Hypercorn says ``http.disconnect`` while it is still busy ending the response; Quart-Trio then cancels the
task that waits for that. Exits with 0 once it is mended.
"""

import logging
import sys
from functools import partial

import hypercorn.trio
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio

app = QuartTrio(__name__)


@app.get("/")
async def index():  # noqa: ASYNC124
    return "hello"


async def main():
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    config.errorlog = logging.getLogger("hypercorn")
    shutdown, closed = trio.Event(), False
    async with trio.open_nursery() as nursery:
        server = partial(hypercorn.trio.serve, app, config, shutdown_trigger=shutdown.wait)
        [address] = await nursery.start(server)
        async with await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2])) as client:
            await client.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            with trio.move_on_after(5):
                while await client.receive_some():
                    pass
                closed = True
        shutdown.set()
    print(f"the connection was closed, as the request had asked: {closed}")
    return closed


sys.exit(0 if trio.run(main) else 1)
