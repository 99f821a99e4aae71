"""Whose pages may watch: raw requests, and pages of other origins in a real Chromium."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from hostile import open_chromium
from playwright.sync_api import Page
from quart_trio import QuartTrio
from support import EVENTS, STATS, ask, connect, get, make_app, read_json, serve, until

from vizpipe_trio import Event, Pipe

# What a page tries on another origin's stream, and what it finds out. Nothing, it should be.
ATTACK = """async (url) => {
  const found = {};
  found.stream = await new Promise((resolve) => {
    const source = new EventSource(url);
    source.onopen = () => resolve("open");
    source.onmessage = (message) => resolve(message.data);
    source.onerror = () => source.readyState === EventSource.CLOSED && resolve("closed");
  });
  for (const mode of ["cors", "no-cors", "same-origin"]) {
    found[mode] = await fetch(url, { mode })
      .then(async (answer) => [answer.status, answer.body === null ? "" : await answer.text()])
      .catch((error) => error.name);
  }
  found.header = await fetch(url, { headers: { Authorization: "Bearer sesame" } }).then(
    (answer) => answer.status, (error) => error.name);
  return found;
}"""

REFUSED = {
    "stream": "closed",
    "cors": "TypeError",
    "no-cors": "TypeError",  # by Cross-Origin-Resource-Policy
    "same-origin": "TypeError",
    "header": "TypeError",
}


def with_blank_page(app: QuartTrio) -> QuartTrio:
    @app.get("/")
    async def page() -> str:
        await trio.lowlevel.checkpoint()
        return "<!doctype html><title>A page</title>"

    return app


async def in_a_browser(script: Callable[[Page], object], *arguments: str) -> object:
    """Run a script on a new page, in a worker thread."""

    def browse() -> object:
        with open_chromium(*arguments) as browser:
            return script(browser.new_page())

    return await trio.to_thread.run_sync(browse)


# What a browser makes of it


async def test_another_sites_page_cannot_read_the_stream_nor_take_a_place() -> None:
    pipe = Pipe()
    pipe.emit(Event(subject="secret"))
    async with (
        serve(make_app(pipe)) as url,
        serve(with_blank_page(QuartTrio("elsewhere"))) as other,
    ):
        for place in (other, other.replace("127.0.0.1", "localhost")):  # the same site, and another one

            def attack(page: Page, place: str = place) -> object:
                page.goto(place)
                return page.evaluate(ATTACK, url + EVENTS)

            assert await in_a_browser(attack) == REFUSED
        assert pipe.statistics().clients == 0


async def test_another_sites_page_cannot_read_the_stream_even_if_it_has_the_token() -> None:
    pipe = Pipe()
    async with (
        serve(make_app(pipe, token="sesame")) as url,
        serve(with_blank_page(QuartTrio("elsewhere"))) as other,
    ):

        def attack(page: Page) -> object:
            page.goto(other)
            return page.evaluate(ATTACK, f"{url}{EVENTS}?token=sesame")

        assert await in_a_browser(attack) == REFUSED


async def test_a_page_whose_name_is_rebound_to_this_machine_is_refused() -> None:
    """For the browser it is one origin with the stream then, so nothing but the Host tells."""
    pipe = Pipe()
    pipe.emit(Event(subject="secret"))
    async with serve(with_blank_page(make_app(pipe))) as url:
        rebound = url.replace("127.0.0.1", "evil.example")

        def attack(page: Page) -> object:
            page.goto(rebound)
            statuses = "async (urls) => Promise.all(urls.map(async (url) => (await fetch(url)).status))"
            return page.evaluate(statuses, [EVENTS, STATS])

        assert await in_a_browser(attack, "--host-resolver-rules=MAP evil.example 127.0.0.1") == [403, 403]
        assert pipe.statistics().clients == 0


async def test_a_page_of_this_server_reads_the_stream() -> None:
    pipe = Pipe()
    app = with_blank_page(make_app(pipe))

    def look(page: Page) -> object:
        page.goto(url)
        return page.evaluate(
            "(url) => new Promise((done) => { new EventSource(url).onmessage = (m) => done(m.data); })",
            EVENTS,
        )

    async with serve(app) as url, trio.open_nursery() as nursery:

        async def emit() -> None:
            await until(lambda: pipe.statistics().clients == 1)
            pipe.emit(Event(subject="ham"))

        nursery.start_soon(emit)
        assert "ham" in str(await in_a_browser(look))


# What the answers are


@pytest.mark.parametrize("token", [None, "sesame"])
@pytest.mark.parametrize("path", [EVENTS, STATS, "/viz/"])
async def test_no_answer_lets_other_origins_read_it(token: str | None, path: str) -> None:
    headers = {"Origin": "http://evil.example", "Authorization": "Bearer sesame"}
    async with serve(make_app(Pipe(), token=token)) as url, connect(url) as client:
        await client.request(path, *(f"{name}: {value}".encode() for name, value in headers.items()))
        _, answer = await client.head()
        assert [name for name in answer if name.startswith("access-control")] == []
        assert answer["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [EVENTS, STATS])
async def test_a_browsers_question_whether_it_may_send_a_header_is_denied(path: str) -> None:
    async with serve(make_app(Pipe(), token="sesame")) as url:
        status, answer, _ = await ask(
            url,
            path,
            b"Origin: http://evil.example",
            b"Access-Control-Request-Method: GET",
            b"Access-Control-Request-Headers: authorization",
            method="OPTIONS",
        )
        assert status == 405
        assert [name for name in answer if name.startswith("access-control")] == []


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "http://localhost", "null"])
async def test_without_a_token_another_origin_is_refused_whatever_cors_the_app_adds(origin: str) -> None:
    app = make_app(Pipe())

    @app.after_request
    async def let_all_read(response: Any) -> Any:
        await trio.lowlevel.checkpoint()
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    async with serve(app) as url:
        status, _, body = await ask(url, EVENTS, b"Origin: " + origin.encode())
        assert status == 403
        assert body["error"] == "a page of another site made this request: set a token"


# Proxies, and servers that do not say who asks


async def test_without_a_token_a_proxy_that_says_nothing_of_itself_is_known_by_its_version() -> None:
    """The whole request is what nginx makes of one, asked for nothing but ``proxy_pass``."""
    async with serve(make_app(Pipe())) as url, connect(url) as client:
        host = url.removeprefix("http://").encode()
        await client.stream.send_all(
            b"GET /api/viz/events HTTP/1.0\r\nHost: %b\r\nConnection: close\r\n"
            b"User-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n" % host
        )
        status, _, body = await read_json(client)
        assert status == 403
        assert body["error"] == "this request came through a proxy: set a token"


@pytest.mark.parametrize("client", ["left out", None, ("/run/proxy.sock",)])
async def test_without_a_token_nobody_is_let_in_by_a_server_that_does_not_say_who_asks(client: Any) -> None:
    app = make_app(Pipe())
    serve_asgi = app.asgi_app

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            del scope["client"]
            if client != "left out":
                scope["client"] = client
        await serve_asgi(scope, receive, send)

    app.asgi_app = asgi_app  # type: ignore[method-assign]
    async with serve(app) as url:
        status, _, body = await ask(url, STATS)
        assert status == 403
        assert body["error"].startswith("only clients on this machine")


async def test_without_a_token_quarts_own_test_client_is_let_in() -> None:
    pipe = Pipe()
    app = make_app(pipe)
    async with app.test_app():
        response = await app.test_client().get(STATS)
        assert response.status_code == 200
        pipe.stop()


async def test_the_page_is_for_all_since_it_holds_nothing() -> None:
    async with serve(make_app(Pipe())) as url:
        response = await get(url, "/viz/", {"Host": "viz.example", "X-Forwarded-For": "192.0.2.1"})
        assert response.status_code == 200
