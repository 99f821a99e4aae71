"""Bounds on what a stranger, or one viewer, can take, over real sockets."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from quart_trio import QuartTrio
from support import (
    EVENTS,
    PREAMBLE,
    STATS,
    Connection,
    ask,
    connect,
    make_app,
    read_json,
    sequence,
    serve,
    until,
    watch,
)

from vizpipe_trio import Event, Pipe
from vizpipe_trio.quart import viz_blueprint


@pytest.mark.parametrize(
    ("query", "status"),
    [(b"x" * 8193, 414), (b"&" * 60_000, 414), (b"label=x&" * 65, 400)],
    ids=["a byte too long", "as long as Hypercorn takes it", "too many parameters"],
)
async def test_a_query_beyond_bounds_is_refused_before_it_is_parsed(query: bytes, status: int) -> None:
    """So before the token is looked at, which may be in it."""
    async with serve(make_app(Pipe(), token="right")) as url:
        answer, _, body = await ask(url, f"{STATS}?{query.decode()}")
        assert answer == status
        assert body.keys() == {"error"}


async def test_a_head_that_never_ends_is_cut_by_hypercorn() -> None:
    async with serve(make_app(Pipe(), token="right")) as url, connect(url) as client:
        await client.stream.send_all(b"GET %b HTTP/1.1\r\nHost: localhost\r\n" % EVENTS.encode())
        await client.stream.send_all(b"X: y\r\n" * 3000)  # more than 16 KiB, and not complete
        status, _ = await client.head()
        assert status == 431


@pytest.mark.parametrize(
    ("header", "content"),
    [(b"Content-Length: 1", b"x"), (b"Transfer-Encoding: chunked", b"0\r\n\r\n")],
    ids=["of known length", "in chunks"],
)
@pytest.mark.parametrize("path", [EVENTS, STATS])
async def test_a_body_is_refused_since_it_would_be_kept_as_long_as_the_stream(
    path: str, header: bytes, content: bytes
) -> None:
    pipe = Pipe()
    async with serve(make_app(pipe, token="right")) as url, connect(url) as client:
        await client.request(path, b"Authorization: Bearer right", header)
        await client.stream.send_all(content)
        status, _, body = await read_json(client)
        assert status == 413
        assert body == {"error": "send no body"}
        assert pipe.statistics().clients == 0


async def test_an_event_with_a_megabyte_of_label_is_invalid_and_the_next_one_flows() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        assert pipe.emit(Event(labels=["x" * 1_000_000]))
        assert pipe.emit(Event(labels=["x" * 1000]))
        assert b"x" * 1000 in await viewer.frame()
        assert pipe.statistics().invalid == 1


# Places


def app_with(pipe: Pipe, **limits: Any) -> QuartTrio:
    app = QuartTrio("tests")
    app.register_blueprint(viz_blueprint(pipe, token="right", **limits))

    @app.before_serving
    async def start() -> None:
        await app.nursery.start(pipe.run)

    return app


@asynccontextmanager
async def come_from(address: str, url: str) -> AsyncGenerator[tuple[int, Connection]]:
    """Ask for the stream from one of the loopback network's addresses."""
    server = urlsplit(url)
    with trio.socket.socket() as sock:
        await sock.bind((address, 0))
        await sock.connect((server.hostname, server.port))
        client = Connection(trio.SocketStream(sock))
        await client.request(f"{EVENTS}?token=right")
        status, _ = await client.head()
        yield status, client


async def test_one_address_has_its_share_of_places_and_others_have_theirs() -> None:
    pipe = Pipe()
    async with (
        serve(app_with(pipe, max_clients_per_address=2)) as url,
        come_from("127.0.0.2", url) as (first, _),
        come_from("127.0.0.3", url) as (other, viewer),
    ):
        async with come_from("127.0.0.2", url) as (second, _), come_from("127.0.0.2", url) as (third, _):
            assert [first, second, third, other] == [200, 200, 503, 200]
        await until(lambda: pipe.statistics().clients == 2)
        async with come_from("127.0.0.2", url) as (again, _):
            assert again == 200
        assert await viewer.frame() == PREAMBLE
        pipe.emit(Event())
        assert sequence(await viewer.frame()) == 1


async def test_by_default_one_address_may_have_all_places() -> None:
    """Behind a proxy all clients have one."""
    pipe = Pipe()
    async with (
        serve(app_with(pipe, max_clients=3)) as url,
        come_from("127.0.0.2", url) as (first, _),
        come_from("127.0.0.2", url) as (second, _),
        come_from("127.0.0.2", url) as (third, _),
        come_from("127.0.0.3", url) as (fourth, _),
    ):
        assert [first, second, third, fourth] == [200, 200, 200, 503]


def test_a_share_of_no_place_is_refused() -> None:
    with pytest.raises(ValueError, match="max_clients_per_address must be at least 1 or None, not 0"):
        viz_blueprint(Pipe(), token="right", max_clients_per_address=0)
