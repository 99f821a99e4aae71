"""The example without a web framework: what it answers, what it tells the pipe, and how it ends."""

import re
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from signal import SIGINT

import trio
from support import read_line
from trio.testing import memory_stream_pair

from examples.tcp_server.__main__ import LONGEST_LINE, converse
from examples.tcp_server.store import CACHE_CAPACITY, Store
from vizpipe_trio import Event, Pipe, open_pipe


async def answers(*requests: str) -> tuple[list[str], list[Event]]:
    """Return the answers to requests, and what the pipe was told of them."""
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription, Store(pipe) as store:
            given = [await store.answer(request) for request in requests]
            pipe.stop()
            return given, [event async for event in subscription]


def stages_of(event: Event) -> list[tuple[str, bool]]:
    return [(stage.name, stage.hit) for stage in event.stages or ()]


async def test_what_was_set_is_got_until_it_is_deleted() -> None:
    given, _ = await answers("GET a", "SET a b c", "GET a", "DEL a", "GET a")
    assert given == ["(none)", "OK", "b c", "OK", "(none)"]


async def test_each_request_is_an_event_and_nonsense_is_none() -> None:
    given, events = await answers("SET a b", "GET a", "DEL a", "GET", "")
    assert given[3:] == ["ERROR: SET key value, GET key or DEL key"] * 2
    assert [(event.op, event.subject) for event in events] == [("WRITE", "a"), ("QUERY", "a"), ("WRITE", "a")]
    assert [event.stages is None for event in events] == [True, False, True]


async def test_the_cache_answers_before_the_store_does() -> None:
    overflow = [f"SET {number} x" for number in range(CACHE_CAPACITY)]
    given, events = await answers("SET a b", "GET a", *overflow, "GET a")
    assert (given[1], given[-1]) == ("b", "b")
    assert stages_of(events[1]) == [("cache", True)]
    assert stages_of(events[-1]) == [("cache", False), ("store", True)]
    assert 0 < sum(stage.ms for stage in events[-1].stages or ()) <= events[-1].total_ms


async def test_a_line_without_an_end_is_refused() -> None:
    client, server = memory_stream_pair()
    with Store(Pipe()) as store, trio.fail_after(5):
        await client.send_all(b"GET a\nSET a " + b"x" * LONGEST_LINE)
        await converse(store, server)
        await server.aclose()
        assert b"".join([chunk async for chunk in client]) == b"(none)\nERROR: that line is too long\n"


@asynccontextmanager
async def started() -> AsyncGenerator[tuple[trio.Process, trio.abc.ReceiveStream]]:
    """Start the example on any free port, for at most 90 seconds, and give it with what it prints."""
    command = [sys.executable, "-m", "examples.tcp_server", "0"]
    with trio.fail_after(90):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await process.stdout.aclose()


async def test_the_program_answers_prints_its_events_and_ends_on_ctrl_c() -> None:
    async with started() as (process, printed):
        port = int((await read_line(printed)).removeprefix(b"Listening on port "))
        async with await trio.open_tcp_stream("127.0.0.1", port) as client:
            await client.send_all(b"SET a b\nGET a\n")
            assert [await read_line(client), await read_line(client)] == [b"OK\n", b"b\n"]
            process.send_signal(SIGINT)
            rest = b"".join([bytes(chunk) async for chunk in printed])
        expected = rb"WRITE a: [\d.]+ ms\nQUERY a: [\d.]+ ms \(cache [\d.]+\*\)\n"
        assert re.fullmatch(expected, rest), rest
        assert await process.wait() == 0
