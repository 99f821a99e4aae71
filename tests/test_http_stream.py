"""The event stream over real sockets: its head, its frames, its rhythm."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from support import (
    EVENTS,
    StreamReader,
    connect,
    make_app,
    sequence,
    serve,
    until,
    watch,
)

from vizpipe_trio import Event, Pipe, StageInfo

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


async def test_stream_has_exactly_these_headers() -> None:
    async with serve(make_app(Pipe())) as url, connect(url) as viewer:
        await viewer.request(EVENTS)
        status, headers = await viewer.head()
        assert status == 200
        assert headers.keys() - {"date", "server"} == {
            "content-type", "cache-control", "x-accel-buffering", "transfer-encoding",
            "x-content-type-options", "cross-origin-resource-policy",
        }  # fmt: skip
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-cache, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert headers["transfer-encoding"] == "chunked"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


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
