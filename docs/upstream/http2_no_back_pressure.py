"""Hypercorn takes all that it is given for an HTTP/2 stream that its client does not read.

`StreamBuffer.pop` lets the app go on whenever the piece that it took was small, also when it took nothing
because the client's window is used up. Exits with 0 once it is mended.
"""

import logging
import resource
import sys
from functools import partial

import h2.config
import h2.connection
import hypercorn.trio
import trio
from hypercorn.config import Config

MEGABYTES = int(sys.argv[1]) if len(sys.argv) > 1 else 20
taken = 0


async def app(scope, receive, send):
    global taken
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(MEGABYTES * 20):
        await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
        taken += 50_000


async def main():
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    config.errorlog = logging.getLogger("hypercorn")
    shutdown, received, held = trio.Event(), 0, 0
    async with trio.open_nursery() as nursery:
        server = partial(hypercorn.trio.serve, app, config, shutdown_trigger=shutdown.wait)
        [address] = await nursery.start(server)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        pseudo = {":method": "GET", ":path": "/", ":scheme": "http", ":authority": "localhost"}
        client.send_headers(1, pseudo.items(), end_stream=True)
        async with await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2])) as stream:
            with trio.move_on_after(5):
                while True:
                    await stream.send_all(client.data_to_send())
                    for event in client.receive_data(await stream.receive_some()):
                        received += len(getattr(event, "data", b""))  # and no WINDOW_UPDATE
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            held = taken - received
        shutdown.set()
    print(
        f"the client took {received:,} bytes; the server holds {held:,} for it, and grew by {grown / 1024:.1f} MiB"
    )
    return held < 1_000_000


sys.exit(0 if trio.run(main) else 1)
