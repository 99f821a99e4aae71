"""The example with Starlette, as it is run by hand, and what watches it from other programs."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from signal import SIGINT

import trio
from support import EVENTS, VIZPIPE, WITH_CTRL_C, Program, get, run_program, until

from vizpipe_trio import Event
from vizpipe_trio.client import open_events


@asynccontextmanager
async def example() -> AsyncGenerator[tuple[Program, str]]:
    """Start the example on any free port, and give it with its address."""
    async with run_program(sys.executable, "-m", "examples.starlette_app", "0") as app:
        yield app, (await app.line()).split()[-1]


async def clients(url: str, count: float) -> None:
    """Wait until so many watch."""
    while f"vizpipe_clients {count}\n" not in (await get(url, "/metrics")).text:  # noqa: ASYNC110 - the server is another process
        await trio.sleep(0.05)


async def test_the_starlette_example_records_streams_measures_and_ends_on_ctrl_c() -> None:
    async with example() as (app, url):
        async with open_events(url, token="sesame") as events:
            await until(lambda: events.connected)
            assert (await get(url, "/greet/world")).text == "Hello, world!\n"
            assert (await get(url, "/greet/nobody")).status_code == 403
            given = [await anext(events) for _ in range(2)]
            assert [(e.subject, e.status) for e in given if isinstance(e, Event)] == [
                ("/greet/world", "ALLOWED"), ("/greet/nobody", "DENIED"),
            ]  # fmt: skip
            assert "vizpipe_events_emitted_total 2.0" in (await get(url, "/metrics")).text
            assert (await get(url, EVENTS)).status_code == 401
        app.process.send_signal(SIGINT)
        assert await app.rest() == ""


async def test_a_program_that_watches_the_example_says_who_was_refused() -> None:
    watch = [sys.executable, "-c", WITH_CTRL_C, sys.executable, "-m", "examples.starlette_app.refusals"]
    async with example() as (_, url), run_program(*watch, url, "sesame") as program:
        await clients(url, 1.0)
        for name in ("world", "nobody"):
            await get(url, f"/greet/{name}")
        assert await program.line() == "refused: /greet/nobody"
        program.process.send_signal(SIGINT)
        assert await program.rest() == ""


async def test_the_command_shows_the_examples_requests_and_their_rates() -> None:
    async with (
        example() as (app, url),
        run_program(VIZPIPE, "tail", "--token", "sesame", url) as tail,
        run_program(VIZPIPE, "top", "--token", "sesame", "--no-reconnect", url) as top,
    ):
        await clients(url, 2.0)
        await get(url, "/greet/world")
        line = await tail.line()
        assert "ALLOWED  QUERY" in line
        assert "look up" in line
        assert "/greet/world GET 200" in line
        app.process.send_signal(SIGINT)
        shown = await top.rest()
        assert "1 in all" in shown
        assert "QUERY greeter" in shown
