"""The stream, the statistics and the dashboard's files, over real sockets."""

import json
import re
import socket
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal, cast

import pytest
import trio
from quart_trio import QuartTrio
from support import (
    EVENTS,
    PREAMBLE,
    STATS,
    Connection,
    StreamReader,
    connect,
    get,
    make_app,
    sequence,
    serve,
    until,
    watch,
)

from vizpipe_trio import Event, EventFilter, Pipe, StageInfo, Subscription
from vizpipe_trio.quart import viz_blueprint

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def tasks_living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def read_json(connection: Connection) -> tuple[int, dict[str, str], Any]:
    """Return a response that is JSON and says how long it is."""
    status, headers = await connection.head()
    assert headers["content-type"] == "application/json"
    return status, headers, json.loads(await connection.exactly(int(headers["content-length"])))


async def ask(url: str, target: str, *headers: bytes, **request: str) -> tuple[int, dict[str, str], Any]:
    async with connect(url) as connection:
        await connection.request(target, *headers, **request)
        return await read_json(connection)


async def last_id(viewer: Connection) -> bytes:
    """Return the ID of the next event."""
    return (await viewer.frame()).partition(b"\n")[0].removeprefix(b"id: ")


# The response


async def test_stream_has_exactly_these_headers() -> None:
    async with serve(make_app(Pipe())) as url, connect(url) as viewer:
        await viewer.request(EVENTS)
        status, headers = await viewer.head()
        assert status == 200
        assert headers.keys() - {"date", "server"} == {
            "content-type", "cache-control", "x-accel-buffering", "transfer-encoding",
        }  # fmt: skip
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-cache, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert headers["transfer-encoding"] == "chunked"


async def test_first_chunk_comes_before_any_event() -> None:
    async with serve(make_app(Pipe())) as url, connect(url) as viewer:
        await viewer.request(EVENTS)
        await viewer.head()
        assert await viewer.chunk() == b"retry: 2000\n: vizpipe\n\n"


async def test_event_is_one_message_with_an_id_and_fields_in_order() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        stages = [StageInfo(1, "cache", 0.25), StageInfo(2, "vectors", 1.5, hit=True)]
        pipe.emit(
            Event(NEW_YEAR, "req-1", "search", "QUERY", "käse", "agent", "FILTERED", ["a"], 3, 1.75, stages)
        )
        frame = await viewer.frame()
        first, rest = frame.split(b"\n", 1)
        assert re.fullmatch(rb"id: [0-9a-f]+-1", first)
        assert rest == (
            b'data: {"ts":"2026-01-01T00:00:00Z","request_id":"req-1","source":"search","op":"QUERY",'
            b'"subject":"k\xc3\xa4se","actor_type":"agent","status":"FILTERED","labels":["a"],'
            b'"result_count":3,"total_ms":1.75,"stages":[{"stage":1,"name":"cache","ms":0.25,"hit":false},'
            b'{"stage":2,"name":"vectors","ms":1.5,"hit":true}]}\n\n'
        )


async def test_write_has_no_stages_and_labels_are_always_a_list() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        pipe.emit(Event(NEW_YEAR, op="WRITE"))
        assert (await viewer.frame()).partition(b"\n")[2] == (
            b'data: {"ts":"2026-01-01T00:00:00Z","request_id":"","source":"","op":"WRITE","subject":"",'
            b'"actor_type":"user","status":"ALLOWED","labels":[],"result_count":0,"total_ms":0.0,'
            b'"stages":null}\n\n'
        )


async def test_line_breaks_in_an_event_do_not_break_its_frame() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        pipe.emit(Event(subject="a\n\nevent: missed\r\ndata: 1\n\n\u2028\0"))
        frame = await viewer.frame()
        assert frame.count(b"\n") == 3
        assert b"\r" not in frame
        assert json.loads(frame.partition(b"\ndata: ")[2])["subject"] == (
            "a\n\nevent: missed\r\ndata: 1\n\n\u2028\0"
        )


async def test_ids_count_up_by_one_across_batches() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        for _ in range(2):
            for _ in range(3):
                pipe.emit(Event())
            await viewer.frames(2)
            pipe.emit(Event())
            await viewer.frames(2)
        pipe.emit(Event())
        assert sequence(await viewer.frame()) == 9


async def test_two_viewers_get_the_same_bytes() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as one, watch(url) as two:
        for number in range(50):
            pipe.emit(Event(request_id=f"r{number}"))
        frames = await one.frames(50)
        assert [sequence(frame) for frame in frames] == list(range(1, 51))
        assert await two.frames(50) == frames


async def test_a_parser_that_is_not_ours_reads_the_stream() -> None:
    pipe = Pipe(capacity=2)
    async with serve(make_app(pipe)) as url, trio.open_nursery() as nursery:
        reader = StreamReader(url)
        await nursery.start(reader.run)
        for number in range(3):
            pipe.emit(Event(request_id=f"r{number}"))
        await until(lambda: len(reader.events) == 3)
        pipe.stop()
    assert [(event.event, event.json().get("request_id")) for event in reader.events] == [
        ("message", "r0"),
        ("message", "r1"),
        ("missed", None),
    ]
    assert reader.events[2].json() == {"missed": 1, "reason": "overload"}


# Time


async def test_silence_is_broken_by_comments_and_then_by_events() -> None:
    pipe = Pipe()
    began = trio.current_time()
    async with serve(make_app(pipe, heartbeat_interval=0.05)) as url, watch(url) as viewer:
        assert await viewer.frames(3) == [b": keep-alive\n\n"] * 3
        assert trio.current_time() - began >= 0.15
        pipe.emit(Event(request_id="r1"))
        assert b'"request_id":"r1"' in await viewer.frame()


async def test_stream_outlives_the_apps_response_timeout() -> None:
    pipe = Pipe()
    app = make_app(pipe, heartbeat_interval=0.1)
    app.config["RESPONSE_TIMEOUT"] = 0.3
    async with serve(app) as url, watch(url) as viewer:
        assert await viewer.frames(6) == [b": keep-alive\n\n"] * 6
        pipe.emit(Event(request_id="r1"))
        assert b'"request_id":"r1"' in await viewer.frame()


async def test_response_timeout_still_holds_for_the_apps_other_responses() -> None:
    app = make_app(Pipe())
    app.config["RESPONSE_TIMEOUT"] = 0.1

    @app.get("/slow")
    async def slow() -> tuple[Any, int]:
        await trio.lowlevel.checkpoint()

        async def body() -> Any:
            yield b"begun"
            await trio.sleep_forever()

        return body(), 200

    async with serve(app) as url, connect(url) as client:
        await client.request("/slow")
        await client.head()
        assert await client.chunk() == b"begun"
        with pytest.raises(EOFError):
            await client.chunk()


# Coming back


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


async def test_no_write_is_longer_than_64_kib() -> None:
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


# Losses


def width(frame: bytes, reason: str) -> int:
    """Return how many events a frame stands for: itself, or those that it says are missing."""
    if not frame.startswith(b"event: missed\n"):
        return 1
    gap = json.loads(frame.partition(b"\ndata: ")[2])
    assert gap["reason"] == reason
    return int(gap["missed"])


async def test_slow_viewer_is_told_what_it_missed_and_the_others_miss_nothing() -> None:
    pipe = Pipe(client_capacity=16, flush_interval=0)
    async with (
        serve(make_app(pipe)) as url,
        watch(url) as fast,
        watch(url, receive_buffer=4096) as slow,
    ):
        frames: list[bytes] = []
        for number in range(1, 301):
            pipe.emit(Event(subject="x" * 10_000))
            assert sequence(await fast.frame()) == number
            if number % 50 == 0:
                frames += await slow.frames(8)
        while sum(width(frame, "slow") for frame in frames) < 300:
            frames.append(await slow.frame())
        number = 0
        for frame in frames:
            number += width(frame, "slow")
            assert frame.startswith(b"event: missed\n") or sequence(frame) == number
        assert number == 300
        gaps = [frame for frame in frames if frame.startswith(b"event: missed\n")]
        assert len(gaps) >= 2
        assert pipe.statistics().missed == sum(width(gap, "slow") for gap in gaps)


async def test_overload_is_told_with_its_count_behind_what_was_waiting() -> None:
    pipe = Pipe(capacity=5)
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        assert [pipe.emit(Event()) for _ in range(8)] == [True] * 5 + [False] * 3
        assert [sequence(frame) for frame in await viewer.frames(5)] == [1, 2, 3, 4, 5]
        assert await viewer.frame() == b'event: missed\ndata: {"missed":3,"reason":"overload"}\n\n'
        pipe.emit(Event())
        assert sequence(await viewer.frame()) == 6


async def test_each_overload_is_told_in_its_place() -> None:
    pipe = Pipe(capacity=2)
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        for burst in (3, 2, 6):
            for _ in range(burst):
                pipe.emit(Event())
            await until(lambda: pipe.statistics().queued == 0)
        pipe.stop()
        told = [
            sequence(frame) if frame.startswith(b"id: ") else frame.decode() for frame in await viewer.rest()
        ]
    assert told == [
        1,
        2,
        'event: missed\ndata: {"missed":1,"reason":"overload"}\n\n',
        3,
        4,
        5,
        6,
        'event: missed\ndata: {"missed":4,"reason":"overload"}\n\n',
    ]


async def test_viewer_with_a_filter_cannot_know_what_an_overload_cost_it() -> None:
    pipe = Pipe(capacity=4)
    async with serve(make_app(pipe)) as url, watch(url, "?source=a") as viewer:
        for source in "abab" + "aaa":
            pipe.emit(Event(source=source))
        assert [sequence(frame) for frame in await viewer.frames(2)] == [1, 3]
        assert await viewer.frame() == b'event: missed\ndata: {"missed":null,"reason":"overload"}\n\n'


INVALID: dict[str, Any] = {
    "a label that is an object": Event(labels=cast("Any", [object()])),
    "a label that is a number": Event(labels=cast("Any", [1])),
    "a string as labels": Event(labels="abc"),
    "a naive timestamp": Event(datetime(2026, 1, 1)),  # noqa: DTZ001 - that is what is wrong with it
    "not a number": Event(total_ms=float("nan")),
    "an infinite stage": Event(stages=[StageInfo(1, "a", ms=float("inf"))]),
    "a lone surrogate": Event(subject="\ud800"),
    "an unknown op": Event(op=cast("Any", "DELETE")),
    "too long": Event(subject="x" * 100_000),
    "not an event": "an event",
    "nothing": None,
}


@pytest.mark.parametrize("what", INVALID)
async def test_invalid_event_is_counted_and_the_next_one_flows(what: str) -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        pipe.emit(Event())
        assert pipe.emit(INVALID[what])
        pipe.emit(Event())
        assert [sequence(frame) for frame in await viewer.frames(2)] == [1, 2]
        async with watch(url, "?label=a&source=b"):  # a filter does not meet it either
            pipe.emit(INVALID[what])
            pipe.emit(Event())
            assert sequence(await viewer.frame()) == 3
        assert pipe.statistics().invalid == 2


# Filters

CHOICE = [
    Event(request_id="a", source="search", labels=["x"]),
    Event(request_id="b", source="notes", op="WRITE", actor_type="agent", status="DENIED", labels=("y",)),
    Event(request_id="c", source="search", actor_type="agent", status="FILTERED", labels=["x", "y"]),
    Event(request_id="d", source="käse & co", op="WRITE", actor_type="system"),
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "abcd"),
        ("?op=WRITE", "bd"),
        ("?status=DENIED", "b"),
        ("?source=search", "ac"),
        ("?source=k%C3%A4se+%26%20co", "d"),
        ("?source=nobody", ""),
        ("?actor_type=agent", "bc"),
        ("?label=x", "ac"),
        ("?op=QUERY&op=WRITE", "abcd"),
        ("?label=x&label=y", "abc"),
        ("?status=ALLOWED&status=DENIED", "abd"),
        ("?op=QUERY&actor_type=agent", "c"),
        ("?op=WRITE&label=x", ""),
        ("?source=search&source=notes&actor_type=agent&label=y&status=DENIED", "b"),
    ],
)
async def test_filters_of_one_name_add_up_and_those_of_several_narrow(query: str, expected: str) -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, trio.open_nursery() as nursery:
        reader = StreamReader(url, query)
        await nursery.start(reader.run)
        for event in CHOICE:
            pipe.emit(event)
        pipe.stop()
    assert [event.json()["request_id"] for event in reader.events] == list(expected)


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ("nonsense=1", ["actor_type", "label", "op", "source", "status"]),
        ("op=WRITE&Status=DENIED", ["actor_type", "label", "op", "source", "status"]),
        ("op=DELETE", ["QUERY", "WRITE"]),
        ("op=WRITE&op=write", ["QUERY", "WRITE"]),
        ("op=", ["QUERY", "WRITE"]),
        ("status=OK", ["ALLOWED", "DENIED", "FILTERED"]),
        ("actor_type=%ff", ["agent", "system", "user"]),
    ],
)
async def test_filter_that_does_not_exist_is_refused_with_what_is_allowed(
    query: str, allowed: list[str]
) -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url:
        status, _, body = await ask(url, f"{EVENTS}?{query}")
        assert status == 400
        assert body.keys() == {"error", "allowed"}
        assert body["allowed"] == allowed
        assert pipe.statistics().clients == 0


# Who is let in


@pytest.mark.parametrize("path", [EVENTS, STATS])
@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", (b"Authorization: Bearer right",)),
        ("", (b"Authorization: bearer  right",)),
        ("?token=right", ()),
        ("?token=right", (b"X-Forwarded-For: 192.0.2.1",)),
    ],
    ids=["header", "header in lower case", "query", "query, through a proxy"],
)
async def test_right_token_is_let_in(path: str, query: str, headers: tuple[bytes, ...]) -> None:
    async with serve(make_app(Pipe(), token="right")) as url, connect(url) as client:
        await client.request(path + query, *headers, host="viz.example")
        status, _ = await client.head()
        assert status == 200


@pytest.mark.parametrize("path", [EVENTS, STATS])
@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", ()),
        ("?token=", ()),
        ("?token=wrong", ()),
        ("?token=righ", ()),
        ("?token=rightt", ()),
        ("?token=r%C3%AFght", ()),
        ("?token=%ff", ()),
        ("?op=WRITE", ()),
        ("", (b"Authorization: Bearer wrong",)),
        ("", (b"Authorization: Bearer",)),
        ("", (b"Authorization: Bearer r\xc3\xafght",)),
        ("", (b"Authorization: Bearer \xff",)),
        ("", (b"Authorization: Basic right",)),
        ("", (b"Authorization: right",)),
        ("", (b"Cookie: token=right",)),
    ],
)
async def test_without_the_right_token_nobody_is_let_in(
    path: str, query: str, headers: tuple[bytes, ...]
) -> None:
    pipe = Pipe()
    async with serve(make_app(pipe, token="right")) as url:
        status, answer, body = await ask(url, path + query, *headers)
        assert status == 401
        assert answer["www-authenticate"] == "Bearer"
        assert body.keys() == {"error"}
        assert pipe.statistics().clients == 0


async def test_token_and_filters_go_together() -> None:
    pipe = Pipe()
    async with (
        serve(make_app(pipe, token="right")) as url,
        watch(url, "?op=WRITE&token=right") as viewer,
    ):
        pipe.emit(Event())
        pipe.emit(Event(op="WRITE"))
        assert sequence(await viewer.frame()) == 2


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "käse", "\x7f"])
def test_token_that_protects_nothing_or_fits_no_header_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        viz_blueprint(Pipe(), token=token)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000"])
async def test_without_a_token_clients_on_this_machine_are_let_in(host: str) -> None:
    async with serve(make_app(Pipe())) as url:
        status, _, _ = await ask(url, STATS, host=host)
        assert status == 200


@pytest.mark.parametrize("path", [EVENTS, STATS])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.0.2.1",
        "",
    ],
)
async def test_without_a_token_a_page_whose_name_was_rebound_is_refused(path: str, host: str) -> None:
    async with serve(make_app(Pipe())) as url:
        status, _, body = await ask(url, path, host=host)
        assert status == 403
        assert "token" in body["error"]


@pytest.mark.parametrize("path", [EVENTS, STATS])
@pytest.mark.parametrize(
    "header",
    [b"X-Forwarded-For: 192.0.2.1", b"x-forwarded-for: ", b"Forwarded: for=192.0.2.1", b"X-Real-IP: ::1"],
)
async def test_without_a_token_what_comes_through_a_proxy_is_refused(path: str, header: bytes) -> None:
    async with serve(make_app(Pipe())) as url:
        status, _, body = await ask(url, path, header)
        assert status == 403
        assert "proxy" in body["error"]


# Places


async def test_one_viewer_too_many_is_sent_away_until_another_leaves() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe, max_clients=2)) as url, watch(url):
        async with watch(url):
            status, headers, body = await ask(url, EVENTS)
            assert status == 503
            assert headers["retry-after"] == "5"
            assert body.keys() == {"error"}
        await until(lambda: pipe.statistics().clients == 1)
        async with watch(url) as viewer:
            pipe.emit(Event())
            assert sequence(await viewer.frame()) == 1


class Peak(trio.abc.Instrument):
    """The most clients that the pipe ever had."""

    def __init__(self, pipe: Pipe) -> None:
        self.clients = 0
        self._pipe = pipe

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.clients = max(self.clients, self._pipe.statistics().clients)


async def test_many_that_come_at_once_never_exceed_the_limit() -> None:
    pipe = Pipe()
    peak = Peak(pipe)
    viewing: list[int] = []
    refused: list[int] = []

    async def come(url: str) -> None:
        async with connect(url) as viewer:
            await viewer.request(EVENTS)
            status, _ = await viewer.head()
            if status == 200 and await viewer.frame() == PREAMBLE:
                viewing.append(status)
                await viewer.rest()
            else:
                refused.append(status)

    trio.lowlevel.add_instrument(peak)
    async with serve(make_app(pipe, max_clients=5)) as url, trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(come, url)
        await until(lambda: len(viewing) + len(refused) == 60)
        assert len(viewing) == pipe.statistics().clients == 5
        pipe.stop()
    assert peak.clients == 5


async def test_viewer_that_lost_the_race_for_the_last_place_is_told_to_come_again_later() -> None:
    pipe = Pipe()
    app = make_app(pipe, max_clients=1)
    meet = trio.Event()
    waiting: list[None] = []

    @app.after_request
    async def wait_for_the_other(response: Any) -> Any:
        # Both have been told 200 by the view, and neither has begun its stream.
        waiting.append(None)
        if len(waiting) == 2:
            meet.set()
        await meet.wait()
        return response

    async with serve(app) as url, connect(url) as one, connect(url) as two:
        for viewer in (one, two):
            await viewer.request(EVENTS)
        for viewer in (one, two):
            assert (await viewer.head())[0] == 200
        first = {await viewer.frame(): viewer for viewer in (one, two)}
        assert first.keys() == {PREAMBLE, b"retry: 5000\n: vizpipe\n\n"}
        assert await first[b"retry: 5000\n: vizpipe\n\n"].rest() == []
        assert pipe.statistics().clients == 1


# Other requests


async def test_stopped_pipe_sends_viewers_away() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url:
        pipe.stop()
        status, headers, body = await ask(url, EVENTS)
        assert status == 503
        assert headers["retry-after"] == "5"
        assert body.keys() == {"error"}


@pytest.mark.parametrize("path", [EVENTS, STATS])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_not_allowed(path: str, method: str) -> None:
    async with serve(make_app(Pipe())) as url:
        status, headers, body = await ask(url, path, method=method)
        assert status == 405
        assert headers["allow"] == "GET, HEAD"
        assert body.keys() == {"error"}


async def test_head_has_the_streams_headers_and_no_body() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, connect(url) as client:
        await client.request(EVENTS, method="HEAD")
        status, headers = await client.head()
        assert status == 200
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-cache, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert pipe.statistics().clients == 0
        await client.request(STATS)  # it has ended, since the next one is answered
        assert (await read_json(client))[0] == 200


async def test_statistics_are_the_account_as_json() -> None:
    pipe = Pipe(capacity=3)
    async with serve(make_app(pipe)) as url, watch(url, "?source=a") as viewer:
        for source in "abc" + "ab":
            pipe.emit(Event(source=source))
        await viewer.frames(2)
        pipe.emit(Event(total_ms=float("inf")))
        await until(lambda: pipe.statistics().queued == 0)
        status, headers, body = await ask(url, STATS)
        assert status == 200
        assert headers["cache-control"] == "no-store"
        assert body == {
            "emitted": 6,
            "dropped": 2,
            "invalid": 1,
            "broadcast": 3,
            "queued": 0,
            "capacity": 3,
            "clients": 1,
            "delivered": 1,
            "missed": 0,
            "filtered": 2,
            "running": True,
            "stopped": False,
        }


class WatchedPipe(Pipe):
    """A pipe that remembers its clients."""

    def __init__(self) -> None:
        super().__init__(capacity=100, client_capacity=20, history=50)
        self.subscriptions: list[Subscription] = []

    def subscribe(self, filter: EventFilter | None = None) -> Subscription:  # noqa: A002
        self.subscriptions.append(super().subscribe(filter))
        return self.subscriptions[-1]


async def test_account_balances_at_any_moment_whatever_the_viewers_do() -> None:
    random = Random(11)
    pipe = WatchedPipe()
    read = 0

    async def view(url: str, query: str, frames: int) -> None:
        nonlocal read
        async with watch(url, query, receive_buffer=4096) as viewer:
            for _ in range(frames):
                frame = await viewer.frame()
                read += frame.startswith(b"id: ")
                await trio.lowlevel.checkpoint()

    async with serve(make_app(pipe)) as url, trio.open_nursery() as nursery:
        for frames in range(0, 60, 5):
            nursery.start_soon(view, url, "" if frames % 2 else "?op=QUERY", frames)
        while pipe.statistics().emitted < 3000 or pipe.statistics().clients:
            for _ in range(random.randint(1, 150)):
                fields = random.choice(
                    [{}, {"op": "WRITE"}, {"subject": "x" * 2000}, {"total_ms": float("nan")}]
                )
                pipe.emit(Event(**cast("dict[str, Any]", fields)))
            account = (await get(url, STATS)).json()
            assert account["emitted"] == sum(
                account[part] for part in ("dropped", "invalid", "broadcast", "queued")
            )
            for client in pipe.subscriptions:
                parts = client.delivered, client.missed, client.filtered, client.queued
                assert client.offered == sum(parts)
    assert len(pipe.subscriptions) == 12
    assert pipe.statistics().dropped > 0
    assert pipe.statistics().invalid > 0
    assert 0 < read <= pipe.statistics().delivered == sum(client.delivered for client in pipe.subscriptions)
    assert 0 < pipe.statistics().filtered == sum(client.filtered for client in pipe.subscriptions)
    assert 0 < pipe.statistics().missed == sum(client.missed for client in pipe.subscriptions)


# The end


async def test_stopping_the_pipe_ends_every_stream_properly() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as one, watch(url) as two, watch(url) as three:
        pipe.emit(Event())
        assert sequence(await one.frame()) == 1
        pipe.emit(Event())
        pipe.stop()
        assert [sequence(frame) for frame in await one.rest()] == [2]
        for viewer in (two, three):
            assert [sequence(frame) for frame in await viewer.rest()] == [1, 2]
        await until(lambda: pipe.statistics().clients == 0)


async def test_the_chunk_that_ends_the_body_is_the_last_thing_on_the_wire() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        pipe.stop()
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += (received := await viewer.stream.receive_some())
            assert received
        assert data == b"0\r\n\r\n"


async def test_cancelling_the_pipe_ends_every_stream_properly() -> None:
    pipe = Pipe()
    app = QuartTrio("tests")
    app.register_blueprint(viz_blueprint(pipe, token=None))
    async with serve(app) as url, trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        async with watch(url) as one, watch(url) as two:
            pipe.emit(Event())
            assert sequence(await one.frame()) == 1
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await one.rest() == []
                assert [sequence(frame) for frame in await two.rest()] == [1]


async def test_stream_of_a_pipe_that_is_not_running_yet_waits_for_it() -> None:
    pipe = Pipe()
    app = QuartTrio("tests")
    app.register_blueprint(viz_blueprint(pipe, token=None))
    async with serve(app) as url, watch(url) as viewer, trio.open_nursery() as nursery:
        pipe.emit(Event())
        await nursery.start(pipe.run)
        assert sequence(await viewer.frame()) == 1
        pipe.stop()


async def test_viewer_that_dawdles_at_the_end_is_told_what_it_missed() -> None:
    pipe = Pipe(flush_interval=0)
    async with serve(make_app(pipe)) as url, watch(url, receive_buffer=4096) as viewer:
        for _ in range(1000):
            pipe.emit(Event(subject="x" * 4000))
        await until(lambda: pipe.statistics().broadcast == 1000)
        pipe.stop()
        began = trio.current_time()
        number = 0
        while frame := await viewer.frame():
            number += width(frame, "slow")
            if frame.startswith(b"id: "):
                assert sequence(frame) == number
                await trio.sleep(0.005)  # it dawdles
        assert number == 1000
        assert pipe.statistics().missed > 100
        assert trio.current_time() - began < 4


async def end_without_a_word(client: Connection) -> None:
    """Reset the connection."""
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.stream.aclose()


@pytest.mark.parametrize("request_it", [False, True], ids=["no request", "a request"])
async def test_client_that_never_reads_leaves_nothing_behind(request_it: Literal[False, True]) -> None:
    pipe = Pipe(client_capacity=4, flush_interval=0)
    async with serve(make_app(pipe)) as url:
        before = tasks_living()
        async with connect(url, receive_buffer=4096) as client:
            if request_it:
                await client.request(EVENTS)
                await until(lambda: pipe.statistics().clients == 1)
            else:
                await until(lambda: tasks_living() > before)
            for _ in range(1000):
                pipe.emit(Event(subject="x" * 1000))
            await until(lambda: pipe.statistics().queued == 0)
        await until(lambda: pipe.statistics().clients == 0 and tasks_living() == before)


async def leave_before_the_request(client: Connection) -> None:
    await client.stream.send_all(b"GET /api/viz/ev")


async def leave_before_the_response(client: Connection) -> None:
    await client.request(EVENTS)


async def leave_after_the_headers(client: Connection) -> None:
    await client.request(EVENTS)
    await client.head()


async def leave_in_the_middle(client: Connection) -> None:
    await client.request(EVENTS)
    await client.head()
    await client.frames(5)


async def leave_with_a_reset(client: Connection) -> None:
    await leave_in_the_middle(client)
    await end_without_a_word(client)


async def leave_half(client: Connection) -> None:
    """Send no more, and read what still comes."""
    await leave_in_the_middle(client)
    await client.stream.send_eof()
    with pytest.raises(EOFError):
        await client.rest()


LEAVE: list[Callable[[Connection], Any]] = [
    leave_before_the_request,
    leave_before_the_response,
    leave_after_the_headers,
    leave_in_the_middle,
    leave_with_a_reset,
    leave_half,
]


async def test_a_hundred_that_come_and_go_leave_nothing_behind() -> None:
    pipe = Pipe()

    async def visit(url: str, leave: Callable[[Connection], Any]) -> None:
        async with connect(url) as client:
            await leave(client)

    async def keep_emitting() -> None:
        while True:
            pipe.emit(Event())
            await trio.sleep(0.001)

    async with serve(make_app(pipe, max_clients=100)) as url:
        before = tasks_living()
        async with trio.open_nursery() as visitors:
            visitors.start_soon(keep_emitting)
            async with trio.open_nursery() as hundred:
                for number in range(100):
                    hundred.start_soon(visit, url, LEAVE[number % len(LEAVE)])
            visitors.cancel_scope.cancel()
        await until(lambda: pipe.statistics().clients == 0 and tasks_living() == before)
        async with AsyncExitStack() as places:  # none is lost
            for _ in range(100):
                await places.enter_async_context(watch(url))
            assert pipe.statistics().clients == 100


# The dashboard


async def test_page_runs_only_its_own_code_and_says_where_it_came_from_to_nobody() -> None:
    async with serve(make_app(Pipe(), token="right")) as url:
        response = await get(url, "/viz/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_each_file_that_the_page_names_is_served() -> None:
    types = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
    async with serve(make_app(Pipe(), token="right")) as url:
        page = (await get(url, "/viz/")).text
        names = re.findall(r'(?:href|src)="([^"]*)"', page)
        assert len(names) >= 2
        for name in names:
            assert re.fullmatch(r"[a-z]+\.(css|js)", name)
            response = await get(url, f"/viz/{name}")
            assert response.status_code == 200
            assert response.headers["content-type"] == types[name.rpartition(".")[2]]
            assert "content-security-policy" in response.headers


async def test_page_has_no_code_or_style_that_its_policy_would_refuse() -> None:
    async with serve(make_app(Pipe())) as url:
        page = (await get(url, "/viz/")).text
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page) == []


async def test_page_without_its_slash_keeps_the_query_when_it_is_sent_on() -> None:
    async with serve(make_app(Pipe())) as url:
        response = await get(url, "/viz?token=right")
    assert response.status_code == 308
    assert response.headers["location"].endswith("/viz/?token=right")
