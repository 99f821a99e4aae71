"""Recording a request: from its beginning to its end, with its stages, into one event."""

import gc
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import copy_context
from functools import wraps
from itertools import count
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from vizpipe_trio import Event, Pipe, Recording, StageInfo, current_recording, marshal_sse

STAGES = ["policy", "cache", "lookup"]


class Ledge(Pipe):
    """A pipe that keeps what is emitted, in reach."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def emit(self, event: Event) -> bool:
        self.events.append(event)
        return super().emit(event)


@pytest.fixture
def pipe() -> Ledge:
    return Ledge()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what lets so many milliseconds pass."""
    now = 1000.0

    def tick(ms: float) -> None:
        nonlocal now
        now += ms / 1000

    monkeypatch.setattr("vizpipe_trio._record.perf_counter", lambda: now)
    return tick


Tick = Callable[[float], None]


def stages_of(event: Event) -> list[StageInfo]:
    assert event.stages is not None
    return list(event.stages)


def rounded(event: Event) -> list[tuple[int, str, float, bool]]:
    return [(stage.stage, stage.name, round(stage.ms, 6), stage.hit) for stage in stages_of(event)]


def test_a_request_becomes_one_event_with_the_times_of_its_stages(pipe: Ledge, clock: Tick) -> None:
    with pipe.record("QUERY", request_id="r1", source="search", subject="loops", labels=["eu"]) as request:
        with request.stage("cache"):
            clock(2)
        clock(1)
        with request.stage("lookup") as stage:
            clock(5)
            stage.hit = True
        request.result_count = 7
        assert pipe.events == []
    [event] = pipe.events
    assert event is request.event
    assert (event.request_id, event.source, event.op, event.subject) == ("r1", "search", "QUERY", "loops")
    assert (event.status, event.labels, event.result_count) == ("ALLOWED", ["eu"], 7)
    assert rounded(event) == [(1, "cache", 2.0, False), (2, "lookup", 5.0, True)]
    assert event.total_ms == pytest.approx(8)


def test_stages_that_never_ran_are_in_the_picture_in_their_place(pipe: Ledge, clock: Tick) -> None:
    with pipe.record(stages=STAGES) as request:
        with request.stage("extra"):
            clock(1)
        with request.stage("cache") as stage:
            clock(3)
            stage.hit = True
    assert rounded(pipe.events[0]) == [
        (1, "policy", 0.0, False), (2, "cache", 3.0, True), (3, "lookup", 0.0, False), (4, "extra", 1.0, False),
    ]  # fmt: skip


def test_a_stage_that_is_entered_twice_is_shown_once_with_the_sum(pipe: Ledge, clock: Tick) -> None:
    with pipe.record() as request:
        for hit in (True, False):
            with request.stage("policy") as stage:
                clock(4)
                stage.hit = hit
    assert rounded(pipe.events[0]) == [(1, "policy", 8.0, True)]


def test_which_stage_answered_may_be_known_only_after_it(pipe: Ledge) -> None:
    with pipe.record() as request:
        with request.stage("lookup") as lookup:
            lookup.hit = True
        with request.stage("vector") as vector:
            vector.hit = False
        lookup.hit = False
        vector.hit = True
    assert [stage.hit for stage in stages_of(pipe.events[0])] == [False, True]
    assert (lookup.hit, vector.hit) == (False, True)


def test_a_nested_pipelines_time_is_its_own_and_not_its_stages(pipe: Ledge, clock: Tick) -> None:
    with pipe.record() as request, request.stage("retrieve") as outer:
        clock(1)
        with outer.stage("text") as inner:
            clock(2)
            with inner.stage("rank"):
                clock(4)
        with outer.stage("dense"):
            clock(8)
    [event] = pipe.events
    assert [(name, ms) for _, name, ms, _ in rounded(event)] == [
        ("retrieve", 1.0), ("retrieve/text", 2.0), ("retrieve/text/rank", 4.0), ("retrieve/dense", 8.0),
    ]  # fmt: skip
    assert event.total_ms == pytest.approx(15)


def test_a_stage_within_one_that_never_ran_is_shown_alone_and_replaces_no_exception(
    pipe: Ledge, clock: Tick
) -> None:
    def answer(request: Recording) -> None:
        with request:
            outer = request.stage("retrieve")
            for _ in range(300):
                with outer.stage("text"):
                    clock(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answer(pipe.record())
    assert rounded(pipe.events[0]) == [(1, "retrieve/text", 300.0, False)]


def test_a_stage_is_charged_for_what_ran_within_it_and_not_beside_it(pipe: Ledge, clock: Tick) -> None:
    with pipe.record() as request:
        outer = request.stage("retrieve")
        with outer.stage("before"):
            clock(4)
        with outer:
            clock(2)
            with outer.stage("within"):
                clock(1)
        with outer.stage("after"):
            clock(8)
    assert [(name, ms) for _, name, ms, _ in rounded(pipe.events[0])] == [
        ("retrieve/before", 4.0), ("retrieve", 2.0), ("retrieve/within", 1.0), ("retrieve/after", 8.0),
    ]  # fmt: skip


def test_a_stage_whose_parts_ran_at_the_same_time_has_no_time_below_zero(pipe: Ledge, clock: Tick) -> None:
    with (
        pipe.record() as request,
        request.stage("retrieve") as outer,
        outer.stage("text"),
        outer.stage("dense"),
    ):
        clock(2)
    assert rounded(pipe.events[0]) == [
        (1, "retrieve", 0.0, False), (2, "retrieve/text", 2.0, False), (3, "retrieve/dense", 2.0, False),
    ]  # fmt: skip


def test_a_stage_that_is_renamed_while_it_runs_has_its_time_under_the_new_name(
    pipe: Ledge, clock: Tick
) -> None:
    with pipe.record() as request, request.stage("cache") as stage:
        clock(2)
        stage.name = "memory"
    assert rounded(pipe.events[0]) == [(1, "cache", 0.0, False), (2, "memory", 2.0, False)]


def test_a_request_that_ends_before_one_within_it_leaves_that_the_current_one(pipe: Ledge) -> None:
    outer, inner = pipe.record(), pipe.record()
    with ExitStack() as stack:
        with outer:
            stack.enter_context(inner)
        assert current_recording() is inner


def test_a_request_within_a_request_is_an_event_of_its_own(pipe: Ledge) -> None:
    with pipe.record(request_id="outer") as outer:
        with pipe.record(request_id="inner") as inner:
            assert current_recording() is inner
        assert current_recording() is outer
    assert [event.request_id for event in pipe.events] == ["inner", "outer"]


def test_a_recording_that_ended_elsewhere_is_not_the_current_one(pipe: Ledge) -> None:
    def rows() -> Generator[int]:
        with pipe.record(request_id="rows"):
            yield 1

    with pipe.record(request_id="request") as request:
        generator = rows()
        next(generator)
        copy_context().run(generator.close)  # as Trio does with an async one that was not read to its end
        assert current_recording() is request
        with current_recording().stage("after"):
            pass
        with pipe.record(request_id="inner"):
            pass
        assert current_recording() is request
    assert [event.request_id for event in pipe.events] == ["rows", "inner", "request"]
    assert [stage.name for stage in stages_of(pipe.events[2])] == ["after"]


def test_who_stops_reading_a_generator_makes_no_error(pipe: Ledge) -> None:
    def rows() -> Generator[int]:
        with pipe.record(labels=["eu"]):
            yield 1

    generator = rows()
    next(generator)
    generator.close()
    assert [event.labels for event in pipe.events] == [["eu"]]


def test_recordings_that_overlap_for_ever_do_not_hold_each_other(pipe: Ledge) -> None:
    def rows() -> Generator[None]:
        with pipe.record():
            yield

    def living() -> int:
        gc.collect()
        return sum(type(thing) is Recording for thing in gc.get_objects())

    before = living()
    one = rows()
    next(one)
    for _ in range(100):
        other = rows()
        next(other)
        one.close()
        one = other
    assert living() - before < 5


def test_a_write_has_no_stages_unless_it_was_given_some(pipe: Ledge) -> None:
    with pipe.record("WRITE"):
        pass
    with pipe.record("WRITE") as request, request.stage("store"):
        pass
    with pipe.record("QUERY"):
        pass
    plain, staged, query = pipe.events
    assert plain.stages is None
    assert [stage.name for stage in stages_of(staged)] == ["store"]
    assert query.stages == []


def test_an_exception_passes_through_and_its_event_says_so_with_the_status_that_policy_gave(
    pipe: Ledge, clock: Tick
) -> None:
    def answer(request: Recording) -> None:
        with request, request.stage("cache"):
            request.status = "FILTERED"
            clock(3)
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        answer(pipe.record(labels=["eu"]))
    [event] = pipe.events
    assert (event.status, event.labels) == ("FILTERED", ["eu", "error", "KeyError"])
    assert rounded(event) == [(1, "cache", 3.0, False)]
    assert event.total_ms == pytest.approx(3)


async def test_an_exception_out_of_nurseries_is_told_by_its_own_type_and_several_by_their_groups(
    pipe: Ledge,
) -> None:
    async def fail(error: Exception) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        raise error

    async def answer(*errors: Exception) -> None:
        with pipe.record():
            async with trio.open_nursery() as outer, trio.open_nursery() as inner:
                for error in errors:
                    inner.start_soon(fail, error)
                outer.start_soon(trio.sleep_forever)

    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        await answer(KeyError())
    with pytest.RaisesGroup(KeyError, ValueError, flatten_subgroups=True):
        await answer(KeyError(), ValueError())
    assert [event.labels for event in pipe.events] == [["error", "KeyError"], ["error", "ExceptionGroup"]]


async def test_a_cancelled_request_is_no_error(pipe: Ledge, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1), pipe.record():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert [event.labels for event in pipe.events] == [["cancelled"]]


@pytest.mark.parametrize("labels", [None, 5, "eu"])
def test_what_is_no_sequence_of_labels_stays_as_it_is_and_replaces_no_exception(
    pipe: Ledge, labels: Any
) -> None:
    with pytest.raises(ZeroDivisionError), pipe.record(labels=labels):
        raise ZeroDivisionError
    [event] = pipe.events
    assert event.labels == labels
    with pytest.raises(ValueError, match="cannot be encoded"):
        marshal_sse(event)


def test_one_string_is_no_sequence_of_stages(pipe: Ledge) -> None:
    with pytest.raises(TypeError, match="stages must be a sequence of names, not 'cache'"):
        pipe.record(stages="cache")


def test_a_full_pipe_drops_the_event_and_the_request_goes_on() -> None:
    pipe = Pipe(1)
    for _ in range(3):
        with pipe.record() as request:
            pass
        assert request.event.total_ms >= 0
    assert (pipe.statistics().emitted, pipe.statistics().dropped) == (3, 2)


async def test_recording_is_no_checkpoint_and_goes_on_across_await(pipe: Ledge) -> None:
    with assert_no_checkpoints(), pipe.record() as request, request.stage("cache"):
        pass
    with pipe.record() as request, request.stage("lookup"):
        await trio.sleep(0.002)
        assert current_recording() is request
    assert stages_of(pipe.events[1])[0].ms >= 2


async def test_concurrent_requests_do_not_see_each_other(pipe: Ledge) -> None:
    async def answer(subject: str) -> None:
        with pipe.record(subject=subject):
            await wait_all_tasks_blocked()
            with current_recording().stage(subject):
                await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        for subject in ("a", "b", "c"):
            nursery.start_soon(answer, subject)
    assert sorted((event.subject, [s.name for s in stages_of(event)]) for event in pipe.events) == [
        ("a", ["a"]), ("b", ["b"]), ("c", ["c"]),
    ]  # fmt: skip


async def test_tasks_and_threads_of_a_request_time_its_stages(pipe: Ledge) -> None:
    def in_thread() -> None:
        with current_recording().stage("lookup") as stage:
            stage.hit = True

    with pipe.record(stages=STAGES) as request:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, in_thread)
            nursery.start_soon(trio.to_thread.run_sync, in_thread)
        with pytest.raises(RuntimeError, match="has not ended yet"):
            _ = request.event
    assert [(name, hit) for _, name, _, hit in rounded(pipe.events[0])] == [
        ("policy", False), ("cache", False), ("lookup", True),
    ]  # fmt: skip


def test_threads_that_share_a_stage_lose_none_of_its_time(
    pipe: Ledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = threading.local()

    def tick() -> float:
        ticks.count = getattr(ticks, "count", 0) + 1
        return float(ticks.count)

    monkeypatch.setattr("vizpipe_trio._record.perf_counter", tick)

    def work(request: Recording) -> None:
        for _ in range(2000):
            with request.stage("shared"):
                pass

    with pipe.record() as request:
        threads = [threading.Thread(target=work, args=(request,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert rounded(pipe.events[0]) == [(1, "shared", 8_000_000.0, False)]


def test_a_finalizer_that_enters_a_stage_at_the_end_of_its_request_replaces_no_exception(pipe: Ledge) -> None:
    numbers = count()

    def enter_another(*_: object) -> None:
        request.stage(f"late {next(numbers)}").__enter__()

    threshold = gc.get_threshold()
    try:
        with pipe.record(stages=STAGES) as request:
            gc.collect()
            gc.callbacks.append(enter_another)
            gc.set_threshold(1)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(enter_another)
    assert [stage.name for stage in stages_of(pipe.events[0])][:3] == STAGES


def test_a_stage_that_outlives_its_request_is_shown_without_its_time(pipe: Ledge, clock: Tick) -> None:
    with pipe.record() as request:
        stage = request.stage("late")
        stage.__enter__()
        clock(5)
    stage.__exit__(None, None, None)
    assert rounded(pipe.events[0]) == [(1, "late", 0.0, False)]


def test_a_recording_is_for_one_request(pipe: Ledge) -> None:
    recording = pipe.record()
    with recording:
        pass
    with pytest.raises(RuntimeError, match=r"call record\(\) for each"), recording:
        pass
    assert len(pipe.events) == 1


async def test_the_decorator_records_each_call_of_an_async_function(pipe: Ledge) -> None:
    @pipe.record("QUERY", source="search", stages=["cache"])
    async def search(query: str) -> str:
        request = current_recording()
        request.subject = query
        await trio.lowlevel.checkpoint()
        with request.stage("cache") as stage:
            stage.hit = query == "loops"
        return query.upper()

    assert [await search("loops"), await search("dicts")] == ["LOOPS", "DICTS"]
    assert [(event.source, event.subject) for event in pipe.events] == [
        ("search", "loops"), ("search", "dicts"),
    ]  # fmt: skip
    assert [stages_of(event)[0].hit for event in pipe.events] == [True, False]


def test_the_decorator_records_each_call_of_a_sync_function_and_keeps_its_name(pipe: Ledge) -> None:
    @pipe.record("WRITE", subject="index")
    def rebuild(size: int) -> int:
        """Build it anew."""
        return size + 1

    assert (rebuild(1), rebuild(size=2)) == (2, 3)
    assert (rebuild.__name__, rebuild.__doc__) == ("rebuild", "Build it anew.")
    assert [(event.op, event.subject) for event in pipe.events] == [("WRITE", "index")] * 2


def test_calls_of_a_recorded_function_do_not_share_their_labels(pipe: Ledge) -> None:
    @pipe.record(labels=["eu"])
    def count(number: int) -> None:
        labels = current_recording().labels
        assert isinstance(labels, list)
        labels.append(str(number))

    for number in range(3):
        count(number)
    assert [event.labels for event in pipe.events] == [["eu", "0"], ["eu", "1"], ["eu", "2"]]


def test_requests_that_begin_with_the_same_labels_do_not_share_them(pipe: Ledge) -> None:
    beginnings = ["eu"]
    for label in ("a", "b"):
        with pipe.record(labels=beginnings) as request:
            assert isinstance(request.labels, list)
            request.labels.append(label)
    with pipe.record() as request:
        assert isinstance(request.labels, list)
        request.labels.append("c")
    assert [event.labels for event in pipe.events] == [["eu", "a"], ["eu", "b"], ["c"]]
    assert beginnings == ["eu"]


async def rows() -> AsyncGenerator[int]:
    await trio.lowlevel.checkpoint()
    yield 1


def numbers() -> Generator[int]:
    yield 1


@pytest.mark.parametrize("function", [rows, numbers, asynccontextmanager(rows), contextmanager(numbers)])
def test_the_decorator_refuses_what_only_begins_when_its_result_is_used(
    pipe: Ledge, function: Callable[[], object]
) -> None:
    with pytest.raises(TypeError, match="round the loop or block that uses it"):
        pipe.record()(function)


def test_the_decorator_refuses_a_plain_wrapper_of_an_async_function(pipe: Ledge) -> None:
    async def search() -> None:
        await trio.lowlevel.checkpoint()

    @wraps(search)
    def retried() -> Awaitable[None]:
        return search()

    with pytest.raises(TypeError, match="decorate the async function itself"):
        pipe.record()(retried)


def test_a_plain_wrapper_that_says_nothing_of_an_async_function_is_found_out_when_called(pipe: Ledge) -> None:
    async def search() -> None:
        await trio.lowlevel.checkpoint()

    @pipe.record()
    def hidden() -> Awaitable[None]:
        return search()

    with pytest.raises(TypeError, match="decorate the async function itself"):
        hidden()
    assert [event.labels for event in pipe.events] == [["error", "TypeError"]]


def test_code_that_times_its_stages_also_runs_without_a_request(pipe: Ledge) -> None:
    with current_recording().stage("cache") as stage:
        stage.hit = True
    assert pipe.events == []


def test_a_recorded_event_can_go_on_the_wire(pipe: Ledge) -> None:
    with pipe.record(stages=STAGES) as request, request.stage("cache"):
        pass
    assert isinstance(stages_of(request.event)[0], StageInfo)
    assert marshal_sse(request.event).startswith(b'data: {"ts":"')
