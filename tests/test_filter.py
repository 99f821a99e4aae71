"""Filters as a viewer asks for them."""

import pytest

from vizpipe_trio import Event
from vizpipe_trio._filter import FilterError, parse_filter


def lets_through(query: list[tuple[str, str]], event: Event) -> bool:
    wanted = parse_filter(query)
    assert wanted is not None
    return wanted(event)


def test_no_filter_is_asked_for_by_an_empty_query() -> None:
    assert parse_filter([]) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("op", "WRITE"), ("status", "DENIED"), ("source", "search"), ("actor_type", "agent"), ("label", "b")],
)
def test_each_name_filters_on_its_field(name: str, value: str) -> None:
    fits = Event(op="WRITE", status="DENIED", source="search", actor_type="agent", labels=["a", "b"])
    other = Event(op="QUERY", status="ALLOWED", source="gateway", actor_type="user", labels=["c"])
    assert lets_through([(name, value)], fits)
    assert not lets_through([(name, value)], other)


def test_values_of_one_name_are_alternatives_and_names_must_all_fit() -> None:
    query = [("op", "WRITE"), ("op", "QUERY"), ("source", "search")]
    assert lets_through(query, Event(op="WRITE", source="search"))
    assert lets_through(query, Event(op="QUERY", source="search"))
    assert not lets_through(query, Event(op="QUERY", source="gateway"))


def test_equal_filters_are_one_key() -> None:
    first = parse_filter([("label", "a"), ("label", "b"), ("op", "WRITE")])
    second = parse_filter([("op", "WRITE"), ("label", "b"), ("label", "a")])
    assert len({first, second}) == 1


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(FilterError, match="there is no filter 'colour'") as caught:
        parse_filter([("colour", "red")])
    assert caught.value.allowed == ["actor_type", "label", "op", "source", "status"]


def test_an_unknown_value_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(FilterError, match="there is no status 'allowed'") as caught:
        parse_filter([("status", "allowed")])
    assert caught.value.allowed == ["ALLOWED", "DENIED", "FILTERED"]
