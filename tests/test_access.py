"""Who is let in."""

import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from vizpipe_trio._access import AccessError, Token, check_loopback

SESAME = Token("sesame")


@pytest.mark.parametrize(
    ("authorization", "query"),
    [("Bearer sesame", None), ("bearer  sesame ", None), ("", "sesame"), ("Basic eDp5", "sesame")],
)
def test_the_token_opens_by_header_and_by_query(authorization: str, query: str | None) -> None:
    SESAME.check(authorization, query)


@pytest.mark.parametrize(
    ("authorization", "query"),
    [("", None), ("", ""), ("Bearer", None), ("Bearer sesam", None), ("Bearer Sesame", "sesame"),
     ("sesame", None), ("", "sésame"), ("Bearer \udcff", None), ("", "sesame\x00")],
)  # fmt: skip
def test_anything_else_is_asked_for_a_token(authorization: str, query: str | None) -> None:
    with pytest.raises(AccessError) as caught:
        SESAME.check(authorization, query)
    assert caught.value.status == 401
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    assert "sesame" not in str(caught.value)


def way_through(guess: str) -> list[str]:
    """Return what a check runs: each line of it, and each function in C that it calls."""
    way: list[str] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        way.append(f"{frame.f_code.co_name} {event} {frame.f_lineno}")
        return trace

    def profile(_: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            way.append(argument.__name__)

    before = sys.gettrace()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        with suppress(AccessError):
            SESAME.check(f"Bearer {guess}", None)
    finally:
        sys.setprofile(None)
        sys.settrace(before)
    return way


@pytest.mark.parametrize("guess", ["xesame", "sesamx", "s", "sesame" * 100, "sesam\xeb", "\udcff"])
def test_a_guess_takes_the_same_way_whatever_of_it_is_right(guess: str) -> None:
    way = way_through("000000")
    assert way.count("compare_digest") == 1
    assert way_through(guess) == way


def test_what_keeps_the_token_does_not_know_it() -> None:
    assert "sesame" not in repr(SESAME)
    assert not hasattr(SESAME, "__dict__")
    assert [b"sesame" in getattr(SESAME, name) for name in Token.__slots__] == [False]


@pytest.mark.parametrize("token", ["", " ", "two words", "línea", "tab\t", "line\n"])
def test_a_token_that_protects_nothing_or_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="use secrets") as caught:
        Token(token)
    assert not token.strip() or token not in str(caught.value)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_without_a_token_a_program_on_this_machine_is_let_in(client: str, host: str) -> None:
    check_loopback(client, {"host": host, "accept": "*/*", "sec-fetch-site": "same-origin"}, "1.1")


@pytest.mark.parametrize("client", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "", "unix:", None])
def test_without_a_token_others_are_refused(client: str | None) -> None:
    with pytest.raises(AccessError, match="only clients on this machine"):
        check_loopback(client, {"host": "localhost"}, "1.1")


@pytest.mark.parametrize(
    "header", ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via", "cdn-loop"]
)
def test_without_a_token_a_proxy_on_this_machine_does_not_let_others_in(header: str) -> None:
    with pytest.raises(AccessError, match="came through a proxy"):
        check_loopback("127.0.0.1", {"host": "localhost", header: "10.0.0.1"}, "1.1")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", ":80"])
def test_without_a_token_a_page_whose_name_was_rebound_is_refused(host: str) -> None:
    with pytest.raises(AccessError, match="a name that is not this machine's") as caught:
        check_loopback("127.0.0.1", {"host": host}, "1.1")
    assert caught.value.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_without_a_token_a_page_of_another_site_cannot_take_places(site: str) -> None:
    with pytest.raises(AccessError, match="a page of another site"):
        check_loopback("127.0.0.1", {"host": "localhost", "sec-fetch-site": site}, "1.1")


def test_without_a_token_a_version_that_only_proxies_still_speak_is_refused() -> None:
    with pytest.raises(AccessError, match="came through a proxy"):
        check_loopback("127.0.0.1", {"host": "127.0.0.1:8000"}, "1.0")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("https://LOCALHOST", "localhost"),
        ("http://[::1]", "[::1]"),
    ],
)
def test_without_a_token_a_page_of_this_origin_is_let_in(origin: str, host: str) -> None:
    check_loopback("::1", {"host": host, "origin": origin}, "1.1")


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://localhost", "http://localhost:3000", "http://evil.example", "localhost:8000"],
)
def test_without_a_token_a_page_of_another_origin_is_refused(origin: str) -> None:
    with pytest.raises(AccessError, match="a page of another site"):
        check_loopback("127.0.0.1", {"host": "localhost:8000", "origin": origin}, "1.1")


@pytest.mark.parametrize("host", ["[::1%evil.example]", "[::1%:79ev2l.exampl,", "::1%x:80"])
def test_without_a_token_a_host_with_a_zone_is_none_of_this_machine(host: str) -> None:
    with pytest.raises(AccessError, match="addressed to a name that is not this machine's"):
        check_loopback("127.0.0.1", {"host": host}, "1.1")
