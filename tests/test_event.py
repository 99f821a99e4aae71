"""What an event is, and how it looks on the wire."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, cast
from uuid import UUID

import pytest

from vizpipe_trio import Event, StageInfo, marshal_sse

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def test_an_event_is_marshalled_to_exactly_this_frame() -> None:
    event = Event(
        timestamp=NEW_YEAR,
        request_id="req-1",
        source="search",
        op="QUERY",
        subject="lambda",
        actor_type="agent",
        status="FILTERED",
        labels=("public", "docs"),
        result_count=3,
        total_ms=12.5,
        stages=[StageInfo(1, "policy", 0.25), StageInfo(2, "cache", 1.5, hit=True)],
    )
    assert marshal_sse(event) == (
        b'data: {"ts":"2026-01-01T00:00:00Z","request_id":"req-1","source":"search","op":"QUERY",'
        b'"subject":"lambda","actor_type":"agent","status":"FILTERED","labels":["public","docs"],'
        b'"result_count":3,"total_ms":12.5,"stages":[{"stage":1,"name":"policy","ms":0.25,"hit":false},'
        b'{"stage":2,"name":"cache","ms":1.5,"hit":true}]}\n\n'
    )


def test_a_write_has_null_stages_and_labels_are_always_a_list() -> None:
    frame = marshal_sse(Event(timestamp=NEW_YEAR, request_id="w", op="WRITE"))
    assert frame == (
        b'data: {"ts":"2026-01-01T00:00:00Z","request_id":"w","source":"","op":"WRITE","subject":"",'
        b'"actor_type":"user","status":"ALLOWED","labels":[],"result_count":0,"total_ms":0.0,"stages":null}\n\n'
    )


def test_every_field_has_a_default_and_the_timestamp_is_now_in_utc() -> None:
    before = datetime.now(UTC)
    event = Event(request_id="r1")
    assert before <= event.timestamp <= datetime.now(UTC)
    assert event.timestamp.utcoffset() == timedelta(0)
    assert (event.op, event.status, event.actor_type) == ("QUERY", "ALLOWED", "user")


@pytest.mark.parametrize("field", ["timestamp", "request_id", "labels", "stages"])
def test_an_event_cannot_be_changed(field: str) -> None:
    event = Event(request_id="r1")
    with pytest.raises(AttributeError, match="immutable"):
        setattr(event, field, None)


def test_a_timestamp_in_another_zone_keeps_its_offset() -> None:
    event = Event(timestamp=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))))
    assert marshal_sse(event).startswith(b'data: {"ts":"2026-01-01T00:00:00+02:00",')


@pytest.mark.parametrize(
    "text", ["a\x85b", "a\u2028b", "data: x\u2029\u2029id: 9\u2028\u2028", "\x0b\x0c\x1c\x1d\x1e"]
)
def test_no_text_can_break_out_of_its_frame_where_lines_end_as_python_has_it(text: str) -> None:
    frame = marshal_sse(Event(subject=text)).decode()
    assert len(frame.splitlines()) == 2
    assert json.loads(frame.removeprefix("data: "))["subject"] == text


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "\x00", "\u2028\u2029", "\ufeff", "data: x\n\nid: 9", "</script>", "日本"]
)
def test_no_text_can_break_out_of_its_frame(text: str) -> None:
    frame = marshal_sse(Event(subject=text, labels=[text]))
    assert frame.count(b"\n") == 2
    assert b"\r" not in frame
    assert json.loads(frame.removeprefix(b"data: "))["subject"] == text


class _Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class _MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class _Nowhere(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        raise _MuteError

    def dst(self, dt: datetime | None) -> timedelta:
        raise _MuteError

    def tzname(self, dt: datetime | None) -> str:
        raise _MuteError


_nested: list[Any] = []
_nested.append(_nested)


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": [object()]},
        {"labels": [_Hostile()]},
        {"labels": "public"},
        {"labels": [1]},
        {"labels": _nested},
        {"timestamp": datetime(2026, 1, 1)},  # noqa: DTZ001 - the point of it
        {"timestamp": "2026-01-01T00:00:00"},
        {"timestamp": datetime(2026, 1, 1, tzinfo=_Nowhere())},
        {"subject": "\ud800"},
        {"total_ms": math.nan},
        {"total_ms": math.inf},
        {"total_ms": None},
        {"stages": [StageInfo(1, "cache", -math.inf)]},
        {"stages": [("cache", 1.0)]},
        {"op": "DELETE"},
        {"status": "allowed"},
        {"actor_type": ""},
        {"request_id": None},
        {"subject": "x" * 61_440},
        {"subject": "\N{KATAKANA LETTER A}" * 30_000},
        {"labels": ["x" * 70] * 1000},
        {"labels": [""] * 1001},
        {"stages": [StageInfo(1, "")] * 1921},
        # What JSON, or a browser, would change.
        {"subject": b"cheese"},
        {"labels": [b"public"]},
        {"request_id": UUID(int=1)},
        {"result_count": 2**53},
        {"stages": [StageInfo(-(2**53), "cache")]},
        {"result_count": 10**400},
        {"total_ms": 2**70 + 1},
        {"timestamp": datetime(1900, 1, 1, tzinfo=timezone(timedelta(minutes=19, seconds=32)))},
        {"timestamp": datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1)))},
    ],
)
def test_what_does_not_fit_the_wire_is_refused_with_a_reason(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="event"):
        marshal_sse(Event(**fields))


def test_a_thousand_labels_are_let_through() -> None:
    frame = marshal_sse(Event(labels=["public"] * 1000))
    assert frame.count(b'"public"') == 1000


def test_what_is_refused_is_named() -> None:
    with pytest.raises(ValueError, match="the event's subject would not come out as it went in"):
        marshal_sse(Event(subject=cast("Any", b"cheese"), labels=("a",), stages=()))


def test_a_reason_quotes_no_more_than_a_line_of_the_event() -> None:
    with pytest.raises(ValueError, match="Invalid enum value") as caught:
        marshal_sse(Event(op=cast("Any", "x\n" * 10_000)))
    assert len(str(caught.value)) < 400


class _Uncounted:
    def __len__(self) -> int:
        raise AssertionError


FAR_TOO_LONG = "x" * 1_000_000
FAR_TOO_LARGE: dict[str, Any] = {
    **dict.fromkeys(["subject", "request_id", "source", "op", "actor_type", "status"], FAR_TOO_LONG),
    "labels": [FAR_TOO_LONG],
    "stages": [StageInfo(1, FAR_TOO_LONG)],
    "many labels": [_Uncounted()] * 1_000_000,
    "many stages": [StageInfo(1, "")] * 1_000_000,
}


@pytest.mark.parametrize("field", FAR_TOO_LARGE)
def test_an_event_that_is_far_too_large_is_refused_without_being_encoded(field: str) -> None:
    """It would hold up the host: a hundred of a megabyte each take seconds."""
    with pytest.raises(ValueError, match=r"it is at least|it has 1000000 labels"):
        marshal_sse(Event(**{field.removeprefix("many "): FAR_TOO_LARGE[field]}))


def test_a_label_that_is_no_string_is_refused_whatever_is_in_it() -> None:
    with pytest.raises(ValueError, match="one of its labels is no string but a list"):
        marshal_sse(Event(labels=[cast("Any", [FAR_TOO_LONG])]))


class _Twice(tzinfo):
    """A zone that is always in the hour that passes twice."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=1 if dt is not None and dt.fold else 2)

    def dst(self, dt: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, dt: datetime | None) -> str:
        return "twice"


@pytest.mark.parametrize(("fold", "offset"), [(0, "+02:00"), (1, "+01:00")])
def test_a_timestamp_in_an_hour_that_passes_twice_is_as_good_as_others(fold: int, offset: str) -> None:
    moment = datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=_Twice())
    assert moment != moment.astimezone(UTC)  # PEP 495, and yet it is the same moment
    assert marshal_sse(Event(timestamp=moment)).startswith(
        b'data: {"ts":"2026-10-25T02:30:00' + offset.encode()
    )


@pytest.mark.parametrize(
    "fields", [{"labels": {"a"}}, {"labels": frozenset("b")}, {"stages": ()}, {"total_ms": 3}]
)
def test_what_only_its_type_tells_from_what_comes_out_is_let_through(fields: dict[str, Any]) -> None:
    data = json.loads(marshal_sse(Event(**fields)).removeprefix(b"data: "))
    assert {name: type(value)(data[name]) for name, value in fields.items()} == fields


class Curious(Event, frozen=True, omit_defaults=True):
    secret: str = "more than the wire has a place for"


@pytest.mark.parametrize("thing", [None, {"request_id": "r1"}, StageInfo(1, "cache"), Event, Curious()])
def test_only_an_event_can_be_marshalled(thing: Any) -> None:
    with pytest.raises(ValueError, match="expected an Event, got"):
        marshal_sse(thing)


def test_a_proxy_is_no_event_and_is_not_asked() -> None:
    def asked(proxy: object) -> type:
        raise RuntimeError("there is no event behind this now")

    thing: Any = type("Proxy", (), {"__class__": property(asked)})()
    with pytest.raises(ValueError, match="expected an Event, got Proxy"):
        marshal_sse(thing)
