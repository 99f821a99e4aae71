"""The event stream as an iterator of writes."""

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from vizpipe_trio import Event, Pipe, open_pipe
from vizpipe_trio._sse import KEEP_ALIVE
from vizpipe_trio._stream import EventStream

PREAMBLE = b"retry: 2000\n: vizpipe\n\n"


def ids(written: bytes) -> list[str]:
    lines = written.decode().split("\n")
    return [line.removeprefix("id: ").rpartition("-")[2] for line in lines if line.startswith("id: ")]


async def run_of(pipe: Pipe) -> str:
    """Emit an event and return the run part of its ID."""
    with pipe.subscribe() as subscription:
        pipe.emit(Event())
        return (await subscription.receive_bytes()).split(b"-")[0].decode().removeprefix("id: ")


async def test_the_preamble_comes_first_and_at_once() -> None:
    with EventStream(Pipe()) as stream, assert_checkpoints():
        assert await anext(stream) == PREAMBLE


async def test_silence_is_broken_by_comments(autojump_clock: MockClock) -> None:
    async with open_pipe() as pipe:
        with EventStream(pipe, heartbeat_interval=15) as stream:
            await anext(stream)
            start = trio.current_time()
            assert [await anext(stream) for _ in range(3)] == [b": keep-alive\n\n"] * 3
            assert trio.current_time() - start == pytest.approx(45)


async def test_silence_is_broken_by_comments_also_before_the_pipe_runs(autojump_clock: MockClock) -> None:
    with EventStream(Pipe(), heartbeat_interval=15) as stream:
        await anext(stream)
        start = trio.current_time()
        assert [await anext(stream) for _ in range(2)] == [KEEP_ALIVE] * 2
        assert trio.current_time() - start == pytest.approx(30)


async def test_a_client_whose_filter_lets_nothing_through_gets_comments_while_others_get_events(
    autojump_clock: MockClock,
) -> None:
    async with open_pipe() as pipe, trio.open_nursery() as nursery:

        async def emit() -> None:
            while True:
                pipe.emit(Event())
                await trio.sleep(1)

        nursery.start_soon(emit)
        with EventStream(pipe, filter=lambda event: event.op == "WRITE", heartbeat_interval=15) as stream:
            await anext(stream)
            start = trio.current_time()
            assert [await anext(stream) for _ in range(2)] == [KEEP_ALIVE] * 2
            assert trio.current_time() - start == pytest.approx(30, abs=0.1)
        nursery.cancel_scope.cancel()


async def test_streams_with_different_intervals_get_each_their_comments(autojump_clock: MockClock) -> None:
    arrived: list[tuple[float, float]] = []
    async with open_pipe() as pipe, trio.open_nursery() as nursery:
        start = trio.current_time()

        async def read(interval: float) -> None:
            with EventStream(pipe, heartbeat_interval=interval) as stream:
                async for write in stream:
                    if write == KEEP_ALIVE:
                        moment = round(trio.current_time() - start, 3)
                        arrived.append((interval, moment))

        for interval in (10, 4):
            nursery.start_soon(read, interval)
        await trio.sleep(11)
        nursery.cancel_scope.cancel()
    assert arrived == [(4, 4.0), (4, 8.0), (10, 10.0)]


async def test_a_client_that_comes_back_gets_each_event_once(autojump_clock: MockClock) -> None:
    async with open_pipe(history=8) as pipe:
        run = await run_of(pipe)
        for _ in range(4):
            pipe.emit(Event())
        await trio.sleep(1)
        pipe.emit(Event())  # at the entrance still when the client comes
        with EventStream(pipe, last_event_id=f"{run}-2") as stream:
            pipe.stop()
            written = b"".join([write async for write in stream])
    assert ids(written) == ["3", "4", "5", "6"]
    assert b"missed" not in written


async def test_a_client_that_comes_back_too_late_is_told_how_many_it_missed(
    autojump_clock: MockClock,
) -> None:
    async with open_pipe(history=2) as pipe:
        run = await run_of(pipe)
        for _ in range(9):
            pipe.emit(Event())
        await trio.sleep(1)
        with EventStream(pipe, last_event_id=f"{run}-3") as stream:
            await anext(stream)
            assert await anext(stream) == b'event: missed\ndata: {"missed":5,"reason":"history"}\n\n'
            assert ids(await anext(stream)) == ["9", "10"]


async def test_what_a_filtered_client_missed_cannot_be_known(autojump_clock: MockClock) -> None:
    async with open_pipe(history=3) as pipe:
        run = await run_of(pipe)
        for number in range(8):
            pipe.emit(Event(op="WRITE" if number % 2 else "QUERY"))
        await trio.sleep(1)
        stream = EventStream(pipe, filter=lambda event: event.op == "WRITE", last_event_id=f"{run}-1")
        with stream:
            await anext(stream)
            assert await anext(stream) == b'event: missed\ndata: {"missed":null,"reason":"history"}\n\n'
            assert ids(await anext(stream)) == ["7", "9"]


async def test_a_long_replay_comes_in_bounded_writes() -> None:
    async with open_pipe(history=256) as pipe:
        for _ in range(200):
            pipe.emit(Event(subject="x" * 1000))
        await wait_all_tasks_blocked()
        with EventStream(pipe, last_event_id="another-1") as stream:
            pipe.stop()
            writes = [write async for write in stream]
    assert max(map(len, writes)) <= 65_536
    assert ids(b"".join(writes)) == [str(number) for number in range(1, 201)]


async def test_writes_are_bounded_and_carry_many_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vizpipe_trio._intake.perf_counter", lambda: 0.0)  # no turn ends early
    async with open_pipe(1000) as pipe:
        with EventStream(pipe) as stream:
            for _ in range(1000):
                pipe.emit(Event(subject="x" * 500))
            pipe.stop()
            writes = [write async for write in stream]
    assert max(map(len, writes)) <= 65_536
    assert len(writes) < 20
    assert ids(b"".join(writes)) == [str(number) for number in range(1, 1001)]


async def test_a_slow_client_is_told_where_its_events_are_missing(autojump_clock: MockClock) -> None:
    async with open_pipe(client_capacity=2) as pipe:
        with EventStream(pipe) as stream:
            await anext(stream)
            for _ in range(5):
                pipe.emit(Event())
            await trio.sleep(1)
            written = await anext(stream)
            assert ids(written) == ["1", "2"]
            assert written.endswith(b'event: missed\ndata: {"missed":3,"reason":"slow"}\n\n')
            pipe.emit(Event())
            assert ids(await anext(stream)) == ["6"]


async def test_an_overload_is_told_behind_the_events_that_filled_the_pipe(autojump_clock: MockClock) -> None:
    async with open_pipe(3) as pipe:
        with EventStream(pipe) as stream:
            await anext(stream)
            await trio.sleep(1)
            for _ in range(8):
                pipe.emit(Event())
            await trio.sleep(1)
            written = await anext(stream)
            assert ids(written) == ["1", "2", "3"]
            assert written.endswith(b'event: missed\ndata: {"missed":5,"reason":"overload"}\n\n')


async def test_an_overload_is_told_also_to_a_client_whose_filter_left_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_pipe(3) as pipe:
        with EventStream(pipe, filter=lambda event: event.op == "WRITE") as stream:
            await anext(stream)
            for _ in range(8):
                pipe.emit(Event(op="QUERY"))
            assert await anext(stream) == b'event: missed\ndata: {"missed":null,"reason":"overload"}\n\n'


async def test_a_client_too_slow_for_the_end_is_told_what_it_misses(autojump_clock: MockClock) -> None:
    async with open_pipe() as pipe:
        with EventStream(pipe) as stream:
            await anext(stream)
            for _ in range(200):
                pipe.emit(Event(subject="x" * 1000))
            await trio.sleep(1)
            pipe.stop()
            await wait_all_tasks_blocked()
            first = await anext(stream)
            await trio.sleep(1)  # the write took that long
            rest = [write async for write in stream]
    told = 200 - len(ids(first))
    assert rest == [b'event: missed\ndata: {"missed":%d,"reason":"slow"}\n\n' % told]
    assert told > 0


async def test_a_client_too_slow_for_its_replay_does_not_hold_up_the_end(autojump_clock: MockClock) -> None:
    async with open_pipe() as pipe:
        for _ in range(200):
            pipe.emit(Event(subject="x" * 1000))
        await trio.sleep(1)
        with EventStream(pipe, last_event_id="another-1") as stream:
            await anext(stream)
            pipe.stop()
            await wait_all_tasks_blocked()
            await anext(stream)
            await trio.sleep(1)  # the write took that long
            rest = [write async for write in stream]
    assert rest == [b'event: missed\ndata: {"missed":null,"reason":"history"}\n\n']


async def test_a_client_too_slow_for_the_end_is_told_of_no_gap_if_nothing_was_left(
    autojump_clock: MockClock,
) -> None:
    async with open_pipe() as pipe:
        run = await run_of(pipe)
        await trio.sleep(1)
        with EventStream(pipe, last_event_id=f"{run}-1") as stream:
            pipe.stop()
            await wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(stream)
            await trio.sleep(1)  # the write took that long
            assert [write async for write in stream] == [PREAMBLE]


async def test_a_client_too_slow_for_the_end_is_told_once_of_what_the_history_had_lost(
    autojump_clock: MockClock,
) -> None:
    async with open_pipe(history=256) as pipe:
        run = await run_of(pipe)
        for number in range(600):
            pipe.emit(Event(op="WRITE" if number < 10 else "QUERY"))
        await trio.sleep(1)
        wanted = EventStream(pipe, filter=lambda event: event.op == "WRITE", last_event_id=f"{run}-1")
        with wanted as stream:
            pipe.stop()
            await wait_all_tasks_blocked()
            assert await anext(stream) == PREAMBLE
            assert await anext(stream) == b'event: missed\ndata: {"missed":null,"reason":"history"}\n\n'
            await trio.sleep(1)  # the write took that long
            assert [write async for write in stream] == []


async def test_a_cancelled_step_loses_nothing_of_the_replay() -> None:
    async with open_pipe() as pipe:
        for _ in range(3):
            pipe.emit(Event())
        await wait_all_tasks_blocked()
        with EventStream(pipe, last_event_id="another-1") as stream:
            for _ in range(3):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await anext(stream)
            assert await anext(stream) == PREAMBLE
            assert await anext(stream) == b'event: missed\ndata: {"missed":null,"reason":"history"}\n\n'
            assert ids(await anext(stream)) == ["1", "2", "3"]


async def test_a_drop_right_behind_the_event_seen_last_may_have_been_told(autojump_clock: MockClock) -> None:
    async with open_pipe(3) as pipe:
        run = await run_of(pipe)
        await trio.sleep(1)
        for _ in range(5):
            pipe.emit(Event())
        await trio.sleep(1)
        with EventStream(pipe, last_event_id=f"{run}-4") as stream:
            await anext(stream)
            assert await anext(stream) == b'event: missed\ndata: {"missed":null,"reason":"overload"}\n\n'
        with EventStream(pipe, last_event_id=f"{run}-3") as stream:
            await anext(stream)
            replayed = await anext(stream)
    assert ids(replayed) == ["4"]
    assert replayed.endswith(b'event: missed\ndata: {"missed":2,"reason":"overload"}\n\n')


async def test_leaving_a_stream_takes_its_client_off() -> None:
    async with open_pipe() as pipe:
        with EventStream(pipe) as stream:
            await anext(stream)
            assert pipe.statistics().clients == 1
        assert pipe.statistics().clients == 0


async def test_a_stream_must_be_entered() -> None:
    with pytest.raises(RuntimeError, match="enter the stream first"):
        await anext(EventStream(Pipe()))
    await trio.lowlevel.checkpoint()


async def test_a_long_history_is_looked_through_step_by_step(autojump_clock: MockClock) -> None:
    tried = 0

    def wanted(event: Event) -> bool:
        nonlocal tried
        tried += 1
        return event.result_count == 1999

    async with open_pipe(2000, history=2000) as pipe:
        for number in range(2000):
            pipe.emit(Event(result_count=number))
        await trio.sleep(1)
        run = await run_of(pipe)
        replayed = pipe.replay(f"{run}-0", wanted)
        steps: list[int] = []
        found: list[bytes] = []
        for write in replayed:
            steps.append(tried)
            found += [write] if write else []
    assert steps[0] == 0
    assert max(after - before for before, after in pairwise(steps)) == 256
    assert [ids(write) for write in found[1:]] == [["2000"]]
