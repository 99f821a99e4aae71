"""The log: what connected clients are offered, and what those that come back are given."""

from typing import Any, cast

import pytest

from vizpipe_trio._batch import Batch
from vizpipe_trio._event import Event
from vizpipe_trio._log import TRIM_AT, Log, Place
from vizpipe_trio._sight import START, parse_seen


def log_of(count: int, keep: int, gaps: dict[int, int] | None = None) -> tuple[Log, str]:
    """Return a log of so many events, with gaps behind some of them, and its run."""
    log = Log(keep)
    run = log.event_id(1).decode().rpartition("-")[0]
    for number in range(1, count + 1):
        log.extend(Batch([Event(request_id=str(number))], [log.event_id(1)], [0.0]))
        log.settle(log.head)
        if gaps and number in gaps:
            log.add_gap(gaps[number])
    return log, run


def given(log: Log, last_event_id: str) -> tuple[tuple[str, int | None] | None, list[str | int]]:
    """Return what is lost for good, and the IDs of the events and sizes of the gaps that follow."""
    lost, place = log.resume(last_event_id)
    return (lost.reason, lost.count) if lost else None, follows(log, place)


def follows(log: Log, place: Place) -> list[str | int]:
    sequence: list[str | int] = []
    for batch, gap in log.since(place):
        sequence += [event.request_id for event in batch.events]
        sequence += [gap.dropped] if gap.dropped else []
    return sequence


def test_what_came_after_the_id_is_given_in_order() -> None:
    log, run = log_of(5, keep=10)
    assert given(log, f"{run}-2") == (None, ["3", "4", "5"])


def test_a_batch_that_could_not_be_appended_leaves_nothing_behind() -> None:
    log, run = log_of(2, keep=10)
    with pytest.raises(TypeError):
        log.extend(Batch([Event(request_id="lost")], [b"lost"], cast("Any", None)))
    log.extend(Batch([Event(request_id="3")], [b"3"], [3.0]))
    [(batch, _)] = log.since(log.resume(f"{run}-1")[1])
    assert [event.request_id for event in batch.events] == ["2", "3"]
    assert (batch.frames[-1], batch.times[-1]) == (b"3", 3.0)


def test_nothing_is_given_to_a_client_that_saw_everything() -> None:
    log, run = log_of(5, keep=10)
    assert given(log, f"{run}-5") == (None, [])


def test_what_is_no_longer_held_is_counted() -> None:
    log, run = log_of(10, keep=3)
    assert given(log, f"{run}-2") == (("history", 5), ["8", "9", "10"])
    assert given(log, f"{run}-6") == (("history", 1), ["8", "9", "10"])
    assert given(log, f"{run}-7") == (None, ["8", "9", "10"])


def test_without_a_history_all_is_lost_but_counted() -> None:
    log, run = log_of(4, keep=0)
    assert given(log, f"{run}-1") == (("history", 3), [])
    assert given(log, f"{run}-4") == (None, [])


@pytest.mark.parametrize(
    "last_event_id",
    ["deadbeef-1", "1", "-1", "", "x" * 9000, "\xff\xfe", "{run}", "{run}-", "{run}-99", "{run}--1",
     "{run}-1 ", "{run}-1\n", "{run}-\u0661", "{run}-" + "9" * 50, "{RUN}-1x"],
)  # fmt: skip
def test_an_id_that_was_never_given_out_is_answered_with_all_that_is_held(last_event_id: str) -> None:
    log, run = log_of(5, keep=3)
    asked = last_event_id.replace("{run}", run)
    assert given(log, asked) == (("history", None), ["3", "4", "5"])


def test_two_logs_give_out_different_ids() -> None:
    assert Log(1).event_id(1) != Log(1).event_id(1)


def test_gaps_are_given_in_their_place() -> None:
    log, run = log_of(6, keep=10, gaps={2: 7, 5: 1})
    assert given(log, f"{run}-1") == (None, ["2", 7, "3", "4", "5", 1, "6"])
    assert given(log, f"{run}-3") == (None, ["4", "5", 1, "6"])


def test_a_gap_behind_the_event_seen_last_may_not_have_been_told() -> None:
    log, run = log_of(3, keep=10, gaps={2: 7, 3: 1})
    assert given(log, f"{run}-2") == (None, [7, "3", 1])
    assert given(log, f"{run}-3") == (None, [1])


@pytest.mark.parametrize("count", [8, 8 + TRIM_AT])
def test_events_that_are_gone_cannot_be_counted_when_some_were_dropped_among_them(count: int) -> None:
    log, run = log_of(count, keep=3, gaps={4: 1})
    last = [str(count - 2), str(count - 1), str(count)]
    assert given(log, f"{run}-4") == (("history", None), last)
    assert given(log, f"{run}-5") == (("history", count - 8), last) if count > 8 else (None, last)


def test_a_client_is_offered_each_gap_once_also_one_that_grows() -> None:
    log, _ = log_of(2, keep=10, gaps={2: 3})
    served = log.head
    log.add_gap(4)
    assert follows(log, served) == [4]
    assert follows(log, Place(1, 0)) == ["2", 7]


def test_memory_is_bounded_by_what_is_kept_and_what_is_not_offered_yet() -> None:
    log, _ = log_of(10_000, keep=10, gaps=dict.fromkeys(range(10_000), 1))
    assert len(log._events) == len(log._frames) <= 10 + TRIM_AT
    assert len(log._gaps) <= 11 + TRIM_AT


def test_what_is_pending_is_what_the_hindmost_client_was_not_offered() -> None:
    log = Log(0)
    places: list[Place] = []
    for number in range(1000):
        places.append(log.head)
        log.extend(Batch([Event(request_id=str(number))], [b"x" * 10], [0.0]))
    assert log.pending == 10_000
    log.settle(places[700])
    assert log.pending == 3000
    assert follows(log, places[998]) == ["998", "999"]


def test_each_event_keeps_its_time_also_when_others_are_let_go_of() -> None:
    log = Log(keep=2)
    for number in range(1, 1001):
        log.extend(Batch([Event()], [log.event_id(1)], [float(number)]))
        log.settle(Place(max(number - 10, 0)))
    [stretch] = log.since(Place(995))
    assert stretch.batch.times == [996.0, 997.0, 998.0, 999.0, 1000.0]


def test_who_comes_from_a_worker_that_was_not_ahead_shares_the_frames_with_all_others() -> None:
    log, _ = log_of(3, keep=3)
    log.trail.begin(b"1", START, 0)
    [stretch] = log.since(Place(1), parse_seen("11111111-1.0.1.0-0.0"))
    assert list(map(id, stretch.batch.frames)) == list(map(id, log._frames[1:]))
