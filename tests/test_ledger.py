"""The ledger, over random interleavings of everything that can happen to a pipe.

emitted == dropped + invalid + broadcast + queued
offered == delivered + missed + filtered + queued      for each subscriber
"""

import threading
from collections.abc import Callable

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from vizpipe_trio import Event, Pipe, Subscription

BAD = Event(total_ms=float("nan"))

steps = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.integers(1, 12)),
        st.tuples(st.just("emit in a thread"), st.integers(1, 5)),
        st.tuples(st.just("emit invalid"), st.integers(1, 2)),
        st.tuples(st.just("subscribe"), st.just(0)),
        st.tuples(st.just("subscribe to even"), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 9)),
        st.tuples(st.just("read bytes"), st.integers(0, 9)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("let others run"), st.integers(1, 3)),
        st.tuples(st.just("let time pass"), st.integers(1, 3)),
        st.tuples(st.just("stop"), st.just(0)),
    ),
    max_size=60,
)


class Story:
    """One pipe, what was done to it, and what its subscribers saw."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.calls = 0
        self.accepted = 0
        self.subscribers: list[tuple[Subscription, list[int], int]] = []

    def emit(self, event: Event) -> None:
        self.accepted += self.pipe.emit(event)
        self.calls += 1

    def emit_valid(self, count: int) -> None:
        for _ in range(count):
            self.emit(Event(result_count=self.calls))

    def subscribe(self, wanted: Callable[[Event], bool] | None) -> None:
        if self.pipe.statistics().stopped:
            return  # it would end at once, whatever the pipe still hands out
        self.subscribers.append((self.pipe.subscribe(wanted), [], self.pipe.statistics().broadcast))

    async def act(self, step: str, amount: int) -> None:  # noqa: C901, PLR0912 - a table of steps
        subscriber = self.subscribers[amount % len(self.subscribers)] if self.subscribers else None
        match step:
            case "emit":
                self.emit_valid(amount)
            case "emit in a thread":
                thread = threading.Thread(target=self.emit_valid, args=[amount])
                thread.start()
                thread.join()
            case "emit invalid":
                for _ in range(amount):
                    self.emit(BAD)
            case "subscribe":
                self.subscribe(None)
            case "subscribe to even":
                self.subscribe(lambda event: event.result_count % 2 == 0)
            case "read" if subscriber and subscriber[0].queued:
                subscriber[1].append((await anext(subscriber[0])).result_count)
            case "read bytes" if subscriber and subscriber[0].queued:
                frames = await subscriber[0].receive_bytes(600)
                subscriber[1].extend(
                    int(part.split(b",")[0]) for part in frames.split(b'"result_count":')[1:]
                )
            case "leave" if subscriber:
                subscriber[0].close()
                self.subscribers.remove(subscriber)
            case "let others run":
                for _ in range(amount):
                    await trio.lowlevel.checkpoint()
            case "let time pass":
                await trio.sleep(amount / 60)
            case "stop":
                self.pipe.stop()
            case _:
                pass

    def check(self) -> None:
        now = self.pipe.statistics()
        assert now.emitted == self.calls
        assert now.emitted == now.dropped + now.invalid + now.broadcast + now.queued
        assert now.dropped == self.calls - self.accepted
        assert now.queued <= now.capacity
        for subscription, seen, _ in self.subscribers:
            settled = subscription.delivered + subscription.missed + subscription.filtered
            assert subscription.offered == settled + subscription.queued
            assert subscription.delivered == len(seen)
            assert seen == sorted(set(seen))


@settings(deadline=None)
@given(steps, st.integers(1, 8), st.integers(1, 8))
def test_the_ledger_holds_after_every_step(
    todo: list[tuple[str, int]], capacity: int, client_capacity: int
) -> None:
    async def main() -> None:
        story = Story(Pipe(capacity, client_capacity=client_capacity, history=4))
        async with trio.open_nursery() as nursery:
            await nursery.start(story.pipe.run)
            for step, amount in todo:
                await story.act(step, amount)
                story.check()
            story.pipe.stop()
        story.check()
        broadcast = story.pipe.statistics().broadcast
        for subscription, seen, joined_at in story.subscribers:
            assert subscription.offered == broadcast - joined_at
            seen.extend([event.result_count async for event in subscription])
            assert len(seen) + subscription.missed + subscription.filtered == subscription.offered
        story.check()
        assert story.pipe.statistics().queued == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))
