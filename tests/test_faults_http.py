"""Faults in what serves one viewer, on real sockets: they end that viewer's stream and nothing else."""

import pytest
from faults import Fault, check_ledger
from quart_trio import QuartTrio
from support import (
    EVENTS,
    STATS,
    Connection,
    connect,
    get,
    make_app,
    sequence,
    serve,
    tasks_living,
    until,
    watch,
)
from trio.testing import wait_all_tasks_blocked

from vizpipe_trio import Event, Pipe


def with_ping(app: QuartTrio) -> QuartTrio:
    @app.get("/ping")
    async def ping() -> str:  # noqa: ASYNC124 - the framework's interface
        return "pong"

    return app


async def read_all(viewer: Connection) -> None:
    await viewer.head()
    await viewer.rest()


# What a viewer's own task does, from its first step to its last.
SEAMS = [
    "_pipe.Pipe.replay",
    "_log.Log.resume",
    "_pipe.ClientQueue",
    "_pipe.Pipe.subscribe",
    "_stream.EventStream.__anext__",
    "_mailbox.Mailbox.until_ready",
    "_pipe.Pipe._fell_silent",
    "_mailbox.Mailbox.take_bytes",
    "_client.ClientQueue.take",
    "_batch.Batch.head",
]


@pytest.mark.parametrize("seam", SEAMS)
async def test_a_stream_that_breaks_ends_alone_and_leaves_its_place(
    seam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe()
    app = with_ping(make_app(pipe, max_clients=2))
    async with serve(app, errors_logged=1) as url, watch(url, "?op=WRITE") as other:
        await wait_all_tasks_blocked(0.01)  # the other's own task is past all that
        before = tasks_living()
        async with connect(url) as viewer:
            fault = Fault(monkeypatch, seam, 1, RuntimeError("a fault of ours"))
            await viewer.request(EVENTS + "?last_event_id=a-1")
            await until(lambda: not fault.left or pipe.statistics().clients == 2)
            pipe.emit(Event(op="QUERY"))  # not for the other
            with pytest.raises(EOFError):
                await read_all(viewer)
        await until(lambda: tasks_living() == before and pipe.statistics().clients == 1)
        assert (await get(url, "/ping")).text == "pong"
        async with watch(url) as next_one:
            pipe.emit(Event(op="WRITE"))
            assert sequence(await other.frame()) == sequence(await next_one.frame()) == 2
        check_ledger(pipe)


@pytest.mark.parametrize(
    ("seam", "target"),
    [
        ("_pipe.Pipe.statistics", STATS),
        ("_places.Places.full_for", EVENTS),
        ("_gate.Gate.check", STATS),
        ("_gate.check_loopback", EVENTS),
        ("quart.parse_filter", EVENTS),
        ("quart.EventStream", EVENTS),
        ("quart._response", "/viz/"),
    ],
)
async def test_a_view_that_breaks_answers_500_and_the_next_request_is_served(
    seam: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe()
    async with serve(make_app(pipe), errors_logged=1) as url, watch(url) as other:
        Fault(monkeypatch, seam, 1, RuntimeError("a fault of ours"))
        assert (await get(url, target)).status_code == 500
        assert (await get(url, STATS)).status_code == 200
        pipe.emit(Event())
        assert sequence(await other.frame()) == 1


@pytest.mark.parametrize("seam", ["_intake.encode_event", "_intake.event_frame", "_log.Log.extend"])
async def test_an_event_that_a_fault_costs_is_invalid_and_the_next_one_arrives(
    seam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe()
    async with serve(with_ping(make_app(pipe)), errors_logged=1) as url, watch(url) as viewer:
        Fault(monkeypatch, seam, 1, RuntimeError("a fault of ours"))
        pipe.emit(Event())
        await until(lambda: pipe.statistics().queued == 0)
        pipe.emit(Event(request_id="next"))
        assert b'"request_id":"next"' in await viewer.frame()
        assert pipe.statistics().invalid == 1
        assert (await get(url, "/ping")).text == "pong"


async def test_a_filter_that_breaks_costs_its_viewer_the_event_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url, "?op=QUERY") as viewer, watch(url) as other:
        Fault(monkeypatch, "_filter.FieldFilter.__call__", 1, RuntimeError("a fault of ours"))
        for _ in range(2):
            pipe.emit(Event())
        assert sequence(await viewer.frame()) == 2
        assert [sequence(frame) for frame in await other.frames(2)] == [1, 2]
        assert pipe.statistics().filtered == 1


async def test_a_gap_that_a_fault_costs_is_told_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()
    async with serve(make_app(pipe), errors_logged=1) as url, watch(url) as viewer:
        pipe.emit(Event())
        assert sequence(await viewer.frame()) == 1
        Fault(monkeypatch, "_log.Log.since", 1, RuntimeError("a fault of ours"))
        pipe.emit(Event())
        assert await viewer.frame() == b'event: missed\ndata: {"missed":null,"reason":"history"}\n\n'
        pipe.emit(Event())
        assert sequence(await viewer.frame()) == 3
