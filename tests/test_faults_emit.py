"""Faults on the way in: whoever emits is told yes or no, and nothing else."""

import logging
import threading
from collections import deque
from typing import Any

import pytest
import trio
from faults import Fault, check_ledger
from trio.testing import MockClock, wait_all_tasks_blocked

from vizpipe_trio import Event, Pipe, open_pipe

LOGGER = logging.getLogger("host")


class Full(deque[Event]):
    """As if there were no memory left."""

    def append(self, x: Event, /) -> None:
        raise MemoryError


async def emit_in(thread: str, pipe: Pipe) -> bool:
    if thread == "the pipe's":
        return pipe.emit(Event(request_id="e"))
    return await trio.to_thread.run_sync(pipe.emit, Event(request_id="e"))


@pytest.mark.parametrize("thread", ["the pipe's", "another"])
async def test_an_event_for_which_there_is_no_memory_is_dropped(thread: str) -> None:
    async with open_pipe(logger=LOGGER) as pipe:
        with pipe.subscribe() as subscription:
            entrance: Any = pipe._entrance
            waiting, entrance.waiting = entrance.waiting, Full()
            assert not await emit_in(thread, pipe)
            entrance.waiting = waiting
            assert (pipe.statistics().emitted, pipe.statistics().dropped) == (1, 1)
            pipe.emit(Event())
            told = b'event: missed\ndata: {"missed":1,"reason":"overload"}\n\n'
            assert told in await subscription.receive_bytes()


@pytest.mark.parametrize("seam", ["_entrance._is_call_by_a_task", "_entrance.Entrance._wake"])
async def test_a_fault_while_the_pipe_is_woken_does_not_reach_who_emits(
    seam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pipe(logger=LOGGER) as pipe:
        with pipe.subscribe() as subscription:
            await wait_all_tasks_blocked()
            fault = Fault(monkeypatch, seam, 1, RuntimeError("a fault of ours"))
            assert pipe.emit(Event(request_id="e"))
            assert fault.left == 0
            with trio.fail_after(5):
                assert (await anext(subscription)).request_id == "e"


@pytest.mark.parametrize("thread", ["the pipe's", "another"])
async def test_a_pipe_that_could_not_be_woken_is_woken_by_the_next_event(
    thread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("no buffer space available")

    async with open_pipe(logger=LOGGER) as pipe:
        with pipe.subscribe() as subscription:
            await wait_all_tasks_blocked()
            with monkeypatch.context() as patch:
                patch.setattr("vizpipe_trio._entrance._is_call_by_a_task", broken)
                patch.setattr(trio.lowlevel.TrioToken, "run_sync_soon", broken)
                if thread == "another":
                    plain = threading.Thread(target=pipe.emit, args=[Event(request_id="e")])
                    plain.start()
                    plain.join()
                else:
                    assert pipe.emit(Event(request_id="e"))
            assert pipe.emit(Event())
            with trio.fail_after(5):
                assert (await anext(subscription)).request_id == "e"


class Order:
    def inc(self) -> None:
        raise KeyboardInterrupt


async def test_an_order_to_exit_that_a_metric_raises_comes_after_the_drop_was_counted() -> None:
    pipe = Pipe(1, Order())
    pipe.emit(Event())
    with pytest.raises(KeyboardInterrupt):
        pipe.emit(Event())
    check_ledger(pipe)
    assert pipe.statistics().dropped == 1
    await trio.lowlevel.checkpoint()


class UnprintableError(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("not printable")


class Unkind:
    def inc(self) -> None:
        raise UnprintableError


@pytest.mark.parametrize("seam", ["_report.FaultReport._remember", "_report._told_by"])
async def test_a_fault_in_the_report_does_not_reach_who_emits(
    seam: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = Pipe(1, Unkind(), LOGGER)
    Fault(monkeypatch, seam, 1, RuntimeError("a fault of ours"))
    assert [pipe.emit(Event()) for _ in range(4)] == [True, False, False, False]
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        pipe.stop()
    assert caplog.messages == ["2 times: metric.inc() raised; the latest: UnprintableError"]


class Silent(logging.Logger):
    """A logger of a host that has gone wrong in every way."""

    def log(self, *args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")


async def test_a_logger_that_is_broken_itself_does_not_end_the_run(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pipe(logger=Silent("host")) as pipe:
        with pipe.subscribe() as subscription:
            for name in ("_dispatcher.Dispatcher._take", "_intake.encode_event", "_log.Log.since"):
                Fault(monkeypatch, name, 1, RuntimeError("a fault of ours"))
                pipe.emit(Event())
                await trio.sleep(20)
            pipe.emit(Event(request_id="last"))
            pipe.stop()
            assert [event.request_id async for event in subscription][-1] == "last"
