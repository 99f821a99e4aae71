"""Handing over an event: from any thread, at any time, without ever blocking."""

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from vizpipe_trio import Event, Pipe, open_pipe
from vizpipe_trio.testing import RecordingMetric


class Broken:
    def inc(self) -> None:
        raise RuntimeError("the metric is broken")


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Run ``work`` in so many plain threads at once."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_full_pipe_drops_at_once_and_counts() -> None:
    metric = RecordingMetric()
    pipe = Pipe(1, metric)
    assert [pipe.emit(Event()) for _ in range(10)] == [True] + [False] * 9
    assert metric.count == 9
    assert not any(pipe.emit(Event()) for _ in range(1000))
    statistics = pipe.statistics()
    assert (statistics.emitted, statistics.dropped, statistics.queued) == (1010, 1009, 1)


@pytest.mark.parametrize("capacity", [0, -1, -1000])
def test_a_capacity_of_nothing_means_a_thousand(capacity: int) -> None:
    pipe = Pipe(capacity)
    assert sum(pipe.emit(Event()) for _ in range(1001)) == 1000
    assert pipe.statistics().capacity == 1000


async def test_a_full_pipe_that_runs_drops_the_same_way() -> None:
    metric = RecordingMetric()
    pipe = Pipe(4, metric)
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        await wait_all_tasks_blocked()
        assert [pipe.emit(Event()) for _ in range(6)] == [True] * 4 + [False] * 2
        assert metric.count == 2
        pipe.stop()


async def test_emit_stop_subscribe_and_statistics_are_no_checkpoints() -> None:
    pipe = Pipe(2)
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        with assert_no_checkpoints():
            with pipe.subscribe():
                for _ in range(4):
                    pipe.emit(Event())
                pipe.statistics()
            pipe.stop()


async def test_what_is_emitted_before_the_run_is_buffered() -> None:
    pipe = Pipe()
    pipe.emit(Event(request_id="early"))
    with pipe.subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            pipe.emit(Event(request_id="late"))
            pipe.stop()
        assert [event.request_id async for event in subscription] == ["early", "late"]


async def test_what_is_emitted_after_the_stop_is_dropped() -> None:
    pipe = Pipe()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        pipe.stop()
        assert not pipe.emit(Event())
    assert not pipe.emit(Event())
    assert pipe.statistics().dropped == 2


def test_what_is_emitted_after_the_end_of_trio_is_dropped() -> None:
    pipe = Pipe()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert not pipe.emit(Event())
    in_threads(10, lambda: pipe.emit(Event()))
    assert pipe.statistics().dropped == 11


@pytest.mark.parametrize("thread", [None, threading.get_ident()])
def test_an_emit_that_finds_trio_gone_is_a_drop(thread: int | None) -> None:
    """As if Trio had crashed: run() was never unwound, and its token is dead."""

    async def token() -> trio.lowlevel.TrioToken:
        await trio.lowlevel.checkpoint()
        return trio.lowlevel.current_trio_token()

    pipe = Pipe()
    entrance: Any = pipe._entrance
    entrance.token = trio.run(token)
    entrance._thread = thread
    entrance._alarm = 0
    assert not pipe.emit(Event())
    statistics = pipe.statistics()
    assert (statistics.emitted, statistics.dropped, statistics.queued) == (1, 1, 0)


async def test_an_event_from_a_trio_worker_thread_arrives_and_keeps_its_place() -> None:
    pipe = Pipe()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        with pipe.subscribe() as subscription:
            for number in range(0, 20, 2):
                assert await trio.to_thread.run_sync(pipe.emit, Event(result_count=number))
                pipe.emit(Event(result_count=number + 1))
            pipe.stop()
            assert [event.result_count async for event in subscription] == list(range(20))


async def test_ten_plain_threads_at_once_lose_nothing_that_was_accepted() -> None:
    pipe = Pipe(500, client_capacity=100_000)
    accepted = [0] * 10
    with pipe.subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)

            def emit(thread: int) -> None:
                for number in range(2000):
                    accepted[thread] += pipe.emit(Event(source=str(thread), result_count=number))

            async with trio.open_nursery() as threads:
                for thread in range(10):
                    threads.start_soon(trio.to_thread.run_sync, emit, thread)
            pipe.stop()
        seen: dict[str, list[int]] = {}
        async for event in subscription:
            seen.setdefault(event.source, []).append(event.result_count)
    assert [len(seen.get(str(thread), [])) for thread in range(10)] == accepted
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    statistics = pipe.statistics()
    assert (statistics.emitted, statistics.dropped) == (20_000, 20_000 - sum(accepted))


async def test_an_event_from_a_thread_wakes_a_pipe_that_sleeps() -> None:
    pipe = Pipe()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        with pipe.subscribe() as subscription, trio.fail_after(5):
            await wait_all_tasks_blocked()
            thread = threading.Thread(target=pipe.emit, args=[Event(request_id="far")])
            thread.start()
            assert (await anext(subscription)).request_id == "far"
            thread.join()
        pipe.stop()


async def test_threads_that_emit_while_the_pipe_stops_and_the_run_ends_are_each_counted() -> None:
    pipe = Pipe(100)
    calls = [0] * 10
    ended = threading.Event()

    def storm(thread: int) -> None:
        while not ended.is_set():
            pipe.emit(Event())
            calls[thread] += 1

    threads = [threading.Thread(target=storm, args=[number]) for number in range(10)]
    with pipe.subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            for thread in threads:
                thread.start()
            async for event in subscription:
                assert event.op == "QUERY"
                if subscription.delivered == 300:
                    pipe.stop()
    ended.set()
    for thread in threads:
        thread.join()
    statistics = pipe.statistics()
    assert statistics.emitted == sum(calls)
    assert statistics.emitted == statistics.dropped + statistics.broadcast + statistics.queued
    assert statistics.queued == 0


def test_a_metric_that_raises_does_not_reach_who_emits() -> None:
    pipe = Pipe(1, Broken())
    assert [pipe.emit(Event()) for _ in range(3)] == [True, False, False]
    assert pipe.statistics().dropped == 2


async def test_a_metric_that_raises_is_logged_once_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    pipe = Pipe(1, Broken(), logging.getLogger("host"))
    for _ in range(5):
        pipe.emit(Event())
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        pipe.stop()
    assert caplog.messages == [
        "4 times: metric.inc() raised; the latest: RuntimeError('the metric is broken')"
    ]


@pytest.mark.parametrize("thing", [None, {}, "event", object()])
async def test_what_is_no_event_is_accepted_and_counted_as_invalid(thing: Any) -> None:
    pipe = Pipe()
    assert pipe.emit(thing)
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        pipe.stop()
    statistics = pipe.statistics()
    assert (statistics.invalid, statistics.broadcast) == (1, 0)


async def test_a_ctrl_c_cannot_come_between_the_event_and_its_count() -> None:
    class Metric:
        def inc(self) -> None:
            protected.append(trio.lowlevel.currently_ki_protected())

    protected: list[bool] = []
    pipe = Pipe(1, Metric())
    for _ in range(2):
        pipe.emit(Event())  # before the run, as any other thread
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        for _ in range(3):
            pipe.emit(Event())
        pipe.stop()
    assert len(protected) >= 2
    assert all(protected)


async def test_an_emit_in_the_middle_of_an_emit_does_not_hang() -> None:
    """As from a finalizer, or a signal handler, that comes at the worst moment."""
    pipe = Pipe()

    def emit_within() -> bool:
        with pipe._entrance._lock:
            return pipe.emit(Event())

    thread = threading.Thread(target=emit_within, daemon=True)
    thread.start()
    with trio.fail_after(5):
        await trio.to_thread.run_sync(thread.join, abandon_on_cancel=True)
    assert pipe.statistics().queued == 1


def emit_one(pipe: Pipe) -> None:
    pipe.emit(Event())


@pytest.mark.parametrize("call", [emit_one, Pipe.stop])
def test_who_wakes_trio_keeps_no_other_thread_waiting(call: Callable[[Pipe], object]) -> None:
    """One may hold what Trio locks for it: a finalizer or a signal handler comes at the worst moment."""

    class Token:
        def run_sync_soon(self, *_: object, idempotent: bool) -> None:
            other = threading.Thread(target=pipe.statistics, daemon=True)
            other.start()
            other.join(5)
            waited.append(other.is_alive())

    waited: list[bool] = []
    pipe = Pipe()
    entrance: Any = pipe._entrance
    entrance.token = Token()
    entrance._alarm = 0
    call(pipe)
    assert waited == [False]


def jobs_for_trio() -> int:
    return trio.lowlevel.current_statistics().run_sync_soon_queue_size


async def test_a_tasks_emit_wakes_the_pipe_without_a_detour() -> None:
    async with open_pipe() as pipe:
        await wait_all_tasks_blocked()
        before = jobs_for_trio()
        pipe.emit(Event())
        assert jobs_for_trio() == before


@pytest.mark.parametrize("name", [None, 7])
async def test_an_emit_by_code_whose_module_has_no_proper_name_wakes_the_pipe(name: object) -> None:
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            await wait_all_tasks_blocked()
            exec("emit()", {"__name__": name, "emit": lambda: pipe.emit(Event())})  # noqa: S102
            with trio.fail_after(5):
                await anext(subscription)


class Interrupted(deque[Event]):
    """A queue at which somebody else emits, once, right after its length was looked up."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe: Pipe | None = pipe

    def __len__(self) -> int:
        length = super().__len__()
        if "rest" in {frame.name for frame in traceback.extract_stack(limit=2)} and self._pipe is not None:
            pipe, self._pipe = self._pipe, None
            pipe.emit(Event())
        return length


async def test_an_emit_just_as_the_pipe_falls_asleep_wakes_it() -> None:
    """As by a signal handler or a finalizer."""
    pipe = Pipe()
    pipe._entrance.waiting = Interrupted(pipe)
    with pipe.subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            with trio.fail_after(5):
                await anext(subscription)
            pipe.stop()


async def test_an_emit_from_deep_down_wakes_the_pipe() -> None:
    def descend(depth: int) -> bool:
        return descend(depth - 1) if depth else pipe.emit(Event())

    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            await wait_all_tasks_blocked()
            assert descend(300)
            with trio.fail_after(5):
                await anext(subscription)


class Emitter(trio.abc.Instrument):
    """Emits in the middle of Trio's work, as a finalizer or a signal handler may."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.emitted = 0
        self.detours = 0

    def _emit(self) -> None:
        if not self.emitted:
            self.emitted += 1
            before = jobs_for_trio()
            self._pipe.emit(Event())
            self.detours += jobs_for_trio() - before


class InRunLoop(Emitter):
    def before_io_wait(self, timeout: float) -> None:
        self._emit()


class InReschedule(Emitter):
    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self._emit()


@pytest.mark.parametrize("kind", [InRunLoop, InReschedule])
async def test_an_emit_in_the_middle_of_trios_own_work_wakes_the_pipe_by_trios_queue(
    kind: type[Emitter],
) -> None:
    waiter = trio.Event()
    async with open_pipe() as pipe, trio.open_nursery() as nursery:
        nursery.start_soon(waiter.wait)
        with pipe.subscribe() as subscription:
            await wait_all_tasks_blocked()
            emitter = kind(pipe)
            trio.lowlevel.add_instrument(emitter)
            waiter.set()
            with trio.fail_after(5):
                await anext(subscription)
            trio.lowlevel.remove_instrument(emitter)
        assert emitter.detours == 1


async def test_an_emit_while_trio_cancels_the_pipe_wakes_it_once() -> None:
    pipe = Pipe()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            await wait_all_tasks_blocked()

            def cancelled(_: object) -> trio.lowlevel.Abort:
                pipe.emit(Event())
                return trio.lowlevel.Abort.SUCCEEDED

            # Aborted after the pipe, or before it: Trio's order.
            nursery.start_soon(trio.lowlevel.wait_task_rescheduled, cancelled)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert pipe.statistics().emitted == 1


def test_what_a_metric_raised_does_not_keep_the_emitting_function_alive() -> None:
    class Thing:
        pass

    def handler() -> None:
        thing = Thing()
        things.add(thing)
        pipe.emit(Event())

    things: WeakSet[Thing] = WeakSet()
    pipe = Pipe(1, Broken())
    pipe.emit(Event())
    handler()
    assert not things
