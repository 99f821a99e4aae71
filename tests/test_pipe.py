"""The dispatcher: order, pace, fairness, and how everything ends."""

import gc
import logging
import math
import threading
from collections.abc import Generator
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from support import until
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from vizpipe_trio import Event, Pipe, Subscription, open_pipe
from vizpipe_trio._dispatcher import Dispatcher
from vizpipe_trio._heartbeats import Heartbeats
from vizpipe_trio._mailbox import Mailbox
from vizpipe_trio._sse import encode_event
from vizpipe_trio._stream import EventStream


def numbered(count: int, start: int = 0) -> list[Event]:
    return [Event(result_count=number) for number in range(start, start + count)]


async def numbers(subscription: Subscription) -> list[int]:
    return [event.result_count async for event in subscription]


async def test_each_subscriber_gets_every_event_in_order() -> None:
    async with open_pipe() as pipe:
        with pipe.subscribe() as first, pipe.subscribe() as second:
            for event in numbered(500):
                pipe.emit(event)
            pipe.stop()
            assert await numbers(first) == await numbers(second) == list(range(500))


async def test_the_events_are_the_very_ones_that_were_emitted() -> None:
    event = Event(request_id="r1")
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            pipe.emit(event)
            assert await anext(subscription) is event


async def test_one_that_leaves_gets_nothing_more_and_leaves_nothing_behind() -> None:
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            pipe.emit(Event())
            await anext(subscription)
            assert pipe.statistics().clients == 1
        pipe.emit(Event())
        await wait_all_tasks_blocked()
        assert (subscription.offered, subscription.queued) == (1, 0)
        assert not subscription._mailbox.queue
        assert pipe.statistics().clients == 0
        with pytest.raises(trio.ClosedResourceError):
            await anext(subscription)


async def test_a_task_that_iterates_is_told_when_its_subscription_is_closed() -> None:
    async with open_pipe() as pipe, trio.open_nursery() as nursery:
        subscription = pipe.subscribe()

        async def iterate() -> None:
            with pytest.raises(trio.ClosedResourceError, match="this subscription was closed"):
                await anext(subscription)

        nursery.start_soon(iterate)
        await wait_all_tasks_blocked()
        subscription.close()


async def test_a_slow_subscriber_misses_events_and_others_do_not() -> None:
    async with open_pipe(client_capacity=4) as pipe:
        with pipe.subscribe() as slow, pipe.subscribe() as quick:
            for event in numbered(10):
                pipe.emit(event)
                assert (await anext(quick)).result_count == event.result_count
            pipe.stop()
            assert await numbers(slow) == [0, 1, 2, 3]
            assert (slow.missed, quick.missed) == (6, 0)
            assert pipe.statistics().missed == 6


async def test_a_burst_of_the_whole_capacity_reaches_a_hundred_idle_subscribers() -> None:
    async with open_pipe(1000) as pipe:
        subscriptions = [pipe.subscribe() for _ in range(100)]
        await wait_all_tasks_blocked()
        assert all(pipe.emit(event) for event in numbered(1000))
        pipe.stop()
        for subscription in subscriptions:
            assert await numbers(subscription) == list(range(1000))


async def test_a_subscriber_gets_what_is_broadcast_after_it_came(autojump_clock: MockClock) -> None:
    async with open_pipe() as pipe:
        pipe.emit(numbered(1)[0])
        await trio.sleep(1)
        with pipe.subscribe() as subscription:
            pipe.emit(numbered(1, start=1)[0])
            pipe.stop()
            assert await numbers(subscription) == [1]


async def test_iterating_is_a_checkpoint_also_when_events_wait() -> None:
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            for event in numbered(3):
                pipe.emit(event)
            await wait_all_tasks_blocked()
            for _ in range(3):
                with assert_checkpoints():
                    await anext(subscription)
            pipe.emit(Event())
            await wait_all_tasks_blocked()
            with assert_checkpoints():
                await subscription.receive_bytes()


async def test_a_cancelled_iteration_loses_nothing(autojump_clock: MockClock) -> None:
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            with trio.move_on_after(1):
                await anext(subscription)
            pipe.emit(numbered(1)[0])
            await wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(subscription)
            assert (await anext(subscription)).result_count == 0


async def test_the_first_event_after_a_pause_goes_at_once_and_the_next_ones_together(
    autojump_clock: MockClock,
) -> None:
    async with open_pipe(flush_interval=0.05) as pipe:
        with pipe.subscribe() as subscription:
            await trio.sleep(1)
            start = trio.current_time()
            arrived: list[float] = []
            for _ in range(4):
                pipe.emit(Event())
                await wait_all_tasks_blocked()
                arrived += [0.0] * (subscription.queued and not arrived)
                await trio.sleep(0.01)
            await subscription.receive_bytes()
            assert (await subscription.receive_bytes()).count(b"data:") == 3
            assert trio.current_time() - start == pytest.approx(0.05)
            assert arrived == [0.0]


async def test_a_busy_pipe_empties_its_entrance_and_does_not_wait_longer_than_a_write_can_grow(
    autojump_clock: MockClock, unhurried: None
) -> None:
    async with open_pipe(100, flush_interval=1000) as pipe:
        with pipe.subscribe() as subscription:
            pipe.emit(Event())
            await wait_all_tasks_blocked()
            for _ in range(14):
                assert all(pipe.emit(event) for event in numbered(60))
                await wait_all_tasks_blocked()
            assert trio.current_time() < 1
            assert pipe.statistics().queued < 100
            assert len(await subscription.receive_bytes()) > 32_768


async def test_other_tasks_get_their_turn_while_many_clients_are_woken() -> None:
    turns: list[int] = []
    async with open_pipe() as pipe, trio.open_nursery() as nursery:

        async def read(subscription: Subscription) -> None:
            await subscription.receive_bytes()
            turns.append(subscription.delivered)

        for _ in range(100):
            nursery.start_soon(read, pipe.subscribe())
        await wait_all_tasks_blocked()
        pipe.emit(Event())
        woken_by_turn: list[int] = []
        while len(turns) < 100:
            await trio.lowlevel.checkpoint()
            woken_by_turn.append(len(turns))
        assert max(b - a for a, b in pairwise(woken_by_turn)) <= 20


@pytest.mark.parametrize(
    "bad",
    [
        Event(labels=[object()]),  # type: ignore[list-item]
        Event(timestamp=datetime(2026, 1, 1)),  # noqa: DTZ001
        Event(subject="\ud800"),
        Event(total_ms=math.nan),
    ],
)
async def test_an_event_that_cannot_be_encoded_is_counted_and_the_next_one_flows(bad: Event) -> None:
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            pipe.emit(bad)
            pipe.emit(Event(request_id="good"))
            assert (await anext(subscription)).request_id == "good"
        statistics = pipe.statistics()
        assert (statistics.invalid, statistics.broadcast) == (1, 1)


async def test_invalid_events_are_logged_at_once_and_then_in_sums(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bad = Event(total_ms=math.nan)
    async with open_pipe(logger=logging.getLogger("host")) as pipe:
        for _ in range(6):
            pipe.emit(bad)
            await trio.sleep(3)
    reason = "the event cannot be encoded: Expected `float`, got `null` - at `$.total_ms`"
    assert caplog.messages == [
        f"{count} times: an event was left out as invalid; the latest: ValueError('{reason}')"
        for count in (1, 3, 2)
    ]


async def test_a_logger_that_raises_does_not_end_the_pipe() -> None:
    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    logger = logging.Logger("host")  # noqa: LOG001 - not one for the other tests
    logger.addHandler(Raises())
    async with open_pipe(logger=logger) as pipe:
        with pipe.subscribe() as subscription:
            pipe.emit(Event(total_ms=math.inf))
            pipe.emit(Event(request_id="good"))
            assert (await anext(subscription)).request_id == "good"


async def test_a_filter_chooses_and_the_account_says_what_it_left_out() -> None:
    async with open_pipe() as pipe:
        with pipe.subscribe(lambda event: event.result_count % 3 == 0) as subscription:
            for event in numbered(10):
                pipe.emit(event)
            pipe.stop()
            assert await numbers(subscription) == [0, 3, 6, 9]
            assert (subscription.offered, subscription.filtered) == (10, 6)


async def test_a_filter_that_raises_filters_out_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def wanted(event: Event) -> bool:
        return 1 // event.result_count > 0

    async with open_pipe(logger=logging.getLogger("host")) as pipe:
        with pipe.subscribe(wanted) as subscription, pipe.subscribe() as other:
            for event in numbered(2):
                pipe.emit(event)
            pipe.stop()
            assert await numbers(subscription) == [1]
            assert await numbers(other) == [0, 1]
    assert len(caplog.messages) == 1
    assert caplog.messages[0] == (
        "1 times: a filter raised, and its client did not get the event; "
        "the latest: ZeroDivisionError('integer division or modulo by zero')"
    )


async def test_stop_hands_out_what_is_queued_and_ends_every_iteration() -> None:
    pipe = Pipe()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        subscriptions = [pipe.subscribe() for _ in range(30)]
        for event in numbered(900):
            pipe.emit(event)
        pipe.stop()
        pipe.stop()
    for subscription in subscriptions:
        assert await numbers(subscription) == list(range(900))
        assert pipe.statistics().clients > 0
        subscription.close()
    assert pipe.statistics().clients == 0


async def test_stop_ends_a_subscriber_that_waits() -> None:
    async with open_pipe() as pipe, trio.open_nursery() as nursery:
        got: list[list[int]] = []

        async def read() -> None:
            with pipe.subscribe() as subscription:
                got.append(await numbers(subscription))

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        pipe.stop()
        with trio.fail_after(1):
            await wait_all_tasks_blocked()
        assert got == [[]]


async def test_other_tasks_get_their_turn_while_many_clients_are_ended() -> None:
    ended = 0

    async def read(subscription: Subscription) -> None:
        nonlocal ended
        assert await numbers(subscription) == []
        ended += 1

    async with open_pipe() as pipe, trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(read, pipe.subscribe())
        await wait_all_tasks_blocked()
        pipe.stop()
        ended_by_turn = [0]
        while ended < 100:
            await trio.lowlevel.checkpoint()
            ended_by_turn.append(ended)
    assert max(b - a for a, b in pairwise(ended_by_turn)) <= 20  # two turns, when Trio shuffles them so


async def test_a_run_that_is_cancelled_at_its_end_ends_every_client_all_the_same() -> None:
    pipe = Pipe()
    subscriptions = [pipe.subscribe() for _ in range(100)]
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        await wait_all_tasks_blocked()
        pipe.stop()
        passes = 0
        while not subscriptions[0]._mailbox.ended:
            await trio.lowlevel.checkpoint()
            passes += 1
        assert passes < 20
        assert not subscriptions[-1]._mailbox.ended
        nursery.cancel_scope.cancel()
    for subscription in subscriptions:
        with trio.fail_after(5):
            assert await numbers(subscription) == []


async def test_running_a_pipe_that_was_stopped_before_is_a_checkpoint() -> None:
    pipe = Pipe()
    pipe.stop()
    with assert_checkpoints():
        await pipe.run()


async def test_cancelling_the_nursery_ends_the_subscribers() -> None:
    pipe = Pipe()
    with pipe.subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            assert await numbers(subscription) == []
    with pipe.subscribe() as late:
        assert await numbers(late) == []


async def test_a_pipe_that_was_cancelled_can_be_run_again() -> None:
    pipe = Pipe()
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            with pipe.subscribe() as subscription:
                pipe.emit(Event(request_id="r1"))
                assert (await anext(subscription)).request_id == "r1"
            nursery.cancel_scope.cancel()
        assert (pipe.statistics().running, pipe.statistics().stopped) == (False, False)
    assert pipe.statistics().broadcast == 2


async def test_a_second_run_at_the_same_time_is_refused() -> None:
    async with open_pipe() as pipe:
        with pytest.raises(RuntimeError, match="this pipe is already running"):
            await pipe.run()
        with pipe.subscribe() as subscription:
            pipe.emit(Event())
            assert (await anext(subscription)).op == "QUERY"


async def test_a_pipe_stopped_before_its_run_hands_out_what_it_has_and_returns() -> None:
    pipe = Pipe()
    with pipe.subscribe() as subscription:
        pipe.emit(Event(request_id="early"))
        pipe.stop()
        with trio.fail_after(1):
            await pipe.run()
        assert [event.request_id async for event in subscription] == ["early"]


async def test_all_who_wait_get_what_is_handed_out_by_a_pipe_stopped_before_its_run() -> None:
    received: list[int] = []

    async def read(subscription: Subscription) -> None:
        received.extend(await numbers(subscription))

    for _ in range(10):  # whether they or the run hear first of the stop is Trio's choice
        pipe = Pipe()
        async with trio.open_nursery() as nursery:
            for _ in range(50):  # more than are served in one turn
                nursery.start_soon(read, pipe.subscribe())
            await wait_all_tasks_blocked()
            pipe.emit(Event(result_count=1))
            pipe.stop()
            await nursery.start(pipe.run)
    assert received == [1] * 500


def test_a_pipe_that_never_ran_can_be_stopped_outside_trio() -> None:
    pipe = Pipe()
    subscription = pipe.subscribe()
    pipe.stop()
    assert trio.run(numbers, subscription) == []


async def test_stop_from_another_thread_ends_the_run() -> None:
    pipe = Pipe()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            await wait_all_tasks_blocked()
            await trio.to_thread.run_sync(pipe.stop)
    assert pipe.statistics().stopped


async def test_open_pipe_hands_out_what_is_queued_on_the_way_out() -> None:
    async with open_pipe() as pipe:
        subscription = pipe.subscribe()
        pipe.emit(Event(request_id="last"))
    assert [event.request_id async for event in subscription] == ["last"]
    assert not pipe.statistics().running


async def test_an_exception_in_the_body_of_open_pipe_comes_out_in_its_group() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="the host's own")):
        async with open_pipe():
            raise LookupError("the host's own")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"client_capacity": 0}, "client_capacity must be at least 1, not 0"),
        ({"history": -1}, "history must be at least 0, not -1"),
        ({"flush_interval": -0.1}, "flush_interval must be 0 or more seconds, not -0.1"),
        ({"flush_interval": math.nan}, "flush_interval must be 0 or more seconds, not nan"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pipe(**arguments)


@pytest.mark.parametrize("name", ["capacity", "client_capacity", "history"])
@pytest.mark.parametrize("count", [1e3, math.inf, "1000", None])
def test_a_bound_that_is_no_whole_number_is_refused(name: str, count: object) -> None:
    arguments: dict[str, Any] = {name: count}
    with pytest.raises(TypeError, match=f"^{name} must be an int, not {count!r}$"):
        Pipe(**arguments)


async def test_the_statistics_are_a_frozen_snapshot() -> None:
    pipe = Pipe()
    before: Any = pipe.statistics()
    pipe.emit(Event())
    assert before.emitted == 0
    with pytest.raises(AttributeError, match="immutable"):
        before.emitted = 1
    await trio.lowlevel.checkpoint()


async def test_other_tasks_get_their_turn_while_many_filters_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = 0

    def counting(event: Event) -> bool:
        nonlocal tried
        tried += 1
        return False

    # As if each took 10 µs.
    monkeypatch.setattr("vizpipe_trio._dispatcher.perf_counter", lambda: tried * 1e-5)
    async with open_pipe() as pipe:
        for _ in range(300):
            pipe.subscribe(partial(counting))
        for event in numbered(30):
            pipe.emit(event)
        most = 0
        while tried < 300 * 30:
            before = tried
            await trio.lowlevel.checkpoint()
            most = max(most, tried - before)
        assert 0 < most <= 260  # two turns, when Trio shuffles them so


async def test_other_tasks_get_their_turn_while_many_events_are_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return looks * 1e-4

    monkeypatch.setattr("vizpipe_trio._intake.perf_counter", clock)
    async with open_pipe(100, flush_interval=0) as pipe:
        for event in numbered(100):
            pipe.emit(event)
        most = before = 0
        while before < 100:
            await trio.lowlevel.checkpoint()
            now = pipe.statistics().broadcast
            most, before = max(most, now - before), now
        assert 0 < most <= 20  # two turns, when Trio shuffles them so


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn of the dispatcher ends early because the machine is slow."""
    for module in ("_intake", "_dispatcher"):
        monkeypatch.setattr(f"vizpipe_trio.{module}.perf_counter", lambda: 0.0)


@pytest.mark.parametrize(
    ("clients", "turns"),
    [
        (30, [0.1, 4.1, 8.1]),  # a millisecond each, a quarter of the time
        (1000, [0.1, 2.6, 5.1]),  # two fifths of it
    ],
)
async def test_between_turns_the_host_has_the_thread_to_itself_the_more_the_fewer_clients_wait(
    clients: int, turns: list[float], autojump_clock: MockClock, unhurried: None
) -> None:
    woken_at: list[float] = []
    async with open_pipe(flush_interval=0) as pipe, trio.open_nursery() as nursery:

        async def read(subscription: Subscription) -> None:
            await subscription.receive_bytes()
            autojump_clock.jump(0.0001)  # what its write costs
            woken_at.append(trio.current_time())

        for _ in range(clients):
            nursery.start_soon(read, pipe.subscribe())
        await wait_all_tasks_blocked()
        start = trio.current_time()
        pipe.emit(Event())
    assert [round((woken_at[first] - start) * 1000, 3) for first in (0, 10, 20)] == turns


async def test_the_heartbeats_of_many_idle_clients_come_in_turns(
    autojump_clock: MockClock, unhurried: None
) -> None:
    woken_at: list[float] = []
    async with open_pipe() as pipe, trio.open_nursery() as nursery:

        async def read(subscription: Subscription) -> None:
            assert await subscription.receive_bytes() == b": keep-alive\n\n"
            autojump_clock.jump(0.0001)  # what its write costs
            woken_at.append(trio.current_time())

        for _ in range(30):
            subscription = pipe.subscribe(heartbeat_interval=15)
            nursery.start_soon(read, subscription)
        start = trio.current_time()
    turns = [round((woken_at[first] - start) * 1000, 3) for first in (0, 10, 20)]
    assert turns == [15_000.1, 15_004.1, 15_008.1]


async def test_a_heartbeat_does_not_wait_for_a_pipe_that_rests_between_rounds(
    autojump_clock: MockClock,
) -> None:
    arrived: list[tuple[float, bytes]] = []
    async with open_pipe(flush_interval=60) as pipe, trio.open_nursery() as nursery:

        async def read() -> None:
            with pipe.subscribe(heartbeat_interval=5) as subscription:
                while True:
                    received = await subscription.receive_bytes()
                    arrived.append((round(trio.current_time() - start, 3), received[:4]))

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        start = trio.current_time()
        pipe.emit(Event())
        await trio.sleep(1)
        pipe.emit(Event())
        await trio.sleep(11)
        nursery.cancel_scope.cancel()
    assert arrived == [(0, b"id: "), (5, b": ke"), (10, b": ke")]


async def test_clients_with_intervals_of_their_own_leave_nothing_behind() -> None:
    async def read(subscription: Subscription) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive_bytes()

    async with open_pipe() as pipe, trio.open_nursery() as nursery:
        clients = [pipe.subscribe(heartbeat_interval=1000 + interval) for interval in range(99)]
        for client in clients:
            nursery.start_soon(read, client)
        await wait_all_tasks_blocked()
        assert len(pipe._dispatcher._heartbeats._silent) == 99
        for client in clients:
            client.close()
        assert not pipe._dispatcher._heartbeats._silent


async def leave_to_the_collector(pipe: Pipe) -> None:
    """Have a client that has waited, and is closed when the garbage collector comes by: that may be anywhere."""

    def hold(_: list[object]) -> Generator[Subscription]:
        with pipe.subscribe(heartbeat_interval=0.01) as subscription:
            yield subscription

    cycle: list[object] = []
    client = hold(cycle)
    cycle.append(client)
    with trio.move_on_after(0):
        await next(client).receive_bytes()


@pytest.mark.parametrize(
    ("owner", "name"), [(Dispatcher, "_see_off"), (Heartbeats, "due_in"), (Heartbeats, "take_due")]
)
async def test_a_client_may_be_closed_by_a_finalizer_in_the_middle_of_anything(
    owner: Any,
    name: str,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """For each number of objects that may have been made in there the collector comes by."""
    original = getattr(owner, name)

    def collect_within(*args: Any) -> Any:
        # Or new ones would be taken from those that were let go of.
        pairs = [(number, number) for number in range(3000)]
        gc.set_threshold(gc.get_count()[0] + objects)
        try:
            return original(*args)
        finally:
            gc.set_threshold(1_000_000)
            pairs.clear()

    monkeypatch.setattr(owner, name, collect_within)
    thresholds = gc.get_threshold()
    try:
        for objects in range(12):  # noqa: B007 - it is used, in collect_within
            gc.set_threshold(1_000_000)
            pipe = Pipe()
            async with trio.open_nursery() as nursery:
                await nursery.start(pipe.run)
                for _ in range(12):
                    await leave_to_the_collector(pipe)
                await trio.sleep(0 if name == "_see_off" else 0.02)
                nursery.cancel_scope.cancel()
    finally:
        gc.set_threshold(*thresholds)
    assert not caplog.messages


@pytest.mark.parametrize("interval", [0, -1, math.nan])
def test_an_interval_that_makes_no_sense_is_refused(interval: float) -> None:
    with pytest.raises(ValueError, match="heartbeat_interval must be more than 0 seconds"):
        Pipe().subscribe(heartbeat_interval=interval)


async def test_the_pipe_rests_between_rounds_of_all_clients(
    autojump_clock: MockClock, unhurried: None
) -> None:
    written_at: list[float] = []
    async with open_pipe(flush_interval=0.05) as pipe, trio.open_nursery() as nursery:

        async def read(subscription: Subscription) -> None:
            while True:
                await subscription.receive_bytes()
                autojump_clock.jump(0.0001)
                written_at.append(trio.current_time())

        for _ in range(20):
            nursery.start_soon(read, pipe.subscribe())
        await wait_all_tasks_blocked()
        start = trio.current_time()
        for _ in range(12):
            pipe.emit(Event())
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    rounds = [round((written_at[first] - start) * 1000, 1) for first in (0, 20, 40)]
    # Two turns of a millisecond each, three of rest between them, and then the interval.
    assert rounds == [0.1, 55.1, 110.1]


async def test_writes_grow_while_there_is_too_much_for_small_ones_and_shrink_again(
    autojump_clock: MockClock, unhurried: None
) -> None:
    writes: list[int] = []
    async with open_pipe(flush_interval=0.03) as pipe, trio.open_nursery() as nursery:

        async def read(subscription: Subscription) -> None:
            while True:
                writes.append(len(await subscription.receive_bytes()))

        async def emit(seconds: float, each: int) -> list[int]:
            writes.clear()
            end = trio.current_time() + seconds
            while trio.current_time() < end:
                for event in numbered(each):
                    pipe.emit(event)
                await trio.sleep(0.01)
            return list(writes)

        nursery.start_soon(read, pipe.subscribe())
        assert max(await emit(0.09, 200)) <= 65_536  # a burst
        await trio.sleep(1)
        assert 131_072 < max(await emit(1, 400)) <= 262_144
        await trio.sleep(1)
        assert max(await emit(0.09, 200)) <= 65_536
        nursery.cancel_scope.cancel()


async def test_only_one_task_may_wait_for_a_subscription() -> None:
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(anext, subscription)
                await wait_all_tasks_blocked()
                with pytest.raises(trio.BusyResourceError, match="another task is already waiting"):
                    await anext(subscription)
                pipe.emit(Event())


async def test_a_sustained_overload_does_not_make_batches_smaller_and_smaller(
    autojump_clock: MockClock, unhurried: None
) -> None:
    async with open_pipe(64, flush_interval=0) as pipe:
        with pipe.subscribe() as subscription:
            for _ in range(200):
                for event in numbered(100):
                    pipe.emit(event)
                await trio.lowlevel.checkpoint()
                subscription._mailbox.queue.abandon()
            assert len(pipe._intake._gaps) <= 2
        statistics = pipe.statistics()
        assert statistics.dropped > 10_000


async def test_no_more_is_taken_than_fits_the_next_write(
    autojump_clock: MockClock, unhurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest waits at the entrance, which is bounded: the log is not, while a round takes long."""
    pending: list[int] = []
    serve = Dispatcher._serve

    def look_and_serve(dispatcher: Dispatcher, now: float, woken: int) -> None:
        pending.append(dispatcher._log.pending)
        serve(dispatcher, now, woken)

    monkeypatch.setattr(Dispatcher, "_serve", look_and_serve)
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            for _ in range(500):
                pipe.emit(Event(subject="x" * 1000))
            await trio.sleep(1)
            assert subscription.offered == 500
    assert 32_768 < max(pending) <= 65_536


async def test_an_event_too_big_for_the_write_before_it_is_not_encoded_again_and_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Event] = []

    def encode(event: Event) -> bytes:
        encoded.append(event)
        return encode_event(event)

    monkeypatch.setattr("vizpipe_trio._intake.encode_event", encode)
    async with open_pipe(1, flush_interval=1) as pipe:
        with pipe.subscribe() as subscription:
            for length in (0, 20_000, 50_000):
                pipe.emit(Event(subject="x" * length))
                await wait_all_tasks_blocked()
            for _ in range(2):
                await subscription.receive_bytes()
    assert len(encoded) <= 4


async def test_stop_ends_the_run_though_the_host_goes_on_emitting() -> None:
    pipe = Pipe(100)
    ended = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await pipe.run()
            ended.set()

        nursery.start_soon(run)
        subscriptions = [pipe.subscribe() for _ in range(50)]

        async def emit() -> None:
            while True:
                for _ in range(200):
                    pipe.emit(Event())
                await trio.lowlevel.checkpoint()

        nursery.start_soon(emit)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        pipe.stop()
        with trio.fail_after(5):
            async for event in subscriptions[-1]:
                assert event.op == "QUERY"
            await ended.wait()
        nursery.cancel_scope.cancel()


async def test_what_is_dropped_after_the_stop_is_not_told_as_an_overload() -> None:
    pipe = Pipe()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        with pipe.subscribe() as subscription:
            pipe.emit(Event())
            pipe.stop()
            pipe.emit(Event())
            assert b"missed" not in await subscription.receive_bytes()
            with pytest.raises(trio.EndOfChannel):
                await subscription.receive_bytes()


async def test_what_was_not_handed_out_when_the_run_is_cancelled_is_missed_and_told(
    autojump_clock: MockClock,
) -> None:
    pipe = Pipe(flush_interval=1000)
    with pipe.subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            for event in numbered(6):
                pipe.emit(event)
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        statistics = pipe.statistics()
        assert subscription.offered == statistics.broadcast == subscription.queued + subscription.missed
        assert subscription.missed == statistics.missed_history > 0
        assert statistics.missed == 0  # it was not too slow
        assert statistics.broadcast + statistics.queued == 6
        received = await subscription.receive_bytes()
        assert received.endswith(b'event: missed\ndata: {"missed":null,"reason":"history"}\n\n')


async def test_what_was_dropped_when_the_run_is_cancelled_is_told_to_who_was_there() -> None:
    pipe = Pipe(10)
    with EventStream(pipe) as stream, pipe.subscribe():
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            for event in numbered(25):
                pipe.emit(event)
        _, told = [write async for write in stream]
    assert told == b'event: missed\ndata: {"missed":15,"reason":"overload"}\n\n'
    assert pipe.statistics().missed_overload == 30


async def test_who_is_behind_when_the_run_is_cancelled_is_told_of_drops_as_well(
    autojump_clock: MockClock,
) -> None:
    pipe = Pipe(4, flush_interval=1000)
    with pipe.subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            for count in (1, 1, 6):
                for event in numbered(count):
                    pipe.emit(event)
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        received = await subscription.receive_bytes()
    assert received.endswith(
        b'event: missed\ndata: {"missed":null,"reason":"history"}\n\n'
        b'event: missed\ndata: {"missed":2,"reason":"overload"}\n\n'
    )
    assert pipe.statistics().missed_overload == 2


async def test_who_comes_back_after_a_cancelled_run_is_not_told_twice_how_many_were_dropped(
    autojump_clock: MockClock,
) -> None:
    pipe = Pipe(10)
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        with pipe.subscribe() as subscription:
            pipe.emit(Event())
            seen = (await subscription.receive_bytes()).partition(b"\n")[0].removeprefix(b"id: ").decode()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            for event in numbered(25):
                pipe.emit(event)
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        await trio.sleep(1)
        first, second = (write for write in pipe.replay(seen) if write)
        pipe.stop()
    assert first == b'event: missed\ndata: {"missed":null,"reason":"overload"}\n\n'
    assert (second.count(b"id: "), second.count(b"missed")) == (10, 0)


async def test_a_drop_in_the_very_turn_of_the_stop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(event: Event) -> bytes:
        if not pipe.statistics().stopped:
            assert not pipe.emit(Event())
            pipe.stop()
        return encode_event(event)

    monkeypatch.setattr("vizpipe_trio._intake.encode_event", encode)
    async with open_pipe(4) as pipe:
        with EventStream(pipe) as stream:
            for event in numbered(4):
                pipe.emit(event)
            wrote = b"".join([write async for write in stream])
    assert wrote.count(b"id: ") == 4
    assert wrote.endswith(b'event: missed\ndata: {"missed":1,"reason":"overload"}\n\n')


async def test_no_filter_runs_when_the_run_is_cancelled(autojump_clock: MockClock) -> None:
    tried = 0

    def wanted(event: Event) -> bool:
        nonlocal tried
        tried += 1
        return True

    pipe = Pipe(flush_interval=1000)
    with pipe.subscribe(wanted):
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            for event in numbered(6):
                pipe.emit(event)
                await wait_all_tasks_blocked()
            before = tried
            nursery.cancel_scope.cancel()
        assert tried == before


async def test_who_comes_back_is_told_what_was_dropped_between_two_runs(autojump_clock: MockClock) -> None:
    pipe = Pipe()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        with pipe.subscribe() as subscription:
            pipe.emit(Event())
            seen = (await subscription.receive_bytes()).partition(b"\n")[0].removeprefix(b"id: ").decode()
        nursery.cancel_scope.cancel()
    assert not any(pipe.emit(event) for event in numbered(5))
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        pipe.emit(Event())
        await trio.sleep(1)
        first, second = (write for write in pipe.replay(seen) if write)
        pipe.stop()
    # It may have been told or not: they were dropped right behind the event that it saw last.
    assert first == b'event: missed\ndata: {"missed":null,"reason":"overload"}\n\n'
    assert second.partition(b"\n")[0].endswith(b"-2")


def test_a_pipe_runs_as_well_in_a_second_run_of_trio_whose_clock_is_another_one() -> None:
    pipe = Pipe()

    async def life(start: float) -> float:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            with pipe.subscribe() as subscription:
                for _ in range(2):
                    pipe.emit(Event())
                    await anext(subscription)
                    await trio.sleep(1)
            nursery.cancel_scope.cancel()
        return trio.current_time() - start

    for start in (100_000.0, 0.0, 50.0):
        clock = MockClock(autojump_threshold=0)
        clock.jump(start)
        assert trio.run(life, start, clock=clock) == pytest.approx(2, abs=0.1)


async def test_stop_from_a_thread_ends_who_waits_on_a_pipe_that_does_not_run() -> None:
    pipe = Pipe()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pipe.subscribe() as subscription:
                assert await numbers(subscription) == []

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            await trio.to_thread.run_sync(pipe.stop)


async def test_stop_from_a_thread_ends_who_comes_in_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Dispatcher.add

    def stop_and_add(dispatcher: Dispatcher, client: Mailbox) -> None:
        stop = threading.Thread(target=pipe.stop)
        stop.start()
        stop.join()
        add(dispatcher, client)

    monkeypatch.setattr(Dispatcher, "add", stop_and_add)
    pipe = Pipe()
    with pipe.subscribe() as subscription, trio.fail_after(1):
        assert await numbers(subscription) == []


async def test_stop_from_a_thread_ends_who_waits_on_a_subscription_made_outside_trio() -> None:
    pipe = Pipe()
    subscription = await trio.to_thread.run_sync(pipe.subscribe)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(numbers, subscription)
        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            await trio.to_thread.run_sync(pipe.stop)


async def test_a_subscription_cannot_be_waited_for_in_another_run_of_trio() -> None:
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription, pipe.subscribe() as own:
            with trio.fail_after(5), pytest.raises(RuntimeError, match="another run of Trio"):
                await trio.to_thread.run_sync(trio.run, numbers, subscription, abandon_on_cancel=True)
            pipe.emit(Event(request_id="r1"))
            assert (await anext(own)).request_id == "r1"


async def test_who_waits_in_another_run_of_trio_when_the_pipe_begins_to_run_is_ended() -> None:
    pipe = Pipe()
    ended: list[list[int]] = []

    def elsewhere() -> None:
        ended.append(trio.run(numbers, stranger))

    with pipe.subscribe() as stranger, pipe.subscribe() as own:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.to_thread.run_sync, elsewhere, abandon_on_cancel=True))
            await until(lambda: stranger._mailbox._reader is not None)
            with trio.fail_after(5):
                await nursery.start(pipe.run)
                pipe.emit(Event(request_id="r1"))
                assert (await anext(own)).request_id == "r1"
                await until(lambda: bool(ended))
            pipe.stop()
    assert ended == [[]]


async def test_whatever_ends_the_run_ends_the_subscribers() -> None:
    class Leave(BaseException):
        pass

    def wanted(event: Event) -> bool:
        raise Leave

    pipe = Pipe()
    with pipe.subscribe() as subscription, pipe.subscribe(wanted):
        with pytest.RaisesGroup(Leave):
            async with trio.open_nursery() as nursery:
                await nursery.start(pipe.run)
                pipe.emit(Event())
        with trio.fail_after(1):
            await numbers(subscription)


async def test_events_do_not_wait_behind_others_that_take_long_to_refuse(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return looks * 0.0004

    monkeypatch.setattr("vizpipe_trio._intake.perf_counter", clock)
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription:
            for _ in range(300):
                pipe.emit(Event(total_ms=math.nan))
            pipe.emit(Event())
            await anext(subscription)
            assert trio.current_time() < 0.1


class Contrary:
    """A filter that raises wherever it can."""

    def __init__(self) -> None:
        self.subscription: Subscription | None = None

    def __call__(self, event: Event) -> bool:
        if self.subscription:
            self.subscription.close()
        return True

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __hash__(self) -> int:
        raise RuntimeError("not hashable")

    def __len__(self) -> int:
        raise RuntimeError("not countable")


async def test_a_contrary_filter_does_no_harm() -> None:
    async with open_pipe(2) as pipe:
        filters = Contrary(), Contrary()
        subscriptions = [pipe.subscribe(wanted) for wanted in filters]
        filters[0].subscription = subscriptions[0]
        with pipe.subscribe() as other:
            for event in numbered(5):
                pipe.emit(event)
            pipe.stop()
            assert await numbers(other) == [0, 1]
        assert await numbers(subscriptions[1]) == [0, 1]
        assert subscriptions[0].offered == 0
        subscriptions[1].close()
    assert pipe.statistics().clients == 0


async def test_a_ctrl_c_cannot_come_between_taking_an_event_and_counting_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(event: Event) -> bytes:
        protected.append(trio.lowlevel.currently_ki_protected())
        return encode_event(event)

    protected: list[bool] = []
    monkeypatch.setattr("vizpipe_trio._intake.encode_event", encode)
    async with open_pipe() as pipe:
        pipe.emit(Event())
    assert protected == [True]


async def test_a_ctrl_c_cannot_leave_a_client_behind_when_it_comes_or_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    protected: dict[str, bool] = {}

    def look(name: str) -> None:
        original = getattr(Dispatcher, name)

        def looked_at(dispatcher: Dispatcher, client: Mailbox) -> None:
            protected[name] = trio.lowlevel.currently_ki_protected()
            original(dispatcher, client)

        monkeypatch.setattr(Dispatcher, name, looked_at)

    look("add")
    look("forget")
    pipe = Pipe()
    with pipe.subscribe():
        pass
    assert protected == {"add": True, "forget": True}
    protected.clear()
    with EventStream(pipe):
        assert not trio.lowlevel.currently_ki_protected()
    assert protected == {"add": True, "forget": True}
    await trio.lowlevel.checkpoint()
