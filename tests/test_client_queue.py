"""One client's queue and account, without tasks."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from vizpipe_trio._batch import Batch, Gap
from vizpipe_trio._client import ClientQueue, Totals
from vizpipe_trio._event import Event


def batch(*names: str) -> Batch:
    return Batch(
        [Event(request_id=name) for name in names],
        [f"<{name}>".encode() for name in names],
        [0.0] * len(names),
    )


def queue(capacity: int) -> ClientQueue:
    return ClientQueue(capacity, None, Totals())


def test_clients_that_are_in_step_share_one_payload() -> None:
    shared = batch("a", "b")
    first, second = queue(9), queue(9)
    for client in (first, second):
        client.offer(2, shared)
    assert first.take(100)[0] is second.take(100)[0]


def test_a_batch_that_does_not_fit_is_cut_and_the_rest_is_missed() -> None:
    client = queue(3)
    client.offer(2, batch("a", "b"))
    client.offer(3, batch("c", "d", "e"))
    client.offer(1, batch("f"))
    assert client.take(100) == [
        b"<a><b>", b"<c>", b'event: missed\ndata: {"missed":3,"reason":"slow"}\n\n',
    ]  # fmt: skip
    assert (client.offered, client.delivered, client.missed, client.queued) == (6, 3, 3, 0)


def test_a_gap_stands_between_the_events_that_it_separates() -> None:
    client = queue(1)
    client.offer(2, batch("a", "b"))
    client.lose(Gap(7))
    assert client.take(3) == [b"<a>"]
    client.offer(1, batch("c"))
    missed = [b'event: missed\ndata: {"missed":1,"reason":"slow"}\n\n',
              b'event: missed\ndata: {"missed":7,"reason":"overload"}\n\n']  # fmt: skip
    assert client.take(1000) == [*missed, b"<c>"]


def test_the_oldest_event_is_the_first_that_is_not_taken_whatever_stands_before_it() -> None:
    client = queue(3)
    frames = [b"a", b"b", b"c", b"d"]
    client.offer(4, Batch([Event()] * 4, frames, [1.0, 2.0, 3.0, 4.0]))
    assert client.oldest == 1.0
    assert client.take(2) == [b"ab"]
    assert client.oldest == 3.0
    assert client.take(2)[0] == b"c"
    client.offer(1, Batch([Event()], [b"e"], [5.0]))
    assert client.oldest == 5.0  # though the gap is told first
    client.take(1000)
    assert client.oldest is None


def test_a_filtered_client_cannot_know_how_many_of_the_dropped_it_wanted() -> None:
    client = ClientQueue(9, lambda event: event.op == "WRITE", Totals())
    client.lose(Gap(7))
    assert client.take(1000) == [b'event: missed\ndata: {"missed":null,"reason":"overload"}\n\n']


def test_a_write_is_bounded_but_never_empty() -> None:
    client = queue(9)
    for name in "abcd":
        client.offer(1, batch(name * 10))
    assert [len(client.take(24)), len(client.take(1)), len(client.take(24))] == [2, 1, 1]


def test_a_client_that_never_reads_costs_no_more_than_a_full_queue() -> None:
    client = queue(2)
    for _ in range(10_000):
        client.offer(1, batch("a"))
        client.lose(Gap(1))
    assert client.queued == 2
    # Two events, with the overload between them, and the gaps behind them.
    assert len(client.take(10**9)) == 5


def test_what_is_abandoned_is_missed() -> None:
    client = queue(9)
    client.offer(3, batch("a", "b", "c"))
    assert client.take_event() is not None
    client.abandon()
    assert client.take(100) == [b'event: missed\ndata: {"missed":2,"reason":"slow"}\n\n']
    assert (client.offered, client.delivered, client.missed, client.queued) == (3, 1, 2, 0)
    client.offer(2, batch("d", "e"))
    assert client.take(100) == [b"<d><e>"]


steps = st.one_of(
    st.tuples(st.just("offer"), st.integers(0, 6)),
    st.tuples(st.just("overload"), st.integers(1, 4)),
    st.tuples(st.just("take"), st.integers(1, 200)),
    st.tuples(st.just("take event"), st.just(0)),
    st.tuples(st.just("abandon"), st.just(0)),
)


@given(st.integers(1, 7), st.lists(steps, max_size=60))
def test_the_account_holds_and_what_is_read_adds_up(capacity: int, todo: list[tuple[str, int]]) -> None:
    client = queue(capacity)
    read: list[int] = []
    told = passed_over = number = 0
    for step, amount in [*todo, ("take", 10**9)]:
        if step == "offer":
            names = [str(n) for n in range(number, number + amount)]
            number += amount
            client.offer(amount, batch(*names))
        elif step == "overload":
            client.lose(Gap(amount))
        elif step == "abandon":
            client.abandon()
        elif step == "take event":
            event = client.take_event()
            read += [int(event.request_id)] if event else []
            # Whoever takes events looks at the count, not at the gaps.
            passed_over = client.missed if event or not client.queued else passed_over
        else:
            data = b"".join(client.take(amount)).decode()
            read += [int(found) for found in re.findall(r"<(\d+)>", data)]
            gaps = [json.loads(found) for found in re.findall(r"data: (.*)", data)]
            told += sum(gap["missed"] for gap in gaps if gap["reason"] == "slow")
        assert client.offered == client.delivered + client.missed + client.filtered + client.queued
        assert 0 <= client.queued <= capacity
    assert read == sorted(set(read))
    assert len(read) == client.delivered
    assert client.missed - passed_over <= told <= client.missed
    assert len(read) + client.missed == number
