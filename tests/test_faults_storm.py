"""Storms of emits from ten threads, through every end that a pipe and its Trio run can have."""

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Self

import pytest
import trio

from vizpipe_trio import Event, Pipe


class Storm:
    """Ten threads that emit without a pause, and their own count of what they did."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._emit, args=[number]) for number in range(10)]
        self.calls = [0] * 10
        self.accepted = [0] * 10

    def _emit(self, thread: int) -> None:
        while not self.over.is_set():
            self.calls[thread] += 1
            self.accepted[thread] += self._pipe.emit(Event(source=str(thread)))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(timeout=20)
        assert not any(thread.is_alive() for thread in self._threads), "an emit did not return"


class Metric:
    def __init__(self) -> None:
        self._numbers = count()
        self.dropped = 0

    def inc(self) -> None:
        self.dropped = next(self._numbers) + 1  # atomic, as += is not


async def stop(pipe: Pipe, nursery: trio.Nursery) -> None:
    pipe.stop()
    await trio.lowlevel.checkpoint()


async def stop_from_a_thread(pipe: Pipe, nursery: trio.Nursery) -> None:
    await trio.to_thread.run_sync(pipe.stop)


async def cancel(pipe: Pipe, nursery: trio.Nursery) -> None:
    nursery.cancel_scope.cancel()
    await trio.lowlevel.checkpoint()


async def crash(pipe: Pipe, nursery: trio.Nursery) -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError("the host's own")


ENDS = [stop, stop_from_a_thread, cancel, crash]


@pytest.mark.parametrize("end", ENDS)
def test_a_storm_that_outlives_the_run_is_counted_call_by_call(
    end: Callable[[Pipe, trio.Nursery], Awaitable[None]],
) -> None:
    metric = Metric()
    pipe = Pipe(100, metric)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            with pipe.subscribe() as subscription, trio.fail_after(120):
                while subscription.delivered < 1000:
                    await subscription.receive_bytes()  # all that waits: its turns are few
                await end(pipe, nursery)

    with Storm(pipe) as storm:
        with suppress(BaseExceptionGroup):
            trio.run(main)
        calls = sum(storm.calls)
        while sum(storm.calls) < calls + 1000:  # Trio is gone, and they emit on
            storm.over.wait(0.001)
    statistics = pipe.statistics()
    assert statistics.emitted == sum(storm.calls)
    assert statistics.dropped == sum(storm.calls) - sum(storm.accepted) == metric.dropped
    assert statistics.emitted == statistics.dropped + statistics.broadcast + statistics.queued
    assert statistics.broadcast >= 1000


def test_a_storm_over_many_short_runs_of_one_pipe_is_counted_call_by_call() -> None:
    pipe = Pipe(100)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            with pipe.subscribe() as subscription, trio.fail_after(120):
                while subscription.delivered < 100:
                    await subscription.receive_bytes()  # all that waits: its turns are few
            nursery.cancel_scope.cancel()

    with Storm(pipe) as storm:
        for _ in range(20):
            trio.run(main)
    statistics = pipe.statistics()
    assert statistics.emitted == sum(storm.calls)
    assert statistics.emitted - statistics.dropped == sum(storm.accepted)
    assert sum(storm.accepted) == statistics.broadcast + statistics.queued
