"""One bad request ends the whole server: what is raised while a connection is read goes up to the server's nursery.

Exits with 0 once it is mended.
"""

import logging
import sys
from functools import partial

import hypercorn.trio
import trio
from hypercorn.config import Config

BAD = {
    "HTTP2-Settings that are no Base64": b"Upgrade: h2c\r\nHTTP2-Settings: A",
    "a WebSocket extension that is no ASCII": (
        b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Extensions: \xff"
    ),
}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


async def survives(headers):
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    config.errorlog = logging.getLogger("hypercorn")
    logging.getLogger("hypercorn").addHandler(logging.NullHandler())
    shutdown, answer = trio.Event(), b""
    try:
        async with trio.open_nursery() as nursery:
            server = partial(hypercorn.trio.serve, app, config, shutdown_trigger=shutdown.wait)
            [address] = await nursery.start(server)
            port = int(address.rpartition(":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stranger:
                await stranger.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n\r\n")
                with trio.move_on_after(5):
                    while await stranger.receive_some():
                        pass
            async with await trio.open_tcp_stream("127.0.0.1", port) as client:
                await client.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await client.receive_some()
            shutdown.set()
    except* (ValueError, OSError) as errors:  # what was raised, and what the next client then met
        print("the server ended:", repr(errors))
    return answer.startswith(b"HTTP/1.1 200")


async def main():
    mended = True
    for name, headers in BAD.items():
        survived = await survives(headers)
        print(f"after {name} it serves the next client: {survived}")
        mended = mended and survived
    return mended


sys.exit(0 if trio.run(main) else 1)
