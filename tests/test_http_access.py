"""Who gets in, over real sockets, and what the others are answered."""

from random import Random
from typing import Any, cast

import pytest
import trio
from quart_trio import QuartTrio
from support import (
    EVENTS,
    PREAMBLE,
    STATS,
    ask,
    connect,
    get,
    make_app,
    read_json,
    sequence,
    serve,
    until,
    watch,
)

from vizpipe_trio import Event, EventFilter, Pipe, Subscription
from vizpipe_trio.quart import viz_blueprint


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


async def test_stopped_pipe_sends_viewers_away() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url:
        pipe.stop()
        status, headers, body = await ask(url, EVENTS)
        assert status == 503
        assert headers["retry-after"] == "5"
        assert body == {"error": "the pipe has ended"}


async def test_a_pipe_that_was_cancelled_sends_viewers_away_until_it_runs_again() -> None:
    pipe = Pipe()
    app = QuartTrio("tests")
    app.register_blueprint(viz_blueprint(pipe, token=None))
    async with serve(app) as url:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            nursery.cancel_scope.cancel()
        status, headers, body = await ask(url, EVENTS)
        assert (status, headers["retry-after"]) == (503, "5")
        assert body == {"error": "the pipe was cancelled, and does not run"}
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            async with watch(url):
                nursery.cancel_scope.cancel()


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
            "refused": 0,
            "missed_overload": 2,
            "missed_history": 0,
            "missed_relay": 0,
            "missed_unknown": 0,
            "written_bytes": body["written_bytes"],
            "write_sizes": body["write_sizes"],
            "latency_seconds": body["latency_seconds"],
            "latencies": body["latencies"],
            "running": True,
            "stopped": False,
            "relay": None,
        }


class WatchedPipe(Pipe):
    """A pipe that remembers its clients."""

    def __init__(self) -> None:
        super().__init__(capacity=100, client_capacity=20, history=50)
        self.subscriptions: list[Subscription] = []

    def subscribe(self, filter: EventFilter | None = None, **more: Any) -> Subscription:  # noqa: A002
        self.subscriptions.append(super().subscribe(filter, **more))
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


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_clients": 0}, "max_clients must be at least 1, not 0"),
        ({"heartbeat_interval": 0}, "heartbeat_interval must be more than 0 seconds, not 0"),
        ({"heartbeat_interval": float("nan")}, "heartbeat_interval must be more than 0 seconds, not nan"),
    ],
)
def test_blueprint_refuses_limits_that_make_no_sense(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        viz_blueprint(Pipe(), token=None, **limits)
