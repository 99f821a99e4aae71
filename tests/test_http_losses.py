"""What viewers over real sockets are told of their losses, and the filters that they ask for."""

from datetime import datetime
from typing import Any, cast

import pytest
import trio
from soak_viewers import Account
from support import (
    EVENTS,
    StreamReader,
    ask,
    make_app,
    sequence,
    serve,
    until,
    watch,
    width,
)

from vizpipe_trio import Event, Pipe, StageInfo


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


async def read_late(pipe: Pipe, query: str) -> list[bytes]:
    """Emit more than the entrance takes and than a viewer reads, and return what it reads in the end."""
    async with serve(make_app(pipe)) as url, watch(url, query, receive_buffer=4096) as slow:
        for _ in range(20):
            for number in range(110):
                pipe.emit(Event(op="WRITE" if number % 2 else "QUERY", subject="x" * 3000))
            await until(lambda: pipe.statistics().queued == 0)
        pipe.stop()
        return await slow.rest()


async def test_what_a_slow_viewer_reads_adds_up_to_the_ledger_in_order() -> None:
    pipe = Pipe(100, client_capacity=16, flush_interval=0)
    viewer = Account()
    viewer.read(b"".join(await read_late(pipe, "")))
    account = pipe.statistics()
    assert (account.emitted, account.dropped, account.broadcast) == (2200, 200, 2000)
    assert viewer.missed == {"slow": account.missed, "overload": 200, "history": 0}
    assert viewer.events == account.delivered == 2000 - account.missed
    assert account.missed > 0


async def test_what_a_slow_viewer_with_a_filter_reads_adds_up_to_the_ledger() -> None:
    pipe = Pipe(100, client_capacity=16, flush_interval=0)
    frames = await read_late(pipe, "?op=WRITE")
    account = pipe.statistics()
    slow = [frame for frame in frames if b'"reason":"slow"' in frame]
    numbers = [sequence(frame) for frame in frames if frame.startswith(b"id: ")]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == account.delivered
    assert sum(width(gap, "slow") for gap in slow) == account.missed > 0
    assert account.delivered + account.missed == account.filtered == 1000
    assert b'event: missed\ndata: {"missed":null,"reason":"overload"}\n\n' in frames


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
