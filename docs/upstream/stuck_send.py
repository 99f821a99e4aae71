"""Hypercorn's Trio worker shields every send: a client that stops reading ends neither by a time-out nor at shutdown.

Exits with 0 once it is mended.
"""

import logging
import socket
import sys
from functools import partial

import hypercorn.trio
import trio
from hypercorn.config import Config

GRACE = 0.5
gave_up = False


async def app(scope, receive, send):
    global gave_up
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    with trio.move_on_after(0.5) as limit:
        while True:
            await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
    gave_up = limit.cancelled_caught


async def main():
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = GRACE
    config.errorlog = logging.getLogger("hypercorn")
    shutdown, ended = trio.Event(), False
    async with trio.open_nursery() as nursery:
        server = partial(hypercorn.trio.serve, app, config, shutdown_trigger=shutdown.wait)
        [address] = await nursery.start(server)
        with trio.socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await client.connect(("127.0.0.1", int(address.rpartition(":")[2])))
            await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await trio.sleep(1)  # and never reads
            shutdown.set()
            await trio.sleep(GRACE + 5)
            ended = not nursery.child_tasks
    print(f"the app's own time-out ended its send: {gave_up}; the server ended in time: {ended}")
    return ended


sys.exit(0 if trio.run(main) else 1)
