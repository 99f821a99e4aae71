"""Whatever an event holds, two parsers that are not ours get out of the stream what went in."""

import json
from collections.abc import Callable, Sequence
from functools import partial

import httpx  # noqa: ASYNC127 - httpx-sse is made for it
import trio
from hostile import TEXTS, as_json, events, is_accepted, open_chromium, wild_events
from httpx_sse import EventSource, ServerSentEvent
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import event as note
from hypothesis import strategies as st
from playwright.sync_api import Dialog, Page, Request, expect
from support import EVENTS, StreamReader, make_app, serve, until

from vizpipe_trio import Event, Pipe, StageInfo, marshal_sse
from vizpipe_trio._sse import KEEP_ALIVE, MAX_WRITE, event_frame, missed_frame, preamble

thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Each example waits for a socket: a failure is shown as it was found.
brief = settings(thorough, max_examples=40, phases=[Phase.reuse, Phase.generate])

PLAIN_PAGE = f"""<!doctype html>
<script>
  const got = [];
  const source = new EventSource("{EVENTS}");
  for (const type of ["message", "missed"])
    source.addEventListener(type, (message) =>
      got.push([message.type, message.lastEventId, JSON.stringify(JSON.parse(message.data))]));
</script>
"""


def parse(stream: bytes, chunk_size: int) -> list[ServerSentEvent]:
    """Return what httpx-sse makes of a stream that comes in chunks."""
    chunks = (stream[start : start + chunk_size] for start in range(0, len(stream), chunk_size))
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=chunks)
    messages = EventSource(response).iter_sse()
    return [message for message in messages if message.retry is None]  # which it takes for a message


@thorough
@given(event=events | wild_events, chunk_size=st.sampled_from([1, 2, 3, 7, 64, MAX_WRITE]))
def test_what_is_accepted_comes_out_as_one_message_equal_to_what_went_in(
    event: Event, chunk_size: int
) -> None:
    if not is_accepted(event):
        note("not accepted")
        return
    data = marshal_sse(event)[len(b"data: ") : -2]
    frame = event_frame(b"7c1e9f-1", data)
    stream = preamble(2000) + KEEP_ALIVE + frame + missed_frame("slow", 3)
    first, second = parse(stream, max(chunk_size, len(stream) // 1000))
    assert (first.event, first.id, json.loads(first.data)) == ("message", "7c1e9f-1", as_json(event))
    assert (second.event, second.data) == ("missed", '{"missed":3,"reason":"slow"}')
    assert len(frame.decode().splitlines()) == 3  # also for those who split lines as Python does


def number(digits: str) -> float:
    """Read a number as JavaScript writes it: a large float has no point in it."""
    return int(digits) if abs(int(digits)) < 2**53 else float(digits)


class Emitter:
    """Emits batches of events, and knows what a client should get of each."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._invalid = 0
        self.accepted = 0

    async def emit(self, batch: Sequence[Event], received: Callable[[], int]) -> None:
        """Emit, and wait until all that is valid was received."""
        for event in batch:
            assert self._pipe.emit(event)
        accepted = sum(map(is_accepted, batch))
        self.accepted += accepted
        self._invalid += len(batch) - accepted
        await until(lambda: self._pipe.statistics().invalid == self._invalid and received() >= self.accepted)


async def test_over_sockets_a_client_gets_what_is_accepted_and_nothing_else() -> None:
    pipe = Pipe()
    emitter = Emitter(pipe)

    @brief
    @given(st.lists(events | wild_events, max_size=20))
    def check(batch: list[Event]) -> None:
        trio.from_thread.run(emitter.emit, batch, lambda: len(reader.events))
        wanted = list(map(as_json, filter(is_accepted, batch)))
        got = reader.events[len(reader.events) - len(wanted) :]
        assert [json.loads(message.data) for message in got] == wanted
        assert {message.event for message in reader.events} <= {"message"}

    async with serve(make_app(pipe), seconds=120) as url, trio.open_nursery() as nursery:
        reader = StreamReader(url)
        await nursery.start(reader.run)
        await trio.to_thread.run_sync(check)
        assert [int(message.id.rpartition("-")[2]) for message in reader.events] == [
            *range(1, emitter.accepted + 1)
        ]
        pipe.stop()


async def test_a_browser_gets_what_is_accepted_and_nothing_else() -> None:
    pipe = Pipe()
    app = make_app(pipe)
    emitter = Emitter(pipe)

    @app.get("/plain")
    async def plain() -> str:
        await trio.lowlevel.checkpoint()
        return PLAIN_PAGE

    def check_on(page: Page) -> None:
        @brief
        @given(st.lists(events | wild_events, min_size=1, max_size=20))
        def check(batch: list[Event]) -> None:
            trio.from_thread.run(emitter.emit, batch, lambda: emitter.accepted)
            page.wait_for_function(f"got.length >= {emitter.accepted}")
            wanted = list(map(as_json, filter(is_accepted, batch)))
            got = page.evaluate(f"got.slice({emitter.accepted - len(wanted)})")
            assert [json.loads(data, parse_int=number) for _, _, data in got] == wanted
            assert {kind for kind, _, _ in got} <= {"message"}

        check()
        ids = [int(last_id.rpartition("-")[2]) for _, last_id, _ in page.evaluate("got")]
        assert ids == [*range(1, emitter.accepted + 1)]

    def browse() -> None:
        with open_chromium() as browser:
            page = browser.new_page()
            page.goto(f"{url}/plain")
            trio.from_thread.run(until, lambda: pipe.statistics().clients == 1)
            check_on(page)

    async with serve(app, seconds=120) as url:
        await trio.to_thread.run_sync(browse)


async def test_nothing_in_an_event_runs_as_markup_in_the_dashboard() -> None:
    pipe = Pipe()
    ran: list[str] = []

    def on_request(url: str, request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            ran.append(request.url)

    def on_dialog(dialog: Dialog) -> None:
        ran.append(dialog.message)
        dialog.dismiss()

    def browse() -> None:
        with open_chromium() as browser:
            page = browser.new_page()
            page.on("request", partial(on_request, url))
            page.on("dialog", on_dialog)
            page.goto(f"{url}/viz/?token=sesame")
            trio.from_thread.run(until, lambda: pipe.statistics().clients == 1)
            for text in (*TEXTS, "the last of them"):
                stages = [StageInfo(1, text, 1.0, hit=True)]
                pipe.emit(Event(request_id=text, source=text, subject=text, labels=[text], stages=stages))
            expect(page.get_by_text("the last of them").first).to_be_attached()
            assert page.evaluate("document.scripts.length") == page.locator("script[src]").count()

    async with serve(make_app(pipe, token="sesame"), seconds=120) as url:
        await trio.to_thread.run_sync(browse)
    assert ran == []
