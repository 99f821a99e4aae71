"""What a request may ask for."""

import pytest

from vizpipe_trio._request import RequestError, check_no_body, find_last_event_id, parse_query
from vizpipe_trio._sight import Sight, Spot, add_seen, parse_seen


def test_names_and_values_come_in_order_repeated_ones_and_empty_ones_too() -> None:
    assert parse_query(b"op=WRITE&label=a%26b&label=&label=a+b&token") == [
        ("op", "WRITE"), ("label", "a&b"), ("label", ""), ("label", "a b"), ("token", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("query", [b"source=%ff", b"source=\xff", b"source=%ed%a0%80"])
def test_bytes_that_are_no_text_are_replaced(query: bytes) -> None:
    [(name, value)] = parse_query(query)
    assert name == "source"
    assert set(value) == {"\ufffd"}


def test_a_query_of_8_kib_is_read_and_one_byte_more_is_too_long() -> None:
    assert parse_query(b"a" * 8192) == [("a" * 8192, "")]
    with pytest.raises(RequestError, match="longer than 8192 bytes") as caught:
        parse_query(b"a" * 8193)
    assert caught.value.status == 414


def test_64_parameters_are_read_and_one_more_is_too_many() -> None:
    assert len(parse_query(b"&".join([b"label=x"] * 64))) == 64
    with pytest.raises(RequestError, match="more than 64 parameters") as caught:
        parse_query(b"&".join([b"label=x"] * 65))
    assert caught.value.status == 400


def test_the_last_event_id_is_the_headers_or_else_the_parameters() -> None:
    assert find_last_event_id("7c1e9f-1", "7c1e9f-2") == "7c1e9f-1"
    assert find_last_event_id("", "7c1e9f-2") == "7c1e9f-2"
    assert find_last_event_id(None, None) == ""


def test_the_longest_id_that_a_relay_gives_out_is_read_whole() -> None:
    sight = Sight(b"7c1e9fa2", 10**18 - 1, b"f" * 16, Spot(2**64 - 1, 2**64 - 1, 10**9 - 1))
    frame = add_seen(b"id: 7c1e9fa2-%d" % 10**17, (sight, sight, sight))
    first = b".%d.%b.%x-%x.%d" % (sight.own, sight.epoch, *sight.spot)
    event_id = frame.removeprefix(b"id: ").replace(b"~", first + b"~", 1).decode()
    assert len(parse_seen(event_id)) == 4
    assert find_last_event_id(event_id, None) == event_id


def test_of_a_last_event_id_longer_than_any_that_was_given_out_only_a_part_is_kept() -> None:
    assert find_last_event_id("x" * 10_000, None) == "x" * 512


@pytest.mark.parametrize("headers", [{}, {"content-length": "0"}, {"content-length": " 0 "}])
def test_a_request_without_a_body_is_let_in(headers: dict[str, str]) -> None:
    check_no_body(headers)


@pytest.mark.parametrize("headers", [{"content-length": "1"}, {"transfer-encoding": "chunked"}])
def test_a_request_with_a_body_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="send no body") as caught:
        check_no_body(headers)
    assert caught.value.status == 413
