"""What `vizpipe_trio.testing` and the pytest plugin give to tests of code that uses a pipe."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from support import EVENTS, PREAMBLE, make_app, serve
from trio.testing import MockClock

from vizpipe_trio import Event, Pipe, Subscription, marshal_sse
from vizpipe_trio._stream import EventStream
from vizpipe_trio.testing import (
    Message,
    RecordingMetric,
    check_stream,
    make_event,
    stalled_client,
    wait_for_events,
)


async def test_the_fixtures_give_a_running_pipe_and_all_that_a_test_emits(
    viz_pipe: Pipe, viz_events: Subscription, viz_metric: RecordingMetric
) -> None:
    assert viz_pipe.statistics().running
    for number in (1, 2, 3):
        viz_pipe.emit(make_event(number))
    events = await wait_for_events(viz_events, 3)
    assert [event.request_id for event in events] == ["req-1", "req-2", "req-3"]
    viz_pipe.stop()
    assert not viz_pipe.emit(Event())
    assert viz_metric.count == 1


def run_pytest(folder: Path, *options: str) -> str:
    """Run the tests of a folder, and return what is printed."""
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)],
        check=False, capture_output=True, text=True, timeout=150, cwd=folder,
    ).stdout  # fmt: skip


def test_pytest_finds_the_fixtures_by_itself_and_fails_a_test_that_emits_what_no_viewer_would_see(
    tmp_path: Path,
) -> None:
    """In a project of its own, without trio_mode; the first test is the README's."""
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    [snippet] = re.findall(r"```python\n(from vizpipe_trio\.testing .*?)```", readme, re.DOTALL)
    tmp_path.joinpath("test_it.py").write_text(f"""
import pytest
from vizpipe_trio import Event

pytestmark = pytest.mark.trio

async def search(pipe, query):
    with pipe.record(subject=query) as request, request.stage("cache") as stage:
        stage.hit = True

{snippet}

async def test_wrong(viz_pipe):
    viz_pipe.emit(Event(total_ms=float("nan")))
""")
    printed = run_pytest(tmp_path)
    assert "1 failed, 1 passed" in printed, printed
    assert "FAILED test_it.py::test_wrong" in printed
    assert "1 of the events emitted cannot go on the wire" in printed


@pytest.mark.parametrize(
    ("options", "outcome", "told"),
    [
        ([], "2 passed, 2 errors", "viz_pipe is for async tests, with trio_mode = true or marked trio"),
        (["-p", "no:trio"], "4 errors", "viz_pipe needs pytest-trio: pip install 'vizpipe-trio[testing]'"),
    ],
)
def test_a_test_that_cannot_have_a_pipe_is_told_why_and_others_go_on(
    options: list[str], outcome: str, told: str, tmp_path: Path
) -> None:
    tmp_path.joinpath("test_it.py").write_text("""
import pytest

async def test_not_marked(viz_events):
    pass

def test_not_async(viz_pipe):
    pass

@pytest.mark.trio
@pytest.mark.parametrize("number", [1, 2])
async def test_good(number, viz_pipe, viz_events):
    pass
""")
    printed = run_pytest(tmp_path, *options)
    assert outcome in printed, printed
    assert printed.count(f"\n{told}\n") == int(outcome.split()[-2])


@pytest.mark.parametrize("options", [("--disable-plugin-autoload", "-p", "pytest_trio.plugin"), ()])
def test_the_plugin_may_be_named_where_pytest_looks_for_plugins_by_itself_and_where_not(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    tmp_path.joinpath("test_it.py").write_text("""
import pytest

@pytest.mark.trio
async def test_it(viz_pipe, viz_events):
    pass
""")
    printed = run_pytest(tmp_path, *options, "-p", "vizpipe_trio.pytest_plugin")
    assert "1 passed" in printed, printed


def test_events_that_are_made_are_whole_valid_and_the_same_each_time() -> None:
    assert make_event(7) == make_event(7)
    assert make_event(7).request_id == "req-7"
    assert make_event(op="WRITE", stages=None).stages is None
    assert all(getattr(make_event(), name) for name in Event.__struct_fields__)


def test_an_event_that_cannot_go_on_the_wire_is_not_made() -> None:
    with pytest.raises(ValueError, match="total_ms"):
        make_event(total_ms=float("inf"))
    with pytest.raises(TypeError, match="no_such_field"):
        make_event(no_such_field=1)


async def test_waiting_passes_over_what_is_not_wanted(viz_pipe: Pipe, viz_events: Subscription) -> None:
    for number in range(1, 5):
        viz_pipe.emit(make_event(number, op="WRITE" if number % 2 else "QUERY"))
    queries = await wait_for_events(viz_events, 2, where=lambda event: event.op == "QUERY")
    assert [event.request_id for event in queries] == ["req-2", "req-4"]


async def test_events_that_do_not_come_are_told_with_those_that_did(
    viz_pipe: Pipe, viz_events: Subscription, autojump_clock: MockClock
) -> None:
    viz_pipe.emit(make_event(1))
    start = trio.current_time()
    with pytest.raises(AssertionError, match=r"1 of 2 events came \(0 were passed over, 0 missed\).*req-1"):
        await wait_for_events(viz_events, 2, seconds=30)
    assert trio.current_time() - start == pytest.approx(30)


async def test_waiting_ends_with_the_pipe(viz_pipe: Pipe, viz_events: Subscription) -> None:
    viz_pipe.stop()
    told = r"0 of 1 events came \(0 were passed over, 0 missed\), and the pipe has ended: \[\]"
    with pytest.raises(AssertionError, match=told):
        await wait_for_events(viz_events)


async def test_a_stalled_client_misses_events_and_can_read_after_all() -> None:
    pipe = Pipe(client_capacity=4, flush_interval=0)
    async with serve(make_app(pipe, token="sesame")) as url:
        async with stalled_client(url + EVENTS, token="sesame") as client:
            while not pipe.statistics().missed:
                pipe.emit(make_event(subject="x" * 50_000))
                await trio.sleep(0.001)
            assert await client.receive_some(10_000)
        assert pipe.statistics().emitted > 4


async def test_a_stalled_client_says_what_it_got_in_the_place_of_a_stream() -> None:
    async with serve(make_app(Pipe(), token="sesame")) as url:
        with pytest.raises(AssertionError, match=r"this is no event stream: b'HTTP/1\.1 401"):
            async with stalled_client(url + EVENTS):
                pass


async def test_our_streams_keep_to_the_standard(viz_pipe: Pipe) -> None:
    written = b""
    with EventStream(viz_pipe) as stream:
        viz_pipe.emit(make_event(subject="ends\u2028with\u0085odd\nlines \U0001f680"))
        viz_pipe.stop()
        async for write in stream:
            written += write
    assert written.startswith(PREAMBLE)
    [message] = check_stream(written)
    assert (message.type, message.last_event_id[-2:]) == ("message", "-1")
    assert "\U0001f680" in message.data
    assert check_stream(marshal_sse(make_event()))[0].last_event_id == ""


def test_a_stream_is_read_as_the_standard_says() -> None:
    stream = b"\xef\xbb\xbf: a comment\r\ndata:YHOO\rdata: +2\ndata:  10\n\nevent: add\nid: 1\ndata\n\nid\ndata: x\n\n"
    assert check_stream(stream) == [
        Message("message", "YHOO\n+2\n 10", ""), Message("add", "", "1"), Message("message", "x", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (b"data: a", "ends in the middle of an event: 'data: a'"),
        (b"data: a\n", "ends in the middle of an event: 'data: a'"),
        (b"data: \xff\n\n", "not UTF-8"),
        (b" data: a\n\n", "line 1: there is no field ' data'"),
        (b'{"missed": 1}\n\n', "there is no field"),
        (b"id: a\0b\ndata: a\n\n", "a NULL in it"),
        (b"retry: 2s\n\n", "not '2s'"),
        (b"event: missed\n\n", "line 2: an event of type 'missed' without data"),
    ],
)
def test_what_a_browser_would_pass_over_is_an_error(stream: bytes, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_stream(stream)
