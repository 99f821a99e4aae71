"""What waits to be sent to other workers, and its account."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vizpipe_trio._outbox
from vizpipe_trio._outbox import Load, Outbox


def send(outbox: Outbox, max_events: int, max_bytes: int = 100) -> None:
    load = outbox.peek(max_events, max_bytes)
    outbox.under_way = load.first + len(load.events) - 1
    outbox.confirm(outbox.under_way)


def test_what_is_offered_is_sent_in_order_and_as_much_as_fits() -> None:
    outbox = Outbox(10)
    outbox.offer([b"1", b"22", b"333", b"4"])
    assert outbox.peek(3, 100) == Load(1, 0, [b"1", b"22", b"333"])
    assert outbox.peek(100, 6) == Load(1, 0, [b"1", b"22"])
    send(outbox, 100, 6)
    assert outbox.peek(100, 100) == Load(3, 0, [b"333", b"4"])


def test_what_follows_on_what_is_under_way_can_be_sent_before_that_is_confirmed() -> None:
    outbox = Outbox(3)
    outbox.offer([b"1", b"2", b"3", b"lost"])
    first, second = outbox.peek(2, 100), outbox.peek(2, 100, 2)
    assert (first, second) == (Load(1, 0, [b"1", b"2"]), Load(3, 0, [b"3"]))
    outbox.under_way = 3
    outbox.confirm(3)
    assert outbox.peek(2, 100, 2) == Load(5, 0, [])
    assert (outbox.sent, outbox.lost, outbox.queued) == (3, 1, 0)


def test_of_what_is_under_way_it_is_found_out_what_the_server_has_and_the_rest_is_lost() -> None:
    outbox = Outbox(10)
    outbox.offer([b"1", b"2", b"3", b"4"])
    outbox.under_way = 3
    outbox.confirm(2)
    assert (outbox.sent, outbox.lost, outbox.queued, outbox.is_unconfirmed) == (2, 0, 2, True)
    outbox.abandon()
    assert (outbox.sent, outbox.lost, outbox.queued, outbox.is_unconfirmed) == (2, 1, 1, False)
    assert outbox.peek(100, 100) == Load(4, 0, [b"4"])


def test_all_that_waits_can_be_given_up_whether_it_was_sent_or_not() -> None:
    outbox = Outbox(10)
    outbox.offer([b"1", b"2", b"3"])
    outbox.under_way = 1
    assert outbox.discard() == 3
    assert (outbox.sent, outbox.lost, outbox.queued, outbox.is_unconfirmed) == (0, 3, 0, False)
    assert outbox.peek(100, 100) == Load(4, 0, [])


def test_what_was_never_sent_cannot_be_confirmed() -> None:
    outbox = Outbox(10)
    outbox.offer([b"1"])
    outbox.confirm(1)
    assert (outbox.sent, outbox.queued) == (0, 1)


def test_an_event_that_is_too_large_for_a_message_is_sent_alone() -> None:
    outbox = Outbox(10)
    outbox.offer([b"1" * 50, b"2"])
    assert outbox.peek(100, 10) == Load(1, 0, [b"1" * 50])


def test_what_does_not_fit_is_lost_and_its_number_with_it() -> None:
    outbox = Outbox(2)
    outbox.offer([b"1", b"2", b"3", b"4"])
    send(outbox, 1)
    outbox.offer([b"5"])
    assert (outbox.offered, outbox.sent, outbox.lost, outbox.queued) == (5, 1, 2, 2)
    assert outbox.peek(100, 100) == Load(2, 0, [b"2"])
    send(outbox, 100)
    assert outbox.peek(100, 100) == Load(5, 0, [b"5"])


def test_where_it_stands_tells_of_what_was_lost_last() -> None:
    outbox = Outbox(1)
    outbox.offer([b"1", b"2"])
    send(outbox, 100)
    assert outbox.stand == Load(3, 0, [])


def test_events_before_and_after_a_drop_are_sent_apart() -> None:
    outbox = Outbox(10)
    outbox.offer([b"1"])
    outbox.dropped += 7
    outbox.offer([b"2"])
    send(outbox, 100)
    assert outbox.peek(100, 100) == Load(2, 7, [b"2"])


def test_it_is_bounded_in_bytes_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vizpipe_trio._outbox, "MAX_BYTES", 100)
    outbox = Outbox(1000)
    outbox.offer([b"x" * 30] * 5)
    assert (outbox.queued, outbox.lost) == (3, 2)
    send(outbox, 2)
    outbox.offer([b"x" * 30] * 5)
    assert (outbox.queued, outbox.lost) == (3, 5)


@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from(["offer", "send"]), st.integers(1, 4))))
def test_the_account_holds_and_every_event_is_sent_once_or_lost(
    capacity: int, todo: list[tuple[str, int]]
) -> None:
    outbox = Outbox(capacity)
    sent: list[int] = []
    for step, count in todo:
        if step == "offer":
            outbox.offer([b"%d" % (outbox.offered + number) for number in range(1, count + 1)])
        else:
            load = outbox.peek(count, 100)
            assert load.events == [b"%d" % (load.first + index) for index in range(len(load.events))]
            sent += map(int, load.events)
            send(outbox, count)
        assert outbox.offered == outbox.sent + outbox.lost + outbox.queued
        assert outbox.queued <= capacity
        assert sent == sorted(set(sent))
        assert len(sent) == outbox.sent
