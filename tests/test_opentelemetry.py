"""Root spans that become events, made by OpenTelemetry's own SDK."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from support import until
from trio.testing import wait_all_tasks_blocked

import vizpipe_trio.opentelemetry
from vizpipe_trio import Event, Pipe, StageInfo, Subscription
from vizpipe_trio.opentelemetry import PipeSpanProcessor
from vizpipe_trio.testing import wait_for_events

MS = 1_000_000
START = 1_767_225_600_000 * MS  # 2026-01-01


@pytest.fixture
def provider(viz_pipe: Pipe) -> Iterator[TracerProvider]:
    provider = TracerProvider(resource=Resource.create({"service.name": "gateway"}), shutdown_on_exit=False)
    provider.add_span_processor(PipeSpanProcessor(viz_pipe))
    yield provider
    provider.shutdown()


@pytest.fixture
def tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("tests")


async def test_a_root_span_and_its_children_become_an_event(tracer: Tracer, viz_events: Subscription) -> None:
    with tracer.start_as_current_span("GET /search", start_time=START, end_on_exit=False) as root:
        cache = tracer.start_span("cache", start_time=START + 1 * MS)
        cache.end(START + 3 * MS)
        lookup = tracer.start_span("lookup", start_time=START + 3 * MS, attributes={"vizpipe.hit": True})
        lookup.end(START + 8 * MS)
    root.end(START + 9 * MS)
    [event] = await wait_for_events(viz_events)
    assert event.timestamp.isoformat() == "2026-01-01T00:00:00+00:00"
    assert event.request_id == f"{root.get_span_context().trace_id:032x}"
    assert (event.source, event.op, event.subject, event.status) == (
        "gateway",
        "QUERY",
        "GET /search",
        "ALLOWED",
    )
    assert event.total_ms == 9.0
    assert event.stages == [StageInfo(1, "cache", 2.0), StageInfo(2, "lookup", 5.0, hit=True)]


async def test_what_the_span_says_goes_before_what_can_be_guessed(
    tracer: Tracer, viz_events: Subscription
) -> None:
    attributes: dict[str, str | int | list[str]] = {
        "vizpipe.request_id": "r1", "vizpipe.source": "memory", "vizpipe.op": "WRITE", "vizpipe.subject": "note",
        "vizpipe.actor_type": "agent", "vizpipe.status": "FILTERED", "vizpipe.labels": ["eu", "beta"],
        "vizpipe.result_count": 4,
    }  # fmt: skip
    tracer.start_span("PUT /notes", attributes=attributes).end()
    [event] = await wait_for_events(viz_events)
    assert event == Event(
        event.timestamp, "r1", "memory", "WRITE", "note", "agent", "FILTERED", ["eu", "beta"], 4, event.total_ms, None
    )  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "op", "status"),
    [
        ({"http.request.method": "POST"}, "WRITE", "ALLOWED"),
        ({"http.request.method": "GET", "http.response.status_code": 403}, "QUERY", "DENIED"),
        ({"http.method": "DELETE", "http.status_code": 401}, "WRITE", "DENIED"),
        ({"http.request.method": "GET", "http.response.status_code": 500}, "QUERY", "ALLOWED"),
    ],
)
async def test_http_tells_whether_it_is_a_write_and_whether_it_was_denied(
    tracer: Tracer, viz_events: Subscription, attributes: dict[str, str | int], op: str, status: str
) -> None:
    tracer.start_span("request", attributes=attributes).end()
    [event] = await wait_for_events(viz_events)
    assert (event.op, event.status) == (op, status)


async def test_an_error_is_a_label(tracer: Tracer, viz_events: Subscription) -> None:
    with tracer.start_as_current_span("request", attributes={"vizpipe.labels": "eu"}) as span:
        span.set_attribute("error.type", "KeyError")
        span.set_status(StatusCode.ERROR)
    [event] = await wait_for_events(viz_events)
    assert list(event.labels) == ["eu", "error", "KeyError"]


async def test_only_direct_children_are_stages_in_order_and_those_of_one_name_are_summed_up(
    tracer: Tracer, viz_events: Subscription
) -> None:
    with tracer.start_as_current_span("request", start_time=START):
        late = tracer.start_span("late", start_time=START + 5 * MS)
        with tracer.start_as_current_span("early", start_time=START + 1 * MS, end_on_exit=False) as early:
            tracer.start_span("inner", start_time=START + 1 * MS).end(START + 2 * MS)
        late.end(START + 6 * MS)
        early.end(START + 3 * MS)
        tracer.start_span("late", start_time=START + 7 * MS).end(START + 9 * MS)
    [event] = await wait_for_events(viz_events)
    assert event.stages == [StageInfo(1, "early", 2.0), StageInfo(2, "late", 3.0)]


async def test_of_spans_of_one_name_the_first_to_begin_has_their_place_and_any_may_have_answered(
    tracer: Tracer, viz_events: Subscription
) -> None:
    with tracer.start_as_current_span("request", start_time=START):
        first = tracer.start_span("shard", start_time=START + 1 * MS)
        tracer.start_span("merge", start_time=START + 2 * MS).end(START + 3 * MS)
        second = tracer.start_span("shard", start_time=START + 4 * MS)
        second.set_attribute("vizpipe.hit", True)
        second.end(START + 5 * MS)
        first.end(START + 7 * MS)
    [event] = await wait_for_events(viz_events)
    assert event.stages == [StageInfo(1, "shard", 7.0, hit=True), StageInfo(2, "merge", 1.0)]


async def test_a_request_from_another_process_is_a_root_and_traces_do_not_mix(
    tracer: Tracer, viz_events: Subscription
) -> None:
    remote = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    context = set_span_in_context(NonRecordingSpan(remote))

    async def answer(name: str) -> None:
        with (
            tracer.start_as_current_span(name, context),
            tracer.start_as_current_span(f"{name}-stage"),
        ):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for name in ("a", "b"):
            nursery.start_soon(answer, name)
    events = await wait_for_events(viz_events, 2)
    assert {event.subject: [stage.name for stage in event.stages or ()] for event in events} == {
        "a": ["a-stage"], "b": ["b-stage"],
    }  # fmt: skip
    assert {event.request_id for event in events} == {f"{0xABC:032x}"}


async def test_a_child_that_outlives_its_root_is_left_out(tracer: Tracer, viz_events: Subscription) -> None:
    with tracer.start_as_current_span("request"):
        straggler = tracer.start_span("straggler")
    straggler.end()
    [event] = await wait_for_events(viz_events)
    assert event.stages == []


async def test_spans_of_threads_are_stages_too(tracer: Tracer, viz_events: Subscription) -> None:
    def work() -> None:
        with tracer.start_as_current_span("in a thread"):
            pass

    with tracer.start_as_current_span("request"):
        await trio.to_thread.run_sync(work)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    first, second = await wait_for_events(viz_events, 2)
    assert [stage.name for stage in first.stages or ()] == ["in a thread"]
    assert second.subject == "in a thread"


async def test_spans_that_are_not_selected_or_not_sampled_are_no_events(
    viz_pipe: Pipe, viz_events: Subscription
) -> None:
    for sampler in (None, ALWAYS_OFF):
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        processor = PipeSpanProcessor(viz_pipe, lambda span: span.name == "request")
        provider.add_span_processor(processor)
        for name in ("job", "request"):
            provider.get_tracer("tests").start_span(name).end()
        assert processor.forgotten == 0
    [event] = await wait_for_events(viz_events)
    assert event.subject == "request"
    assert viz_pipe.statistics().emitted == 1


async def test_a_select_that_raises_is_counted_and_logged_also_where_it_leaves_nothing_to_emit(
    viz_pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    def select(span: ReadableSpan) -> bool:
        raise KeyError("http.route")

    provider = TracerProvider(shutdown_on_exit=False)
    processor = PipeSpanProcessor(viz_pipe, select)
    provider.add_span_processor(processor)
    await wait_all_tasks_blocked()
    for _ in range(3):
        provider.get_tracer("tests").start_span("request").end()
    assert (processor.forgotten, viz_pipe.statistics().emitted) == (3, 0)
    await until(lambda: bool(caplog.messages))
    assert caplog.messages == ["3 times: a root span became no event; the latest: KeyError('http.route')"]


async def test_a_root_with_more_stages_than_an_event_can_have_is_forgotten_at_once(
    viz_pipe: Pipe, viz_events: Subscription
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    processor = PipeSpanProcessor(viz_pipe)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("tests")
    with tracer.start_as_current_span("loops over one stage"):
        for _ in range(2000):
            tracer.start_span("item").end()
    with tracer.start_as_current_span("never ends"):
        for number in range(2000):
            tracer.start_span(f"item {number}").end()
        assert processor.forgotten == 1
        assert processor._open == {}
    [event] = await wait_for_events(viz_events)
    assert [stage.name for stage in event.stages or ()] == ["item"]
    assert (processor.forgotten, viz_pipe.statistics().emitted) == (1, 1)


async def test_roots_that_never_end_are_forgotten_in_the_end(
    viz_pipe: Pipe, viz_events: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vizpipe_trio.opentelemetry, "MOST_OPEN", 3)
    provider = TracerProvider(shutdown_on_exit=False)
    processor = PipeSpanProcessor(viz_pipe)
    provider.add_span_processor(processor)
    spans = [provider.get_tracer("tests").start_span(name) for name in "abcde"]
    for span in spans:
        span.end()
    assert processor.forgotten == 2
    assert [event.subject for event in await wait_for_events(viz_events, 3)] == ["c", "d", "e"]


def test_times_that_do_not_exist_are_no_exception_for_who_traces() -> None:
    pipe = Pipe()
    provider = TracerProvider(shutdown_on_exit=False)
    processor = PipeSpanProcessor(pipe)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("tests")
    tracer.start_span("request", start_time=10**30).end()
    with tracer.start_as_current_span("request"):
        moment: Any = datetime.now(UTC)  # and not nanoseconds
        tracer.start_span("stage", start_time=moment).end()
        tracer.start_span("stage").end()
    assert (processor.forgotten, pipe.statistics().emitted) == (2, 0)


async def test_an_attribute_of_the_wrong_type_is_an_invalid_event_and_no_exception() -> None:
    pipe = Pipe()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(PipeSpanProcessor(pipe))
        provider.get_tracer("tests").start_span("request", attributes={"vizpipe.result_count": "many"}).end()
        pipe.stop()
    assert pipe.statistics().invalid == 1
