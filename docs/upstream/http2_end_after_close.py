"""Over HTTP/2 the end of a response waits for ever, once its client has closed the connection.

`H2Protocol.handle` tells the streams that the connection is closed, but not their buffers, for one of which
the app's last ``send`` waits; and with it the connection's task. Exits with 0 once it is mended.
"""

import logging
import sys
from functools import partial

import h2.config
import h2.connection
import hypercorn.trio
import trio
from hypercorn.config import Config

closed = trio.Event()
returned = trio.Event()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (await receive())["type"] != "http.disconnect":
        # More than the client has room for, so that its end waits for the client.
        await send({"type": "http.response.body", "body": bytes(100_000)})
        returned.set()


async def main():
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    config.errorlog = logging.getLogger("hypercorn")
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        server = partial(hypercorn.trio.serve, app, config, shutdown_trigger=shutdown.wait)
        [address] = await nursery.start(server)
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        pseudo = {":method": "GET", ":path": "/", ":scheme": "http", ":authority": "localhost"}
        client.send_headers(1, pseudo.items(), end_stream=True)
        async with await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2])) as stream:
            await stream.send_all(client.data_to_send())
            received = 0
            while received < 65_535:
                for event in client.receive_data(await stream.receive_some()):
                    received += len(getattr(event, "data", b""))
                await stream.send_all(client.data_to_send())
        with trio.move_on_after(5):
            await returned.wait()
        mended = returned.is_set()
        shutdown.set()
    print(f"the app's last send returned after the client had closed the connection: {mended}")
    return mended


sys.exit(0 if trio.run(main) else 1)
