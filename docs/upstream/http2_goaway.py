"""One request too many on an HTTP/2 connection, and its other responses are lost without a word.

After ``keep_alive_max_requests`` (1000) Hypercorn has h2 close the connection, in whose books nothing can be sent
on it from then on. What the app sends is thrown away; it hears of no disconnect; the client, told that its open
streams will be served, waits. Exits with 0 once it is mended.
"""

import logging
import sys
from functools import partial

import h2.config
import h2.connection
import h2.events
import hypercorn.trio
import trio
from hypercorn.config import Config

go_on = trio.Event()
sent = disconnected = False


async def app(scope, receive, send):
    global sent, disconnected
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/slow":
        await send({"type": "http.response.body", "body": b"beginning, ", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"end", "more_body": True})
        sent = True
        await receive()  # the request's empty body
        with trio.move_on_after(1):
            disconnected = (await receive())["type"] == "http.disconnect"
    await send({"type": "http.response.body", "body": b""})


async def main():
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    config.errorlog = logging.getLogger("hypercorn")
    config.keep_alive_max_requests = 3
    shutdown, body, answered, last = trio.Event(), b"", 0, None
    async with trio.open_nursery() as nursery:
        server = partial(hypercorn.trio.serve, app, config, shutdown_trigger=shutdown.wait)
        [address] = await nursery.start(server)
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        async with await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2])) as stream:

            async def get(path):
                pseudo = {":method": "GET", ":path": path, ":scheme": "http", ":authority": "localhost"}
                client.send_headers(client.get_next_available_stream_id(), pseudo.items(), end_stream=True)
                await stream.send_all(client.data_to_send())

            for path in ("/slow", "/", "/", "/"):
                await get(path)
            with trio.move_on_after(5):
                while data := await stream.receive_some():
                    for event in client.receive_data(data):
                        answered += isinstance(event, h2.events.ResponseReceived)
                        if isinstance(event, h2.events.DataReceived) and event.stream_id == 1:
                            body += event.data
                        if isinstance(event, h2.events.ConnectionTerminated):
                            last = event.last_stream_id
                    await stream.send_all(client.data_to_send())
                    if last is not None or answered == 4:
                        go_on.set()
        shutdown.set()
    print(
        f"the client was promised the streams up to {last}, got {answered} of 4 answers, and stream 1 brought {body}"
    )
    print(f"the app could send the end: {sent}; was told of a disconnect: {disconnected}")
    return body == b"beginning, end" and answered == 4


sys.exit(0 if trio.run(main) else 1)
