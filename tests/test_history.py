"""What a client that comes back can be given."""

import pytest

from vizpipe_trio._batch import Batch
from vizpipe_trio._event import Event
from vizpipe_trio._history import History


def history_of(count: int, size: int) -> tuple[History, str]:
    """Return a history to which ``count`` events were added, and its run."""
    history = History(size)
    run = history.event_id(1).decode().rpartition("-")[0]
    for number in range(1, count + 1):
        history.add(Batch([Event(request_id=str(number))], [history.event_id(1)]))
    return history, run


def given(history: History, last_event_id: str) -> tuple[tuple[str, int | None] | None, list[str]]:
    lost, held = history.since(last_event_id)
    return (lost.reason, lost.count) if lost else None, [event.request_id for event in held.events]


def test_what_came_after_the_id_is_given_in_order() -> None:
    history, run = history_of(5, size=10)
    assert given(history, f"{run}-2") == (None, ["3", "4", "5"])


def test_nothing_is_given_to_a_client_that_saw_everything() -> None:
    history, run = history_of(5, size=10)
    assert given(history, f"{run}-5") == (None, [])


def test_what_is_no_longer_held_is_counted() -> None:
    history, run = history_of(10, size=3)
    assert given(history, f"{run}-2") == (("history", 5), ["8", "9", "10"])
    assert given(history, f"{run}-6") == (("history", 1), ["8", "9", "10"])
    assert given(history, f"{run}-7") == (None, ["8", "9", "10"])


def test_without_a_history_all_is_lost_but_counted() -> None:
    history, run = history_of(4, size=0)
    assert given(history, f"{run}-1") == (("history", 3), [])
    assert given(history, f"{run}-4") == (None, [])


@pytest.mark.parametrize(
    "last_event_id",
    ["deadbeef-1", "1", "-1", "", "x" * 9000, "\xff\xfe", "{run}", "{run}-", "{run}-99", "{run}--1",
     "{run}-1 ", "{run}-1\n", "{run}-\u0661", "{run}-" + "9" * 50, "{RUN}-1x"],
)  # fmt: skip
def test_an_id_that_was_never_given_out_is_answered_with_all_that_is_held(last_event_id: str) -> None:
    history, run = history_of(5, size=3)
    asked = last_event_id.replace("{run}", run)
    assert given(history, asked) == (("history", None), ["3", "4", "5"])


def test_two_histories_give_out_different_ids() -> None:
    assert History(1).event_id(1) != History(1).event_id(1)
