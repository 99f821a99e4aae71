"""The token is not to be found where it does not belong: with every logger at DEBUG, and in a real browser."""

import gc
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from types import ModuleType
from typing import Any

import hypercorn.trio
import pytest
import trio
from hostile import open_chromium
from hypercorn.config import Config
from quart import request
from quart_trio import QuartTrio
from support import EVENTS, STATS, ask, connect, make_app, until

from vizpipe_trio import Event, Pipe
from vizpipe_trio.quart import viz_blueprint

TOKEN = "GNdVYMtIvXmVp0xhFBxw"


class Lines(logging.Handler):
    """Everything that is logged, as lines with their tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@asynccontextmanager
async def serve_and_log_all(app: QuartTrio) -> AsyncGenerator[tuple[str, list[str]]]:
    """Serve an app with its access log on, and give the address and what is logged at all levels."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    config.loglevel = "DEBUG"
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = logging.getLogger("hypercorn.access")
    logs = Lines()
    loggers = [logging.getLogger(name) for name in (None, "hypercorn.access", "hypercorn.error", "tests")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(logs)
    end = trio.Event()
    try:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                server = partial(hypercorn.trio.serve, app, config, shutdown_trigger=end.wait)  # pyright: ignore[reportUnknownMemberType]
                [address] = await nursery.start(server)
                yield address, logs.lines
                end.set()
    finally:
        logging.getLogger().removeHandler(logs)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def mentions(lines: list[str], token: str = TOKEN) -> list[str]:
    return [line for line in lines if token in line]


@pytest.mark.parametrize("path", [EVENTS, STATS])
async def test_the_token_is_in_no_log_at_any_level(path: str) -> None:
    pipe = Pipe()
    async with serve_and_log_all(make_app(pipe, token=TOKEN)) as (url, lines):
        for target, header in (
            (f"{path}?token={TOKEN}", b"X: y"),
            (path, f"Authorization: Bearer {TOKEN}".encode()),
            (f"{path}?token={TOKEN}&op=NONE", b"Last-Event-ID: x"),
        ):
            async with connect(url) as client:
                await client.request(target, header)
                assert (await client.head())[0] in {200, 400}
        await until(lambda: pipe.statistics().clients == 0)
        pipe.emit(Event(total_ms=float("nan")))  # what the pipe itself has to say
        await until(lambda: len([line for line in lines if "vizpipe" in line or "invalid" in line]) > 0)
        await until(lambda: len([line for line in lines if path in line]) >= 3)
        assert mentions(lines) == []


async def test_a_wrong_token_is_in_no_log_either_since_it_may_be_right_elsewhere() -> None:
    async with serve_and_log_all(make_app(Pipe(), token=TOKEN)) as (url, lines):
        status, _, body = await ask(url, f"{EVENTS}?token=almost-{TOKEN}")
        assert status == 401
        assert TOKEN not in str(body)
        await until(lambda: any(EVENTS in line for line in lines))
        assert mentions(lines) == []


async def test_the_token_is_in_no_log_when_the_app_fails() -> None:
    app = make_app(Pipe(), token=TOKEN)

    @app.after_request
    async def fail(response: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("the app's own fault")

    async with serve_and_log_all(app) as (url, lines), connect(url) as client:
        await client.request(f"{STATS}?token={TOKEN}")
        assert (await client.head())[0] == 500
        await until(lambda: any("the app's own fault" in line for line in lines))
        assert mentions(lines) == []


async def test_the_token_is_in_no_answer() -> None:
    async with serve_and_log_all(make_app(Pipe(), token=TOKEN)) as (url, _):
        for target in (STATS, f"{STATS}?op=NONE", f"{EVENTS}?op=NONE", f"{EVENTS}?op={TOKEN[:-1]}"):
            _, headers, body = await ask(url, target, f"Authorization: Bearer {TOKEN}".encode())
            assert TOKEN not in str(headers) + str(body)


def is_shared_by_all(thing: Any) -> bool:
    """Whether it is a class, a module, or a module's globals."""
    return isinstance(thing, type | ModuleType) or (type(thing) is dict and "__name__" in thing)


def reachable(root: object) -> list[object]:
    """Return all that hangs on an object, as a debugger or a crash report would find it."""
    seen: dict[int, object] = {}
    ahead = [root]
    while ahead:
        thing = ahead.pop()
        if not is_shared_by_all(thing) and id(thing) not in seen:
            seen[id(thing)] = thing
            ahead += gc.get_referents(thing)
    return [*seen.values()]


def test_the_token_is_nowhere_in_what_the_blueprint_holds() -> None:
    held = reachable(viz_blueprint(Pipe(), token=TOKEN, heartbeat_interval=12.5))
    assert 12.5 in held
    assert [thing for thing in held if isinstance(thing, str | bytes) and TOKEN in str(thing)] == []


async def test_in_a_browser_the_token_is_in_no_referer_no_address_and_no_log_line() -> None:
    pipe = Pipe()
    app = make_app(pipe, token=TOKEN)
    referers: list[str] = []

    @app.before_request
    async def remember() -> None:
        await trio.lowlevel.checkpoint()
        referers.append(request.headers.get("Referer", ""))

    def browse() -> tuple[str, str]:
        with open_chromium() as browser:
            page = browser.new_page()
            page.goto(f"{url}/viz?token={TOKEN}&op=QUERY")  # by way of a redirect
            trio.from_thread.run(until, lambda: pipe.statistics().clients == 1)
            address = page.url
            page.evaluate(f"() => {{ location.href = '{STATS}'; }}")
            page.wait_for_url(url + STATS)
            return address, page.evaluate("document.referrer")

    async with serve_and_log_all(app) as (url, lines):
        address, referrer = await trio.to_thread.run_sync(browse)
        await until(lambda: pipe.statistics().clients == 0)
        assert TOKEN not in address
        assert TOKEN not in referrer
        assert mentions(referers) == []
        assert mentions(lines) == []
