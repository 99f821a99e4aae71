"""Messages between workers: what is understood, and what is not."""

from datetime import UTC, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vizpipe_trio import Event, StageInfo
from vizpipe_trio._envelope import Envelope, UnknownVersionError, decode_envelope
from vizpipe_trio._origins import Origins
from vizpipe_trio._sight import Spot
from vizpipe_trio._sse import MAX_EVENT, encode_event, encode_read

OWN = b"ffffffff"
EVENT = b'{"ts":"2026-01-01T00:00:00Z","request_id":"x"}'


def fields_of(envelope: Envelope) -> dict[bytes, bytes]:
    return {name.encode(): value for name, value in envelope.encode().items()}


def message(first: int, count: int, *, hello: bool = False, dropped: int = 0) -> Envelope:
    envelope = Envelope(b"00000000", first, dropped, count, hello=hello, data=[EVENT] * count)
    return decode_envelope(fields_of(envelope), OWN)


def test_a_message_is_a_flat_map_with_a_version() -> None:
    envelope = Envelope(b"0a1b2c3d", 7, 3, 2, hello=True, data=[b"{}", b"{}"])
    assert envelope.encode() == {
        "v": b"1", "r": b"0a1b2c3d", "s": b"7", "d": b"3", "n": b"2", "e": b"[{},{}]", "h": b"1",
    }  # fmt: skip


def test_what_is_decoded_is_what_was_encoded_with_its_json_written_anew() -> None:
    envelope = message(7, 1, hello=True)
    assert (envelope.run, envelope.first, envelope.count, envelope.hello) == (b"00000000", 7, 1, True)
    assert [event.request_id for event in envelope.events] == ["x"]
    assert envelope.data[0].startswith(b'{"ts":"2026-01-01T00:00:00Z","request_id":"x","source":""')


def test_another_version_is_told_from_what_is_no_message() -> None:
    with pytest.raises(UnknownVersionError, match="a message of version 2"):
        decode_envelope({b"v": b"2", b"r": b"00000000"}, OWN)
    with pytest.raises(ValueError, match="not a message of ours") as caught:
        decode_envelope({b"v": b"x"}, OWN)
    assert not isinstance(caught.value, UnknownVersionError)


def test_the_events_of_an_own_message_are_not_looked_at() -> None:
    fields = {**fields_of(message(7, 1)), b"r": OWN, b"e": b"nonsense"}
    assert decode_envelope(fields, OWN).count == 1


WORDS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\u2028\u2029\x85\n\r"))
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
FIELDS = {
    "ts": st.datetimes(timezones=st.just(UTC) | OFFSETS).map(lambda at: at.isoformat()),
    "subject": WORDS,
    "labels": st.lists(WORDS),
    "result_count": st.integers(-(2**53) + 1, 2**53 - 1),
    "total_ms": NUMBERS | st.integers(-(10**30), 10**30),
    "stages": st.none()
    | st.lists(st.fixed_dictionaries({"stage": st.just(1), "name": WORDS, "ms": NUMBERS})),
    "unknown": WORDS,
}


@given(st.lists(st.fixed_dictionaries({}, optional=FIELDS)))
def test_what_was_read_is_written_as_at_the_entrance(written: list[dict[str, object]]) -> None:
    events = msgspec.json.decode(msgspec.json.encode(written), type=list[Event])
    assert encode_read(events) == [encode_event(event) for event in events]


@pytest.mark.parametrize(
    "event", [b'{"subject":"%b"}' % (b"x" * 61_440), b'{"labels":[%b""]}' % (b'"",' * 1000)]
)
def test_an_event_that_the_entrance_would_refuse_makes_a_message_invalid(event: bytes) -> None:
    with pytest.raises(ValueError, match="one of the events"):
        decode_envelope({**fields_of(message(1, 1)), b"e": b"[%b]" % event}, OWN)


@pytest.mark.parametrize("until", range(0, 120, 7))
def test_a_message_that_is_cut_anywhere_is_a_value_error(until: int) -> None:
    payload = b"[%b,%b]" % (EVENT, EVENT)
    fields = {**fields_of(message(1, 2)), b"e": payload[: min(until, len(payload) - 1)]}
    with pytest.raises(ValueError, match=r"decoded|events, and not"):
        decode_envelope(fields, OWN)


def test_what_came_before_is_a_duplicate_and_what_did_not_come_is_lost() -> None:
    origins = Origins()
    origins.hear(message(1, 3), Spot(1, 0, 0), is_baseline=True)
    again = origins.hear(message(2, 4), Spot(2, 0, 0), is_baseline=False)
    assert (again.first, len(again.events), again.spot, again.until) == (4, 2, Spot(2, 0, 2), Spot(2, 0, 4))
    later = origins.hear(message(9, 1), Spot(3, 0, 0), is_baseline=False)
    assert (later.lost, later.first, len(later.events)) == (3, 9, 1)
    assert (origins.received, origins.duplicates, origins.lost) == (8, 2, 3)


@pytest.mark.parametrize(
    ("first", "is_baseline", "lost"), [(1, False, 0), (5, False, None), (5, True, 0), (1, True, 0)]
)
def test_what_a_stranger_did_before_is_missed_only_if_this_worker_was_there(
    first: int, is_baseline: bool, lost: int | None
) -> None:
    arrival = Origins().hear(message(first, 1, hello=True), Spot(1, 0, 0), is_baseline=is_baseline)
    assert arrival.lost == lost


def test_drops_are_told_as_they_grow() -> None:
    origins = Origins()
    assert origins.hear(message(1, 0, dropped=5), Spot(1, 0, 0), is_baseline=False).dropped == 5
    assert origins.hear(message(1, 1, dropped=7), Spot(2, 0, 0), is_baseline=False).dropped == 2
    assert Origins().hear(message(1, 1, dropped=7), Spot(2, 0, 0), is_baseline=True).dropped == 0


def test_drops_are_told_once_when_messages_come_again_in_a_row() -> None:
    origins = Origins()
    row = [message(1, 1), message(2, 1, dropped=5)]
    told = [origins.hear(each, Spot(1, 0, 0), is_baseline=False) for each in (*row, message(1, 0), *row)]
    assert [arrival.dropped for arrival in told] == [0, 5, 0, 0, 0]
    assert (origins.received, origins.duplicates, origins.lost) == (4, 2, 0)


def test_whatever_the_entrance_lets_in_another_worker_can_write_again() -> None:
    stages = [StageInfo(1, "n", 1)] * 1300  # ints: a float is written longer
    smallest = len(encode_event(Event(stages=stages)))
    accepted: list[bool] = []
    for size in range(MAX_EVENT - 3000, MAX_EVENT + 100, 100):
        event = Event(stages=stages, labels=[], total_ms=1, subject="x" * (size - smallest))
        try:
            written = encode_event(event)
        except ValueError:
            accepted.append(False)
        else:
            fields = fields_of(Envelope(b"00000000", 1, 0, 1, hello=False, data=[written]))
            assert decode_envelope(fields, OWN).events == [event]
            accepted.append(True)
    assert accepted == sorted(accepted, reverse=True)
    assert 0 < sum(accepted) < len(accepted)
