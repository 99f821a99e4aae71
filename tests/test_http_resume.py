"""A viewer that comes back, over real sockets: each event once, and an honest word about the rest."""

import math
from random import Random

import pytest
import trio
from support import (
    Connection,
    last_id,
    make_app,
    sequence,
    serve,
    until,
    watch,
)

from vizpipe_trio import Event, Pipe


async def test_returning_viewer_gets_what_it_has_not_seen_once_then_live_events() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url:
        async with watch(url) as viewer:
            for number in (1, 2, 3):
                pipe.emit(Event(request_id=f"r{number}"))
            await viewer.frames(2)
            seen = await last_id(viewer)
        pipe.emit(Event(request_id="r4"))
        pipe.emit(Event(request_id="r5"))
        await until(lambda: pipe.statistics().broadcast == 5)
        async with watch(url, "", b"Last-Event-ID: " + seen) as viewer:
            assert [sequence(frame) for frame in await viewer.frames(2)] == [4, 5]
            pipe.emit(Event(request_id="r6"))
            frame = await viewer.frame()
            assert sequence(frame) == 6
            assert b'"request_id":"r6"' in frame


async def test_viewer_that_has_seen_all_gets_nothing_twice() -> None:
    pipe = Pipe(history=0)
    async with serve(make_app(pipe)) as url, watch(url) as first:
        pipe.emit(Event())
        seen = await last_id(first)
        async with watch(url, "", b"Last-Event-ID: " + seen) as viewer:
            pipe.emit(Event())
            assert sequence(await viewer.frame()) == 2


async def test_viewer_that_comes_back_again_and_again_sees_each_event_once_in_order() -> None:
    pipe = Pipe(history=1000, flush_interval=0)

    async def emit_all() -> None:
        for number in range(1, 601):
            pipe.emit(Event(request_id=f"r{number}"))
            if number % 5 == 0:
                await trio.lowlevel.checkpoint()

    random = Random(7)
    seen: list[int] = []
    async with serve(make_app(pipe)) as url, watch(url) as first, trio.open_nursery() as nursery:
        pipe.emit(Event())
        seen_id = await last_id(first)
        run = seen_id.partition(b"-")[0]
        nursery.start_soon(emit_all)
        while len(seen) < 600:
            async with watch(url, "", b"Last-Event-ID: " + seen_id) as viewer:
                count = min(random.randint(1, 40), 600 - len(seen))
                seen.extend(sequence(frame) for frame in await viewer.frames(count))
            seen_id = run + b"-%d" % seen[-1]
    assert seen == list(range(2, 602))


@pytest.mark.parametrize(("seen", "lost"), [(0, 6), (2, 4), (5, 1)])
async def test_what_the_history_no_longer_holds_is_counted_first(seen: int, lost: int) -> None:
    pipe = Pipe(history=4)
    async with serve(make_app(pipe)) as url, watch(url) as first:
        for _ in range(10):
            pipe.emit(Event())
        run = (await last_id(first)).partition(b"-")[0]
        await first.frames(9)
        async with watch(url, "", b"Last-Event-ID: %b-%d" % (run, seen)) as viewer:
            gap = b'event: missed\ndata: {"missed":%d,"reason":"history"}\n\n' % lost
            assert await viewer.frame() == gap
            assert [sequence(frame) for frame in await viewer.frames(4)] == [7, 8, 9, 10]
            pipe.emit(Event())
            assert sequence(await viewer.frame()) == 11


async def test_viewer_that_comes_back_just_in_time_has_lost_nothing() -> None:
    pipe = Pipe(history=4)
    async with serve(make_app(pipe)) as url, watch(url) as first:
        for _ in range(10):
            pipe.emit(Event())
        run = (await last_id(first)).partition(b"-")[0]
        await first.frames(9)
        async with watch(url, "", b"Last-Event-ID: " + run + b"-6") as viewer:
            assert [sequence(frame) for frame in await viewer.frames(4)] == [7, 8, 9, 10]


@pytest.mark.parametrize(
    "last_event_id",
    [
        b"00000000-2",
        b"garbage",
        b"-1",
        b"1",
        b"<run>-",
        b"<run>--1",
        b"<run>-4",
        b"<run>-1 or so",
        b"<run>-\xc2\xb2",
        b"\xff\xfe\xe9",
        "käse-1".encode(),
        b"x" * 4096,
        b"<run>-" + b"9" * 4096,
    ],
    ids=ascii,
)
async def test_unknown_id_gives_an_unknown_gap_and_all_that_is_held(last_event_id: bytes) -> None:
    pipe = Pipe(history=2)
    async with serve(make_app(pipe)) as url, watch(url) as first:
        for _ in range(3):
            pipe.emit(Event())
        run = (await last_id(first)).partition(b"-")[0]
        await first.frames(2)
        header = b"Last-Event-ID: " + last_event_id.replace(b"<run>", run)
        async with watch(url, "", header) as viewer:
            assert await viewer.frame() == b'event: missed\ndata: {"missed":null,"reason":"history"}\n\n'
            assert [sequence(frame) for frame in await viewer.frames(2)] == [2, 3]
            pipe.emit(Event())
            assert sequence(await viewer.frame()) == 4


@pytest.mark.parametrize("headers", [(), (b"Last-Event-ID: ",)], ids=["none", "empty"])
async def test_viewer_without_an_id_is_new(headers: tuple[bytes, ...]) -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url:
        pipe.emit(Event())
        await until(lambda: pipe.statistics().broadcast == 1)
        async with watch(url, "", *headers) as viewer:
            pipe.emit(Event())
            assert sequence(await viewer.frame()) == 2


async def test_returning_viewer_with_a_filter_gets_only_what_it_asks_for() -> None:
    pipe = Pipe(history=4)
    async with serve(make_app(pipe)) as url, watch(url) as first:
        for source in "abababab":
            pipe.emit(Event(source=source))
        run = (await last_id(first)).partition(b"-")[0]
        await first.frames(7)
        async with watch(url, "?source=a", b"Last-Event-ID: " + run + b"-1") as viewer:
            assert await viewer.frame() == b'event: missed\ndata: {"missed":null,"reason":"history"}\n\n'
            assert [sequence(frame) for frame in await viewer.frames(2)] == [5, 7]
            pipe.emit(Event(source="b"))
            pipe.emit(Event(source="a"))
            assert sequence(await viewer.frame()) == 10


async def test_history_longer_than_one_write_is_replayed_whole() -> None:
    pipe = Pipe(history=100)
    async with serve(make_app(pipe)) as url, watch(url) as first:
        for _ in range(40):
            pipe.emit(Event(subject="x" * 10_000))
        run = (await last_id(first)).partition(b"-")[0]
        await first.frames(39)
        async with watch(url, "", b"Last-Event-ID: " + run + b"-0") as viewer:
            assert [sequence(frame) for frame in await viewer.frames(40)] == list(range(1, 41))


async def test_returning_viewer_is_told_of_an_overload_while_it_was_away() -> None:
    pipe = Pipe(capacity=3)
    async with serve(make_app(pipe)) as url:
        async with watch(url) as viewer:
            pipe.emit(Event())
            seen = await last_id(viewer)
        await until(lambda: pipe.statistics().clients == 0)
        for _ in range(5):
            pipe.emit(Event())
        await until(lambda: pipe.statistics().broadcast == 4)
        async with watch(url, "", b"Last-Event-ID: " + seen) as viewer:
            assert [sequence(frame) for frame in await viewer.frames(3)] == [2, 3, 4]
            pipe.emit(Event())
            assert await viewer.frame() == b'event: missed\ndata: {"missed":2,"reason":"overload"}\n\n'
            assert sequence(await viewer.frame()) == 5


async def read_chunks(viewer: Connection, size: int) -> list[bytes]:
    """Return the chunks that so many bytes come in."""
    chunks: list[bytes] = []
    while sum(map(len, chunks)) < size:
        chunks.append(await viewer.chunk())
    return chunks


async def test_no_write_is_longer_than_64_kib_in_a_short_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vizpipe_trio._pace.BUSY_SECONDS", math.inf)  # it is short on any machine
    pipe = Pipe(history=1000)
    async with serve(make_app(pipe)) as url, watch(url) as first:
        for _ in range(500):
            pipe.emit(Event(subject="x" * 1000))
        live = await read_chunks(first, 500_000)
        run = live[0].removeprefix(b"id: ").partition(b"-")[0]
        async with watch(url, "", b"Last-Event-ID: " + run + b"-0") as viewer:
            replayed = await read_chunks(viewer, 500_000)
    assert 32_768 < max(map(len, live)) <= 65_536
    assert 32_768 < max(map(len, replayed)) <= 65_536


async def test_page_that_opens_a_new_stream_resumes_by_its_query() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as first:
        for _ in range(3):
            pipe.emit(Event())
        seen = await last_id(first)
        await first.frames(2)
        async with watch(url, "?last_event_id=" + seen.decode()) as viewer:
            assert [sequence(frame) for frame in await viewer.frames(2)] == [2, 3]
