"""HTTP/2 and TLS on real sockets: what is refused, and what those get who ask for it all the same."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from hypercorn.config import Config
from support import EVENTS, PREAMBLE, STATS, Connection, make_app, sequence, until
from support_http2 import WINDOW, Certificates, Http2Connection, dial_http1, dial_http2, served

from vizpipe_trio import Event, Pipe

Frame = Callable[[], Awaitable[bytes]]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.issue(tmp_path)


def both_protocols(certificates: Certificates | None) -> Config:
    """Configure a server as somebody does who wants HTTP/2."""
    config = Config()
    config.alpn_protocols = ["h2", "http/1.1"]
    return config if certificates is None else certificates.protect(config)


# Refused


@pytest.mark.parametrize("way", ["prior knowledge", "upgrade", "TLS"])
async def test_stream_over_http2_is_refused_and_told_why_and_what_to_do(
    way: str, certificates: Certificates
) -> None:
    pipe = Pipe()
    secure = way == "TLS"
    async with (
        served(make_app(pipe), pipe, both_protocols(certificates if secure else None)) as server,
        dial_http1(server.url, certificates.trusting("h2") if secure else None) as connection,
    ):
        client = Http2Connection(connection.stream)
        if way == "upgrade":
            stream = await client.upgrade(EVENTS)
        else:
            await client.begin()
            stream = await client.request(EVENTS)
        assert await client.status(stream) == 505
        assert client.answers[stream].headers["content-type"] == "application/json"
        error = json.loads(await client.body(stream))["error"]
        assert error.startswith("no event streams over HTTP/2: the server would hold in memory")
        assert 'alpn_protocols = ["http/1.1"]' in error
        assert "viz_blueprint(http2=True)" in error
        assert pipe.statistics().clients == 0


async def test_who_may_not_watch_is_not_told_about_http2() -> None:
    pipe = Pipe()
    async with (
        served(make_app(pipe, token="right"), pipe, both_protocols(None)) as server,
        dial_http2(server.url) as client,
    ):
        for query, status in (("", 401), ("?token=right", 505)):
            stream = await client.request(EVENTS + query)
            assert await client.status(stream) == status
            assert await client.body(stream)


async def test_statistics_and_page_are_served_over_http2(certificates: Certificates) -> None:
    pipe = Pipe()
    async with (
        served(make_app(pipe), pipe, both_protocols(certificates)) as server,
        dial_http2(server.url, certificates.trusting("h2")) as client,
    ):
        statistics, page = await client.request(STATS), await client.request("/viz/")
        assert await client.status(statistics) == await client.status(page) == 200
        assert json.loads(await client.body(statistics))["clients"] == 0
        assert (await client.body(page)).startswith(b"<!doctype html>")


async def test_client_that_would_rather_have_http2_is_given_http1_by_default(
    certificates: Certificates,
) -> None:
    pipe = Pipe()
    async with (
        served(make_app(pipe), pipe, certificates.protect(Config())) as server,
        dial_http1(server.url, certificates.trusting("h2", "http/1.1")) as client,
    ):
        await client.request(EVENTS)
        assert (await client.head())[0] == 200
        assert await client.frame() == PREAMBLE


# Served


@asynccontextmanager
async def viewer(url: str, transport: str, certificates: Certificates) -> AsyncGenerator[Frame]:
    """Open an event stream and read its beginning; give what returns its next frame."""
    if transport.startswith("HTTP/2"):
        context = certificates.trusting("h2") if "TLS" in transport else None
        async with dial_http2(url, context) as client:
            stream = await client.watch()
            yield lambda: client.frame(stream)
    else:
        async with dial_http1(url, certificates.trusting("http/1.1")) as plain:
            await plain.request(EVENTS)
            assert (await plain.head())[0] == 200
            assert await plain.frame() == PREAMBLE
            yield plain.frame


@pytest.mark.parametrize("transport", ["HTTP/1.1 over TLS", "HTTP/2", "HTTP/2 over TLS"])
async def test_events_arrive_as_they_happen(transport: str, certificates: Certificates) -> None:
    pipe = Pipe(flush_interval=0)
    config = both_protocols(certificates if "TLS" in transport else None)
    async with (
        served(make_app(pipe, http2=True), pipe, config) as server,
        viewer(server.url, transport, certificates) as frame,
    ):
        for number in range(1, 6):
            pipe.emit(Event())
            assert sequence(await frame()) == number
        pipe.stop()
        assert await frame() == b""


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_stream_that_is_not_read_holds_up_no_other_on_its_connection(
    certificates: Certificates, *, secure: bool
) -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        served(make_app(pipe, http2=True), pipe, both_protocols(certificates if secure else None)) as server,
        dial_http2(server.url, certificates.trusting("h2") if secure else None) as client,
    ):
        stalled, healthy = await client.watch(), await client.watch()
        client.stalled.add(stalled)
        for number in range(1, 101):
            pipe.emit(Event(subject="x" * 10_000))
            assert sequence(await client.frame(healthy)) == number
        assert client.answers[stalled].received == WINDOW
        assert await client.status(await client.request(STATS)) == 200


async def test_stream_that_its_client_resets_frees_its_place_and_no_other() -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        served(make_app(pipe, http2=True, max_clients=2), pipe, both_protocols(None)) as server,
        dial_http2(server.url) as client,
    ):
        leaving, staying = await client.watch(), await client.watch()
        assert await client.status(await client.request(EVENTS)) == 503
        await client.reset(leaving)
        await until(lambda: pipe.statistics().clients == 1)
        coming = await client.watch()
        pipe.emit(Event())
        for stream in (staying, coming):
            assert sequence(await client.frame(stream)) == 1


async def test_shutdown_ends_streams_properly_beside_one_that_is_not_read() -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        served(make_app(pipe, http2=True), pipe, both_protocols(None)) as server,
        dial_http2(server.url) as client,
    ):
        stalled, *healthy = [await client.watch() for _ in range(5)]
        client.stalled.add(stalled)
        for number in range(1, 21):
            pipe.emit(Event(subject="x" * 10_000))
            for stream in healthy:
                assert sequence(await client.frame(stream)) == number

        async def read() -> None:
            for stream in healthy:
                assert await client.frame(stream) == b""

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await server.shut_down()
        assert not client.answers[stalled].ended


async def test_shutdown_does_not_wait_for_an_http2_connection_that_is_not_read() -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        served(make_app(pipe, http2=True), pipe, both_protocols(None)) as server,
        dial_http2(server.url, receive_buffer=4096) as client,
    ):
        for _ in range(10):  # their windows together are more than the connection holds
            await client.watch()
        for _ in range(40):
            pipe.emit(Event(subject="x" * 50_000))
        await until(lambda: pipe.statistics().queued == 0)
        await server.shut_down()


# HTTP/1.1 over TLS


@asynccontextmanager
async def tls_viewers(url: str, certificates: Certificates) -> AsyncGenerator[tuple[Connection, Connection]]:
    """Open a stream that is soon full, and another one."""
    context = certificates.trusting("http/1.1")
    async with dial_http1(url, context, receive_buffer=4096) as stuck, dial_http1(url, context) as healthy:
        for client in (stuck, healthy):
            await client.request(EVENTS)
            assert (await client.head())[0] == 200
            assert await client.frame() == PREAMBLE
        yield stuck, healthy


async def test_client_that_stops_reading_is_given_up_over_tls_and_misses_what_it_cannot_take(
    certificates: Certificates,
) -> None:
    pipe = Pipe(client_capacity=4, flush_interval=0)
    async with (
        served(make_app(pipe), pipe, certificates.protect(Config()), client_timeout=4) as server,
        tls_viewers(server.url, certificates) as (_, healthy),
    ):
        for number in range(1, 201):
            pipe.emit(Event(subject="x" * 10_000))
            assert sequence(await healthy.frame()) == number
        # Of 2 MB no more is kept for it than its queue, and what the kernel holds.
        assert pipe.statistics().missed > 0
        assert pipe.statistics().delivered < 200 + 100
        await until(lambda: pipe.statistics().clients == 1)  # which may have been before
        pipe.emit(Event())
        assert sequence(await healthy.frame()) == 201


async def test_shutdown_over_tls_ends_what_is_read_and_does_not_wait_for_the_rest(
    certificates: Certificates,
) -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        served(make_app(pipe), pipe, certificates.protect(Config())) as server,
        tls_viewers(server.url, certificates) as (_, healthy),
    ):
        for number in range(1, 101):
            pipe.emit(Event(subject="x" * 10_000))
            assert sequence(await healthy.frame()) == number

        async def read() -> None:
            assert await healthy.rest() == []

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await server.shut_down()


@pytest.mark.parametrize("version", ["2", "3"])
async def test_versions_without_back_pressure_are_refused_whoever_serves(version: str) -> None:
    client = make_app(Pipe(), token="right").test_client()
    response = await client.get(EVENTS + "?token=right", http_version=version)
    assert response.status_code == 505
    assert (await response.get_json())["error"].startswith(f"no event streams over HTTP/{version}: ")
