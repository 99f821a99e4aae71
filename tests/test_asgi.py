"""Any ASGI app on Trio: its requests recorded, its responses event streams."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from support import EVENTS, connect, sequence, serve, tasks_living, until, watch
from trio.testing import MockClock

from vizpipe_trio import Event, Pipe, Subscription, current_recording
from vizpipe_trio.asgi import EventStream, EventStreamResponse, RecordRequests
from vizpipe_trio.client import open_events
from vizpipe_trio.quart import viz_blueprint
from vizpipe_trio.testing import check_stream, make_event, stalled_client, wait_for_events

# Recording.


def recorded_app(pipe: Pipe) -> QuartTrio:
    """Return a Quart-Trio app with the one line that records it; the pipe runs elsewhere."""
    app = QuartTrio("tests")

    @app.route("/notes/<name>", methods=["GET", "POST"])
    async def notes(name: str) -> str:
        with current_recording().stage("look up") as stage:
            await trio.lowlevel.checkpoint()
            stage.hit = True
        current_recording().result_count = 7
        return name

    @app.get("/forbidden")
    async def forbidden() -> tuple[str, int]:
        await trio.lowlevel.checkpoint()
        return "no", 403

    @app.get("/broken")
    async def broken() -> str:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("it is broken")

    app.asgi_app = RecordRequests(app.asgi_app, pipe, source="app")  # type: ignore[method-assign]
    return app


async def test_one_line_records_every_request_of_a_quart_trio_app(
    viz_pipe: Pipe, viz_events: Subscription
) -> None:
    client = recorded_app(viz_pipe).test_client()
    await client.get("/notes/a?token=secret", headers={"X-Request-ID": "r-1"})
    await client.post("/notes/b")
    read, write = await wait_for_events(viz_events, 2)
    assert (read.request_id, read.source, read.op, read.subject) == ("r-1", "app", "QUERY", "/notes/a")
    assert (read.status, read.labels, read.result_count) == ("ALLOWED", ["GET", "200"], 7)
    assert read.stages is not None
    [stage] = read.stages
    assert (stage.name, stage.hit) == ("look up", True)
    assert 0 < stage.ms < read.total_ms
    assert (write.op, write.labels) == ("WRITE", ["POST", "200"])


@pytest.mark.parametrize(
    ("path", "status", "labels"),
    [
        ("/forbidden", "DENIED", ["GET", "403"]),
        ("/nowhere", "ALLOWED", ["GET", "404"]),
        ("/broken", "ALLOWED", ["GET", "500", "error"]),
    ],
)
async def test_what_became_of_a_request_is_its_status_and_labels(
    viz_pipe: Pipe, viz_events: Subscription, path: str, status: str, labels: list[str]
) -> None:
    app = recorded_app(viz_pipe)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    await app.test_client().get(path)
    [event] = await wait_for_events(viz_events)
    assert (event.status, event.labels) == (status, labels)


async def test_no_client_can_keep_its_request_out_of_the_picture(
    viz_pipe: Pipe, viz_events: Subscription
) -> None:
    """By making the event too long, of which `Pipe` takes no more than 60 KiB."""
    headers = [(b"x-request-id", b"\xff" * 33_000)]
    scope = {"type": "http", "method": "G" * 64_000, "path": "/\0" * 32_000, "headers": headers}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.lowlevel.checkpoint()

    await RecordRequests(app, viz_pipe)(scope, trio.sleep_forever, trio.sleep)
    [event] = await wait_for_events(viz_events)
    assert event.subject == "/\0" * 1000
    assert len(event.request_id) == len(event.labels[0]) == 2000


@pytest.mark.parametrize("prefix", ["", "/ops/inner"])
async def test_who_looks_at_the_picture_is_not_in_it(
    viz_pipe: Pipe, viz_events: Subscription, prefix: str
) -> None:
    app = QuartTrio("tests")
    app.register_blueprint(viz_blueprint(viz_pipe, token="sesame", url_prefix=prefix))
    app.asgi_app = RecordRequests(app.asgi_app, viz_pipe)  # type: ignore[method-assign]
    paths = [rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("vizpipe.")]
    assert {f"{prefix}/api/viz/events", f"{prefix}/viz/", f"{prefix}/viz/worker.js"} < set(paths)
    paths.remove(f"{prefix}/viz")  # a redirect to the page is as any other request
    for path in [*paths, f"{prefix}/viz/else", f"{prefix}/viz"]:
        await app.test_client().get(path)
    one, other = await wait_for_events(viz_events, 2)
    assert (one.subject, other.subject) == (f"{prefix}/viz/else", f"{prefix}/viz")
    assert viz_pipe.statistics().emitted == 2


async def test_paths_may_be_left_out_by_their_beginnings(viz_pipe: Pipe, viz_events: Subscription) -> None:
    app = recorded_app(viz_pipe)
    app.asgi_app = RecordRequests(app.asgi_app._app, viz_pipe, skip=["/notes/", "/broken"])  # type: ignore[method-assign,attr-defined]
    for path in ("/notes/a", "/viz/", "/forbidden"):
        await app.test_client().get(path)
    [event] = await wait_for_events(viz_events)
    assert event.subject == "/forbidden"
    assert viz_pipe.statistics().emitted == 1


async def ask_raw(app: Any, **scope: object) -> list[Any]:
    """Ask an ASGI app, and return what it sends."""
    sent: list[Any] = []

    async def receive() -> Any:
        await trio.sleep_forever()

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": "/", "headers": [], **scope}, receive, send)
    return sent


async def test_an_exception_of_the_app_passes_through_and_is_told(
    viz_pipe: Pipe, viz_events: Subscription
) -> None:
    async def app(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError

    with pytest.raises(KeyError):
        await ask_raw(RecordRequests(app, viz_pipe))
    [event] = await wait_for_events(viz_events)
    assert event.labels == ["GET", "error", "KeyError"]


async def test_an_error_of_starlette_which_answers_and_raises_is_told_once(
    viz_pipe: Pipe, viz_events: Subscription
) -> None:
    async def broken(_: Request) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError

    app = RecordRequests(Starlette(routes=[Route("/", broken)]), viz_pipe)
    with pytest.raises(KeyError):
        await ask_raw(app, query_string=b"")
    [event] = await wait_for_events(viz_events)
    assert event.labels == ["GET", "500", "error", "KeyError"]


async def test_labels_that_are_no_sequence_do_not_change_the_answer() -> None:
    async def app(scope: Any, receive: object, send: Any) -> None:
        current_recording().labels = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})

    pipe = Pipe()
    sent = await ask_raw(RecordRequests(app, pipe))
    assert [message.get("status") for message in sent] == [200, None]
    pipe.stop()
    await pipe.run()
    assert pipe.statistics().invalid == 1


def test_one_string_is_no_sequence_of_paths() -> None:
    with pytest.raises(TypeError, match="skip must be a sequence of beginnings of paths, not '/health'"):
        RecordRequests(None, Pipe(), skip="/health")


async def test_a_response_that_is_not_sent_to_its_end_is_told(
    viz_pipe: Pipe, viz_events: Subscription
) -> None:
    async def app(scope: Any, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})

    assert len(await ask_raw(RecordRequests(app, viz_pipe))) == 2
    [event] = await wait_for_events(viz_events)
    assert event.labels == ["GET", "200", "cancelled"]


async def test_what_is_no_http_request_goes_through_untouched(viz_pipe: Pipe) -> None:
    scopes: list[str] = []

    async def app(scope: Any, receive: object, send: object) -> None:
        await trio.lowlevel.checkpoint()
        scopes.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        await ask_raw(RecordRequests(app, viz_pipe), type=kind)
    assert scopes == ["lifespan", "websocket"]
    assert viz_pipe.statistics().emitted == 0


# Streams, from Starlette on Hypercorn's Trio worker.


def starlette_app(pipe: Pipe) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            yield
            pipe.stop()

    async def events(request: Request) -> EventStreamResponse:
        await trio.lowlevel.checkpoint()
        last_event_id = request.headers.get("Last-Event-ID", "")
        return EventStreamResponse(EventStream(pipe, last_event_id=last_event_id, heartbeat_interval=0.05))

    return Starlette(routes=[Route(EVENTS, events)], lifespan=lifespan)


async def test_starlette_streams_to_the_proper_end_and_by_the_standard() -> None:
    pipe = Pipe()
    async with serve(starlette_app(pipe)) as url, connect(url) as viewer:
        await viewer.request(EVENTS)
        status, headers = await viewer.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert headers["cache-control"] == "no-cache, no-transform"
        await until(lambda: pipe.statistics().clients == 1)
        for number in range(1, 4):
            pipe.emit(make_event(number))
        pipe.stop()
        written = b"".join(await viewer.rest())
        assert b": keep-alive\n\n" not in written.partition(b"id: ")[2]
        assert [message.last_event_id[-2:] for message in check_stream(written)] == ["-1", "-2", "-3"]


async def test_a_stream_of_starlette_that_ends_closes_its_connection_when_asked_to() -> None:
    """Also without `StreamGuard`: nothing of ours cuts the response's end."""
    pipe = Pipe()
    async with serve(starlette_app(pipe)) as url, connect(url) as viewer:
        await viewer.request(EVENTS, b"Connection: close")
        await viewer.head()
        pipe.stop()
        await viewer.rest()
        assert await viewer.stream.receive_some() == b""


async def test_a_client_that_leaves_while_its_stream_is_ended_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    """As over HTTP/2, where a server may wait for ever to send the end."""
    pipe, left = Pipe(), trio.Event()
    pipe.stop()

    async def receive() -> dict[str, str]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message.get("more_body") is False:
            left.set()
            await trio.sleep_forever()

    scope = {"type": "http", "method": "GET", "http_version": "1.1"}
    with trio.fail_after(5):
        await EventStreamResponse(EventStream(pipe))(scope, receive, send)


async def test_a_client_of_starlette_that_comes_back_gets_what_it_missed() -> None:
    pipe = Pipe()
    async with serve(starlette_app(pipe)) as url:
        async with watch(url) as viewer:
            pipe.emit(Event())
            while not (frame := await viewer.frame()).startswith(b"id: "):
                pass
            last_id = frame.partition(b"\n")[0].removeprefix(b"id: ").decode()
        await until(lambda: pipe.statistics().clients == 0)
        pipe.emit(make_event(2))
        async with open_events(url, last_event_id=last_id) as events:
            assert await anext(events) == make_event(2)
            assert sequence(f"id: {events.last_event_id}\n".encode()) == 2


async def test_clients_of_starlette_that_leave_or_stall_leave_nothing_behind() -> None:
    pipe = Pipe(client_capacity=4, flush_interval=0)
    async with serve(starlette_app(pipe)) as url:
        before = tasks_living()
        async with stalled_client(url + EVENTS), watch(url):
            while not pipe.statistics().missed:
                pipe.emit(make_event(subject="x" * 50_000))
                await trio.sleep(0.001)
        await until(lambda: pipe.statistics().clients == 0 and tasks_living() <= before)


async def test_a_head_request_of_a_stream_has_no_body_and_takes_no_place() -> None:
    pipe = Pipe()
    async with serve(starlette_app(pipe)) as url, connect(url) as client:
        await client.request(EVENTS, method="HEAD")
        status, headers = await client.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert pipe.statistics().clients == 0


async def test_a_stream_is_refused_over_http_2_unless_somebody_wants_the_risk() -> None:
    pipe = Pipe()
    pipe.stop()
    refused = await ask_raw(EventStreamResponse(EventStream(pipe)), http_version="2")
    assert [message.get("status") for message in refused] == [505, None]
    assert (b"cache-control", b"no-store") in refused[0]["headers"]
    error = json.loads(refused[1]["body"])["error"]
    assert error.startswith("no event streams over HTTP/2: the server would hold in memory")
    assert "EventStreamResponse(stream, http2=True)" in error
    risked = await ask_raw(EventStreamResponse(EventStream(pipe), http2=True), http_version="2")
    assert risked[0]["status"] == 200
    assert risked[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_stream_ends_with_its_pipe_also_where_the_server_never_says_that_the_client_left() -> None:
    pipe = Pipe()
    pipe.stop()
    with trio.fail_after(5):
        sent = await ask_raw(EventStreamResponse(EventStream(pipe)), http_version="1.1")
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
