"""How many may watch at once."""

import pytest

from vizpipe_trio._places import Places


def test_places_are_taken_until_all_are_and_come_back() -> None:
    places = Places(2)
    for client in ("192.0.2.1", None):
        assert places.full_for(client) is None
        places.take(client)
    assert places.full_for("192.0.2.2") == "all 2 places are taken"
    places.give_back(None)
    assert places.full_for("192.0.2.2") is None
    assert places.taken == 1


def test_one_address_takes_only_its_share() -> None:
    places = Places(10, 2)
    for _ in range(2):
        places.take("192.0.2.1")
    assert places.full_for("192.0.2.1") == "all 2 places for one address are taken"
    assert places.full_for("192.0.2.2") is None
    places.give_back("192.0.2.1")
    assert places.full_for("192.0.2.1") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        (None, ""),
    ],
    ids=["one network of IPv6", "IPv4 by way of IPv6", "no address"],
)
def test_what_one_host_can_call_itself_is_one_address(one: str | None, other: str) -> None:
    places = Places(10, 1)
    places.take(one)
    assert places.full_for(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8:0:1::1", "2001:db8:0:2::1"), ("192.0.2.1", "192.0.2.2"), ("pipe-1", "pipe-2")],
)
def test_other_addresses_have_places_of_their_own(one: str, other: str) -> None:
    places = Places(10, 1)
    places.take(one)
    assert places.full_for(other) is None


def test_addresses_are_forgotten_when_they_have_left() -> None:
    places = Places(1000, 1)
    for host in range(100):
        places.take(f"192.0.2.{host}")
        places.give_back(f"192.0.2.{host}")
    assert places.taken == 0
    assert not places._taken_by
