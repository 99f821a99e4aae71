"""The client: what it yields, how it comes back, and when it gives up.

Against a real server, and where time passes against one that stands where the network begins.
"""

import gc
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import httpx2
import pytest
import trio
from quart import redirect
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio
from support import make_app, serve, until
from trio.testing import MockClock, assert_checkpoints

from vizpipe_trio import Missed, Pipe, _sockets, marshal_sse
from vizpipe_trio.client import EventStreamError, open_events
from vizpipe_trio.testing import make_event

URL = "http://server.test"


async def test_events_come_from_a_real_server_and_leaving_closes_the_connection() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe, token="sesame")) as url:
        async with open_events(url, token="sesame") as events:
            await until(lambda: pipe.statistics().clients == 1)
            for number in range(1, 101):
                pipe.emit(make_event(number))
            assert await anext(events) == make_event(1)
            assert events.connected
            assert [await anext(events) for _ in range(9)] == [make_event(n) for n in range(2, 11)]
            assert events.last_event_id.endswith("-10")
        await until(lambda: pipe.statistics().clients == 0)
    gc.collect()  # a generator that is left behind would be a warning


async def test_the_iteration_can_be_cancelled_and_taken_up_again() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, open_events(url) as events:
        await until(lambda: pipe.statistics().clients == 1)
        with trio.move_on_after(0.05):
            await anext(events)
        pipe.emit(make_event(1))
        with assert_checkpoints():
            assert await anext(events) == make_event(1)
        assert pipe.statistics().clients == 1


async def test_filters_are_the_servers() -> None:
    pipe = Pipe()
    filters = {"op": "WRITE", "label": ["eu", "us"]}
    async with serve(make_app(pipe)) as url, open_events(url + "/viz/", filters=filters) as events:
        await until(lambda: pipe.statistics().clients == 1)
        pipe.emit(make_event(1))
        pipe.emit(make_event(2, op="WRITE", labels=["us"]))
        assert await anext(events) == make_event(2, op="WRITE", labels=["us"])


async def test_what_it_was_too_slow_for_comes_as_missed_in_its_place() -> None:
    pipe = Pipe(capacity=3)
    async with serve(make_app(pipe)) as url, open_events(url) as events:
        await until(lambda: pipe.statistics().clients == 1)
        for number in range(1, 6):
            pipe.emit(make_event(number))
        given = [await anext(events) for _ in range(4)]
        assert given == [make_event(1), make_event(2), make_event(3), Missed("overload", 2)]


async def test_after_a_real_break_it_gets_what_was_emitted_meanwhile_once_and_in_order() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, open_events(url) as events:
        await until(lambda: pipe.statistics().clients == 1)
        pipe.emit(make_event(1))
        assert await anext(events) == make_event(1)
        _sockets.end(int(url.rpartition(":")[2]), reset=True)
        await until(lambda: not events.connected and pipe.statistics().clients == 0)
        pipe.emit(make_event(2))
        await until(lambda: events.connected)
        pipe.emit(make_event(3))
        assert [await anext(events) for _ in range(2)] == [make_event(2), make_event(3)]


@pytest.mark.parametrize(
    ("token", "filters", "status", "told"),
    [
        ("wrong", {}, 401, "the right token is needed"),
        ("sesame", {"op": "READ"}, 400, "there is no op 'READ'"),
    ],
)
async def test_a_refusal_is_raised_with_the_servers_words(
    token: str, filters: dict[str, str], status: int, told: str
) -> None:
    async with serve(make_app(Pipe(), token="sesame")) as url:
        with pytest.RaisesGroup(pytest.RaisesExc(EventStreamError, match=told)) as raised:
            async with open_events(url, token=token, filters=filters) as events:
                await anext(events)
        [error] = raised.value.exceptions
        assert isinstance(error, EventStreamError)
        assert error.status == status


# Where time passes.

Answer = httpx2.Response | Exception


class Server:
    """Gives one answer after the other, and notes when it was asked, and for what came last."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[tuple[float, str]] = []
        self._answers = iter(answers)
        self.client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        self.asked.append((trio.current_time(), request.headers.get("Last-Event-ID", "")))
        answer = next(self._answers, None)
        if answer is None:
            await trio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    @property
    def waits(self) -> list[float]:
        return [after - before for (before, _), (after, _) in pairwise(self.asked)]


def stream(*frames: bytes, breaks: bool = False, hangs: bool = False) -> httpx2.Response:
    async def body() -> AsyncIterator[bytes]:
        for frame in frames:
            await trio.lowlevel.checkpoint()
            yield frame
        if hangs:
            await trio.sleep_forever()
        if breaks:
            raise httpx2.ReadError("the connection was reset")

    return httpx2.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=body())


def frame(number: int) -> bytes:
    return b"id: 7c-%d\n%b" % (number, marshal_sse(make_event(number)))


RETRY = b"retry: 1000\n: vizpipe\n\n"


async def test_it_comes_back_after_the_time_that_the_server_asks_for_and_resumes(
    autojump_clock: MockClock,
) -> None:
    server = Server(stream(RETRY, frame(1), frame(2)), stream(RETRY, frame(3), breaks=True), stream(frame(4)))
    async with open_events(URL, client=server.client) as events:
        assert [await anext(events) for _ in range(4)] == [make_event(number) for number in range(1, 5)]
    assert [last for _, last in server.asked[:3]] == ["", "7c-2", "7c-3"]
    assert all(1 <= wait <= 1.5 for wait in server.waits[:2])


async def test_it_waits_longer_each_time_up_to_half_a_minute(autojump_clock: MockClock) -> None:
    refused = [httpx2.ConnectError("refused") for _ in range(8)]
    server = Server(stream(RETRY, frame(1)), *refused, stream(frame(2)))
    async with open_events(URL, client=server.client) as events:
        assert [await anext(events) for _ in range(2)] == [make_event(1), make_event(2)]
    for wait, least in zip(server.waits, [1, 2, 4, 8, 16, 30, 30, 30, 30], strict=False):
        assert least <= wait <= 1.5 * least


async def test_it_waits_as_long_as_a_full_server_asks(autojump_clock: MockClock) -> None:
    full = httpx2.Response(503, headers={"Retry-After": "120"}, json={"error": "all places are taken"})
    server = Server(full, stream(frame(1)))
    async with open_events(URL, client=server.client) as events:
        assert await anext(events) == make_event(1)
    assert 120 <= server.waits[0] <= 180


@pytest.mark.parametrize(
    ("first", "least"),
    [
        (lambda: stream(b"retry: 0\n\n", frame(1)), 0.5),
        (lambda: stream(b"retry: -7\n\n", frame(1)), 0.5),
        (lambda: httpx2.Response(503, headers={"Retry-After": "0"}), 1),
        (lambda: stream(b"retry: %b\n\n" % (b"9" * 400), frame(1)), 86_400),
    ],
)
async def test_no_server_can_make_it_a_flood_or_have_it_stay_away_for_good(
    first: Callable[[], Answer], least: float, autojump_clock: MockClock
) -> None:
    server = Server(first(), httpx2.ConnectError("refused"), stream(frame(2)))
    async with open_events(URL, client=server.client) as events:
        while await anext(events) != make_event(2):
            pass
    assert least <= server.waits[0] <= 1.5 * least


async def test_a_gap_before_the_first_event_is_told_since_nobody_knows_it(autojump_clock: MockClock) -> None:
    server = Server(stream(RETRY), stream(RETRY, frame(9)))
    async with open_events(URL, client=server.client) as events:
        assert [await anext(events) for _ in range(2)] == [Missed("history", None), make_event(9)]


async def test_silence_is_a_dead_connection() -> None:
    pipe = Pipe()
    async with (
        serve(make_app(pipe)) as url,
        open_events(url, reconnect=False, idle_timeout=0.1) as events,
    ):
        with pytest.raises(httpx2.ReadTimeout):
            await anext(events)


async def test_without_reconnecting_the_iteration_ends_with_the_stream(autojump_clock: MockClock) -> None:
    server = Server(stream(RETRY, frame(1)))
    async with open_events(URL, client=server.client, reconnect=False) as events:
        assert [event async for event in events] == [make_event(1)]


async def test_without_reconnecting_a_broken_stream_is_raised_behind_its_events(
    autojump_clock: MockClock,
) -> None:
    server = Server(stream(RETRY, frame(1), breaks=True))
    async with open_events(URL, client=server.client, reconnect=False) as events:
        assert await anext(events) == make_event(1)
        with pytest.raises(httpx2.ReadError):
            await anext(events)


async def test_an_earlier_run_is_taken_up_again(autojump_clock: MockClock) -> None:
    server = Server(stream(frame(4)))
    async with open_events(URL, client=server.client, last_event_id="7c-3") as events:
        assert events.last_event_id == "7c-3"
        await anext(events)
        assert events.last_event_id == "7c-4"
    assert server.asked[0][1] == "7c-3"


async def test_who_leaves_with_events_unread_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    server = Server(stream(*map(frame, range(1, 500)), hangs=True))
    async with open_events(URL, client=server.client) as events:
        await anext(events)
    gc.collect()
    assert not server.client.is_closed


async def test_unknown_types_of_events_are_passed_over(autojump_clock: MockClock) -> None:
    server = Server(stream(b"event: later\ndata: {}\n\n", b"id: 7c-1\n\n", frame(2)))
    async with open_events(URL, client=server.client) as events:
        assert await anext(events) == make_event(2)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: httpx2.Response(200, html="<p>Hello</p>"), "no event stream: 200 <p>Hello</p>"),
        (lambda: stream(b'data: {"op": "READ"}\n\n'), "none of our events"),
        (lambda: stream(b"event: missed\ndata: 3\n\n"), "none of our events"),
        (lambda: stream(b"id: \xc3\xa9\n" + marshal_sse(make_event())), "none of our IDs"),
        (lambda: httpx2.UnsupportedProtocol("led to gopher:"), "no event stream: 302 led to gopher:"),
    ],
)
async def test_what_is_no_stream_of_ours_is_an_error(answer: Callable[[], Answer], told: str) -> None:
    server = Server(answer())
    async with open_events(URL, client=server.client) as events:
        with pytest.raises(EventStreamError, match=told):
            await anext(events)


async def test_a_page_without_end_is_read_no_further_than_is_told(autojump_clock: MockClock) -> None:
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        while True:
            await trio.lowlevel.checkpoint()
            read.append(1000)
            yield b"x" * 1000

    server = Server(httpx2.Response(404, content=body()))
    async with open_events(URL, client=server.client) as events:
        with pytest.raises(EventStreamError, match=r"^no event stream: 404 x{1000}$"):
            await anext(events)
    assert sum(read) <= 10_000
    gc.collect()  # a generator that is left behind would be a warning


async def test_a_page_that_hangs_or_breaks_is_told_as_far_as_it_came(autojump_clock: MockClock) -> None:
    async def body(*, breaks: bool) -> AsyncIterator[bytes]:
        yield b"Not here"
        if breaks:
            raise httpx2.ReadError("the connection was reset")
        await trio.sleep_forever()

    for breaks in (False, True):
        server = Server(httpx2.Response(404, content=body(breaks=breaks)))
        async with open_events(URL, client=server.client) as events:
            with pytest.raises(EventStreamError, match=r"^no event stream: 404 Not here$"):
                await anext(events)
    assert trio.current_time() < 60


async def test_redirects_without_end_are_an_error(autojump_clock: MockClock) -> None:
    server = Server(*[httpx2.Response(307, headers={"Location": "/viz/"}) for _ in range(99)])
    async with open_events(URL, client=server.client) as events:
        with pytest.raises(EventStreamError, match="redirects") as raised:
            await anext(events)
    assert raised.value.status == 302


async def test_what_cannot_be_decoded_is_a_broken_connection(autojump_clock: MockClock) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield frame(1)
        await trio.lowlevel.checkpoint()
        raise httpx2.DecodingError("incorrect data check")

    broken = httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=body())
    server = Server(broken, stream(frame(2)))
    async with open_events(URL, client=server.client) as events:
        assert [await anext(events) for _ in range(2)] == [make_event(1), make_event(2)]


async def test_a_request_that_can_never_be_sent_is_not_tried_again(autojump_clock: MockClock) -> None:
    server = Server(httpx2.LocalProtocolError("Illegal header value"))
    async with open_events(URL, client=server.client) as events:
        with pytest.raises(httpx2.LocalProtocolError):
            await anext(events)
    assert len(server.asked) == 1


@pytest.mark.parametrize("token", ["", "sesame\n", "two sesames", "s\u00e9same", "sesame\x00"])
async def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token must be printable ASCII") as raised:
        async with open_events(URL, token=token):
            pass
    assert "same" not in str(raised.value)


@pytest.mark.parametrize("last_event_id", ["7c-3\n", "7\u00e9-3"])
async def test_an_id_that_cannot_be_sent_is_refused(last_event_id: str) -> None:
    with pytest.raises(ValueError, match=r"^last_event_id must be printable ASCII"):
        async with open_events(URL, last_event_id=last_event_id):
            pass


@pytest.mark.parametrize("url", ["localhost:8000", "127.0.0.1", "ftp://localhost", "http://", "/viz/", ""])
async def test_an_address_that_is_not_one_of_the_web_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url must begin with http:// or https:// and a host"):
        async with open_events(url):
            pass


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
async def test_a_host_that_no_name_can_be_is_refused_and_so_is_a_redirect_to_it(host: str) -> None:
    with pytest.raises(ValueError, match="label"):
        async with open_events(f"http://{host}"):
            pass
    app = QuartTrio("elsewhere")

    @app.get("/api/viz/events")
    def elsewhere() -> ResponseReturnValue:
        return redirect(f"http://{host}/")

    async with serve(app) as url, open_events(url) as events:
        with pytest.raises(EventStreamError, match=r"^no event stream: 302 .*label"):
            await anext(events)


@pytest.mark.parametrize(
    ("url", "requested"),
    [
        ("http://a:8", "http://a:8/api/viz/events"),
        ("http://a/viz/?token=x", "http://a/api/viz/events?token=x"),
        ("http://a/sub/api/viz/events", "http://a/sub/api/viz/events"),
        ("http://a/ops/viz", "http://a/ops/api/viz/events"),
        ("http://a/o%20p/s/viz/?token=x", "http://a/o%20p/s/api/viz/events?token=x"),
        ("http://a/aviz/", "http://a/aviz/"),
        (
            "http://a/viz/?op=QUERY&text=a+b&label=c%26d&window=120",
            "http://a/api/viz/events?op=QUERY&label=c%26d",
        ),
        ("http://a/api/viz/events?text=a", "http://a/api/viz/events?text=a"),
    ],
)
async def test_the_address_may_be_the_servers_the_pages_or_the_streams(url: str, requested: str) -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return stream(frame(1))

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    async with open_events(url, client=client) as events:
        await anext(events)
    assert asked == [requested]
