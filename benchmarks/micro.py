"""What a call of `emit` costs, beside a bare ``send_nowait`` in the same run; and a recorded request.

A program of its own: prints nanoseconds a call, by kind of call, a value for each burst. The
pipe is running. A burst is made while its dispatcher sleeps or gathers events, as it finds
it; the memory channel has a task that receives. Both are empty again before the next burst,
and take turns.

Argument: how many bursts.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from time import perf_counter, perf_counter_ns, thread_time_ns

import trio

from vizpipe_trio import Event, Pipe, StageInfo

from .events import COUNT, make_templates, request_id

CAPACITY = 1000
BURST = 400
"""Calls in a burst: fewer than half of what fits, so that all are accepted and none is more
than an append for either side."""

Figures = dict[str, list[float]]


def time_calls(call: Callable[[Event], object], events: Sequence[Event]) -> float:
    began = perf_counter_ns()
    for event in events:
        call(event)
    return (perf_counter_ns() - began) / len(events)


def time_refusals(send: Callable[[Event], object], events: Sequence[Event]) -> float:
    began = perf_counter_ns()
    for event in events:
        try:  # noqa: SIM105 - a context manager would cost more than what is measured
            send(event)
        except trio.WouldBlock:
            pass
    return (perf_counter_ns() - began) / len(events)


def time_thread(call: Callable[[Event], object], events: Sequence[Event]) -> tuple[float, float]:
    """Return also the CPU time of this thread: the caller's own side.

    The rest is waiting for the interpreter's lock, while Trio's thread takes what was emitted.
    """
    began = thread_time_ns()
    passed = time_calls(call, events)
    return (thread_time_ns() - began) / len(events), passed


STAGES = ("policy", "cache", "text", "dense", "graph", "merge")


def recorder(pipe: Pipe) -> Callable[[Event], None]:
    """Return what goes through six empty stages, and records it."""

    def request(event: Event) -> None:
        with pipe.record("QUERY", request_id=event.request_id, source="search", stages=STAGES) as request:
            for name in STAGES:
                with request.stage(name):
                    pass

    return request


def hand(pipe: Pipe) -> Callable[[Event], None]:
    """Return what does the same with nothing but a clock."""

    def request(event: Event) -> None:
        asked = datetime.now(UTC)
        began = perf_counter()
        stages: list[StageInfo] = []
        for number, name in enumerate(STAGES, 1):
            entered = perf_counter()
            stages.append(StageInfo(number, name, (perf_counter() - entered) * 1000))
        pipe.emit(
            Event(
                timestamp=asked,
                request_id=event.request_id,
                source="search",
                op="QUERY",
                stages=stages,
                total_ms=(perf_counter() - began) * 1000,
            )
        )

    return request


async def drained(pipe: Pipe) -> None:
    """Wait until the dispatcher has taken everything, and sleeps again."""
    while pipe.statistics().queued:  # noqa: ASYNC110 - the pipe tells nobody
        await trio.sleep(0.005)
    await trio.sleep(0.04)


async def measure(bursts: int) -> Figures:
    templates = [
        {**template, "stages": [StageInfo(**stage) for stage in template["stages"]]}
        for template in make_templates()
    ]
    events = [
        Event(request_id=request_id(number), **templates[number % COUNT])
        for number in range(CAPACITY + BURST)
    ]
    burst = events[:BURST]
    figures: Figures = defaultdict(list)
    pipe = Pipe()
    send, receive = trio.open_memory_channel[Event](CAPACITY)

    async def take() -> None:
        async for _ in receive:
            pass

    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        nursery.start_soon(take)
        # One call that finds everybody asleep, less what it costs to look at the clock.
        clock = min(after - before for before, after in pairwise(perf_counter_ns() for _ in range(1000)))
        for _ in range(bursts):
            await drained(pipe)
            figures["emit asleep"].append(time_calls(pipe.emit, events[:1]) - clock)
            figures["send asleep"].append(time_calls(send.send_nowait, events[:1]) - clock)
        for _ in range(bursts):
            await drained(pipe)
            figures["emit"].append(time_calls(pipe.emit, burst))
            figures["send"].append(time_calls(send.send_nowait, burst))
        for _ in range(bursts):
            await drained(pipe)
            figures["recorded"].append(time_calls(recorder(pipe), burst))
            await drained(pipe)
            figures["timed by hand"].append(time_calls(hand(pipe), burst))
        for _ in range(bursts):
            await drained(pipe)
            own, passed = await trio.to_thread.run_sync(time_thread, pipe.emit, burst)
            figures["emit in thread"].append(own)
            figures["emit in thread, waits included"].append(passed)
        for _ in range(bursts):
            await drained(pipe)
            for event in events[:CAPACITY]:
                pipe.emit(event)
                send.send_nowait(event)
            dropped = pipe.statistics().dropped
            figures["emit dropped"].append(time_calls(pipe.emit, burst))
            figures["send refused"].append(time_refusals(send.send_nowait, burst))
            assert pipe.statistics().dropped == dropped + BURST  # noqa: S101 - else it measures nothing
        nursery.cancel_scope.cancel()
    return figures


if __name__ == "__main__":
    print(json.dumps(trio.run(measure, int(sys.argv[1]))))
