"""What strangers can do to Hypercorn itself, with or without this package: SECURITY.md warns of it.

When one of these fails, a new release has mended it.
"""

import logging
from functools import partial

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio
from support import connect


@pytest.mark.parametrize(
    "headers",
    [
        b"Upgrade: h2c\r\nHTTP2-Settings: A",
        b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Extensions: \xff",
    ],
    ids=["HTTP2-Settings that are no Base64", "a WebSocket extension that is no ASCII"],
)
async def test_one_request_ends_the_whole_server(headers: bytes) -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger("hypercorn")
    app = QuartTrio("bare")
    with trio.fail_after(30), pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012 - the server in it
        async with trio.open_nursery() as nursery:
            server = partial(hypercorn.trio.serve, app, config)  # pyright: ignore[reportUnknownMemberType]
            [address] = await nursery.start(server)
            async with connect(address) as stranger:
                await stranger.stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % headers)
                await trio.sleep_forever()
    assert caught.group_contains(ValueError)  # what Base64 and ASCII raise, and nobody caught
