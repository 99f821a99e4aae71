"""Behind a real nginx, configured as docs/deploy.md says: what browsers get over HTTP/1.1 and HTTP/2, over TLS."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from quart_trio import QuartTrio
from support import EVENTS, PREAMBLE, STATS, Connection, make_app, read_json, sequence, until
from support_http2 import WINDOW, Certificates, Http2Connection, Server, dial_http1, dial_http2, served
from support_nginx import documented_site, nginx

from vizpipe_trio import Event, Pipe

PREFIX = "/pipeline"

# All that nginx needs: it then says nothing of itself to the server.
BARE_SITE = """
server {
    listen 443 ssl;
    ssl_certificate /etc/ssl/viz.example.pem;
    ssl_certificate_key /etc/ssl/viz.example.key;
    access_log /var/log/nginx/viz.log;
    location /pipeline/ { proxy_pass http://127.0.0.1:8000/; }
}
"""


class Proxy:
    """Where the proxy is, and how to get there."""

    def __init__(self, url: str, server: Server, certificates: Certificates) -> None:
        self.server = server
        self._url = url
        self._certificates = certificates

    @asynccontextmanager
    async def http1(self, *, receive_buffer: int | None = None) -> AsyncGenerator[Connection]:
        context = self._certificates.trusting("http/1.1")
        async with dial_http1(self._url, context, receive_buffer=receive_buffer) as connection:
            yield connection

    @asynccontextmanager
    async def watch(
        self, query: str = "", *, receive_buffer: int | None = None
    ) -> AsyncGenerator[Connection]:
        """Open an event stream over HTTP/1.1 and read its beginning."""
        async with self.http1(receive_buffer=receive_buffer) as viewer:
            await viewer.request(PREFIX + EVENTS + query)
            assert (await viewer.head())[0] == 200
            assert await viewer.frame() == PREAMBLE
            yield viewer

    @asynccontextmanager
    async def http2(self) -> AsyncGenerator[Http2Connection]:
        async with dial_http2(self._url, self._certificates.trusting("h2")) as connection:
            yield connection


@asynccontextmanager
async def proxied(
    app: QuartTrio, pipe: Pipe, folder: Path, *, site: str | None = None, client_timeout: float = 30
) -> AsyncGenerator[Proxy]:
    """Serve an app behind nginx while in the block."""
    certificates = Certificates.issue(folder)
    async with (
        served(app, pipe, client_timeout=client_timeout) as server,
        nginx(site or documented_site(), server.url, certificates, folder) as url,
    ):
        yield Proxy(url, server, certificates)


async def watch_http2(client: Http2Connection, query: str = "") -> int:
    """Open an event stream over HTTP/2 and read its beginning."""
    stream = await client.request(PREFIX + EVENTS + query)
    assert await client.status(stream) == 200
    assert await client.frame(stream) == PREAMBLE
    return stream


async def test_events_arrive_as_they_happen_over_both_protocols(tmp_path: Path) -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        proxied(make_app(pipe, token="right"), pipe, tmp_path) as proxy,
        proxy.watch("?token=right") as old,
        proxy.http2() as new,
    ):
        stream = await watch_http2(new, "?token=right")
        for number in range(1, 6):
            pipe.emit(Event())
            assert sequence(await old.frame()) == sequence(await new.frame(stream)) == number


async def test_without_our_header_nginx_would_hold_events_back(tmp_path: Path) -> None:
    pipe = Pipe(flush_interval=0)
    deaf = documented_site().replace("proxy_pass", "proxy_ignore_headers X-Accel-Buffering; proxy_pass")
    async with (
        proxied(make_app(pipe, token="right"), pipe, tmp_path, site=deaf) as proxy,
        proxy.http1() as viewer,
    ):
        await viewer.request(PREFIX + EVENTS + "?token=right")
        await until(lambda: pipe.statistics().clients == 1)
        pipe.emit(Event())
        with trio.move_on_after(0.5) as patience:
            await viewer.head()
        assert patience.cancelled_caught
        pipe.stop()
        await viewer.head()
        assert await viewer.frame() == PREAMBLE
        assert sequence(await viewer.frame()) == 1


async def test_stream_ends_properly_over_both_protocols(tmp_path: Path) -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        proxied(make_app(pipe, token="right"), pipe, tmp_path) as proxy,
        proxy.watch("?token=right") as old,
        proxy.http2() as new,
    ):
        stream = await watch_http2(new, "?token=right")
        pipe.emit(Event())
        pipe.stop()
        assert [sequence(frame) for frame in await old.rest()] == [1]
        assert sequence(await new.frame(stream)) == 1
        assert await new.frame(stream) == b""


async def test_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        proxied(make_app(pipe, token="right", max_clients=2), pipe, tmp_path) as proxy,
        proxy.http2() as new,
    ):
        leaving = await watch_http2(new, "?token=right")
        async with proxy.watch("?token=right"):
            full = await new.request(PREFIX + EVENTS + "?token=right")
            assert await new.status(full) == 503
        await until(lambda: pipe.statistics().clients == 1)
        await new.reset(leaving)  # its connection stays
        await until(lambda: pipe.statistics().clients == 0)
        await watch_http2(new, "?token=right")


async def test_client_that_stops_reading_misses_events_is_given_up_and_hurts_nobody(tmp_path: Path) -> None:
    pipe = Pipe(client_capacity=4, flush_interval=0)
    async with (
        proxied(make_app(pipe, token="right"), pipe, tmp_path, client_timeout=4) as proxy,
        proxy.watch("?token=right", receive_buffer=4096),
        proxy.watch("?token=right") as healthy,
    ):
        number = 0
        while not pipe.statistics().missed:  # the kernel's buffers and nginx's fill up first
            number += 1
            pipe.emit(Event(subject="x" * 50_000))
            assert sequence(await healthy.frame()) == number
        assert number < 1000
        await until(lambda: pipe.statistics().clients == 1)
        pipe.emit(Event())
        assert sequence(await healthy.frame()) == number + 1


async def test_stream_that_is_not_read_misses_events_and_holds_up_no_other_on_its_connection(
    tmp_path: Path,
) -> None:
    pipe = Pipe(client_capacity=4, flush_interval=0)
    async with (
        proxied(make_app(pipe, token="right"), pipe, tmp_path, client_timeout=4) as proxy,
        proxy.http2() as client,
    ):
        stalled = await watch_http2(client, "?token=right")
        healthy = await watch_http2(client, "?token=right")
        client.stalled.add(stalled)
        for number in range(1, 401):
            pipe.emit(Event(subject="x" * 50_000))
            assert sequence(await client.frame(healthy)) == number
        assert client.answers[stalled].received <= WINDOW
        # Of 20 MB no more is kept for it than its queue, and what nginx and the kernel hold.
        assert pipe.statistics().missed > 0
        assert pipe.statistics().delivered < 400 + 300
        await until(lambda: pipe.statistics().clients == 1)  # it is given up, which may have been before
        pipe.emit(Event())
        assert sequence(await client.frame(healthy)) == 401


async def test_shutdown_ends_streams_properly_beside_one_that_is_not_read(tmp_path: Path) -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        proxied(make_app(pipe, token="right"), pipe, tmp_path) as proxy,
        proxy.watch("?token=right", receive_buffer=4096),
        proxy.http2() as client,
    ):
        stalled = await watch_http2(client, "?token=right")
        healthy = await watch_http2(client, "?token=right")
        client.stalled.add(stalled)
        for number in range(1, 101):
            pipe.emit(Event(subject="x" * 50_000))
            assert sequence(await client.frame(healthy)) == number

        async def read() -> None:
            assert await client.frame(healthy) == b""

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await proxy.server.shut_down()


async def test_viewer_that_comes_back_resumes_where_it_was(tmp_path: Path) -> None:
    pipe = Pipe(flush_interval=0)
    async with proxied(make_app(pipe, token="right"), pipe, tmp_path) as proxy:
        async with proxy.watch("?token=right") as viewer:
            pipe.emit(Event())
            seen = (await viewer.frame()).partition(b"\n")[0].removeprefix(b"id: ")
        pipe.emit(Event())
        async with proxy.http1() as viewer:
            await viewer.request(PREFIX + EVENTS + "?token=right", b"Last-Event-ID: " + seen)
            assert (await viewer.head())[0] == 200
            assert await viewer.frame() == PREAMBLE
            assert sequence(await viewer.frame()) == 2


@pytest.mark.parametrize("path", [EVENTS, STATS])
@pytest.mark.parametrize("site", [documented_site(), BARE_SITE], ids=["documented", "bare"])
async def test_without_a_token_nobody_gets_in_through_the_proxy(tmp_path: Path, site: str, path: str) -> None:
    pipe = Pipe()
    async with proxied(make_app(pipe), pipe, tmp_path, site=site) as proxy, proxy.http1() as client:
        await client.request(PREFIX + path, host="127.0.0.1")
        status, _, body = await read_json(client)
        assert status == 403
        assert body == {"error": "this request came through a proxy: set a token"}


async def test_the_page_is_served_under_the_prefix(tmp_path: Path) -> None:
    pipe = Pipe()
    async with proxied(make_app(pipe, token="right"), pipe, tmp_path) as proxy, proxy.http2() as client:
        page = await client.request(f"{PREFIX}/viz/")
        assert (await client.body(page)).startswith(b"<!doctype html>")
        statistics = await client.request(f"{PREFIX}{STATS}?token=right")
        assert json.loads(await client.body(statistics))["clients"] == 0


async def test_token_is_not_in_the_proxys_log(tmp_path: Path) -> None:
    pipe = Pipe()
    async with proxied(make_app(pipe, token="sesame"), pipe, tmp_path) as proxy, proxy.http2() as client:
        stream = await client.request(f"{PREFIX}{STATS}?token=sesame")
        assert await client.body(stream)
    log = (tmp_path / "access.log").read_text()
    assert '"GET /pipeline/api/viz/stats" 200' in log
    assert "sesame" not in log


async def test_token_is_in_no_log_of_the_proxys_while_the_server_is_away(tmp_path: Path) -> None:
    certificates = Certificates.issue(tmp_path)
    async with (
        nginx(documented_site(), "http://127.0.0.1:1", certificates, tmp_path, error_level="crit") as url,
        dial_http1(url, certificates.trusting("http/1.1")) as client,
    ):
        await client.request(f"{PREFIX}/viz/?token=sesame")
        assert (await client.head())[0] == 502
    assert '"GET /pipeline/viz/" 502' in (tmp_path / "access.log").read_text()
    assert "sesame" not in (tmp_path / "access.log").read_text() + (tmp_path / "error.log").read_text()


async def test_an_address_has_no_more_than_its_share_of_the_places(tmp_path: Path) -> None:
    pipe = Pipe()
    limit = "limit_conn viewers 100;"
    assert limit in documented_site()
    strict = documented_site().replace(limit, "limit_conn viewers 1; limit_conn_log_level warn;")
    async with (
        proxied(make_app(pipe, token="right"), pipe, tmp_path, site=strict) as proxy,
        proxy.watch("?token=right"),
        proxy.http1() as second,
    ):
        await second.request(PREFIX + EVENTS + "?token=right")
        assert (await second.head())[0] == 503
        assert pipe.statistics().clients == 1


@pytest.mark.parametrize(
    "headers",
    [
        (b"Upgrade: h2c", b"HTTP2-Settings: A"),
        (b"Upgrade: websocket", b"Connection: upgrade", b"Sec-WebSocket-Extensions: \xff"),
    ],
    ids=["h2c", "websocket"],
)
async def test_request_that_would_end_the_server_does_not_reach_it(
    tmp_path: Path, headers: tuple[bytes, ...]
) -> None:
    pipe = Pipe()
    async with proxied(make_app(pipe, token="right"), pipe, tmp_path) as proxy, proxy.http1() as client:
        for _ in range(2):
            await client.request(f"{PREFIX}{STATS}?token=right", *headers)
            assert (await read_json(client))[0] == 200


async def test_stream_works_behind_a_proxy_that_asks_in_http_1_0_and_ends(tmp_path: Path) -> None:
    pipe = Pipe(flush_interval=0)
    async with (
        proxied(make_app(pipe, token="right"), pipe, tmp_path, site=BARE_SITE) as proxy,
        proxy.watch("?token=right") as viewer,
    ):
        pipe.emit(Event())
        assert sequence(await viewer.frame()) == 1
        pipe.stop()
        assert await viewer.rest() == []
