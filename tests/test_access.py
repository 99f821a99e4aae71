"""Who is let in."""

import pytest

from vizpipe_trio._access import AccessError, check_loopback, check_token, check_token_setting


@pytest.mark.parametrize(
    ("authorization", "query"),
    [("Bearer sesame", None), ("bearer  sesame ", None), ("", "sesame"), ("Basic eDp5", "sesame")],
)
def test_the_token_opens_by_header_and_by_query(authorization: str, query: str | None) -> None:
    check_token("sesame", authorization, query)


@pytest.mark.parametrize(
    ("authorization", "query"),
    [("", None), ("", ""), ("Bearer", None), ("Bearer sesam", None), ("Bearer Sesame", "sesame"),
     ("sesame", None), ("", "sésame"), ("Bearer \udcff", None), ("", "sesame\x00")],
)  # fmt: skip
def test_anything_else_is_asked_for_a_token(authorization: str, query: str | None) -> None:
    with pytest.raises(AccessError) as caught:
        check_token("sesame", authorization, query)
    assert caught.value.status == 401
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("token", ["", " ", "two words", "línea", "tab\t", "line\n"])
def test_a_token_that_protects_nothing_or_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="use secrets"):
        check_token_setting(token)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_without_a_token_a_program_on_this_machine_is_let_in(client: str, host: str) -> None:
    check_loopback(client, {"host": host, "accept": "*/*", "sec-fetch-site": "same-origin"})


@pytest.mark.parametrize("client", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "", "unix:", None])
def test_without_a_token_others_are_refused(client: str | None) -> None:
    with pytest.raises(AccessError, match="only clients on this machine"):
        check_loopback(client, {"host": "localhost"})


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via"])
def test_without_a_token_a_proxy_on_this_machine_does_not_let_others_in(header: str) -> None:
    with pytest.raises(AccessError, match="came through a proxy"):
        check_loopback("127.0.0.1", {"host": "localhost", header: "10.0.0.1"})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", ":80"])
def test_without_a_token_a_page_whose_name_was_rebound_is_refused(host: str) -> None:
    with pytest.raises(AccessError, match="a name that is not this machine's") as caught:
        check_loopback("127.0.0.1", {"host": host})
    assert caught.value.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_without_a_token_a_page_of_another_site_cannot_take_places(site: str) -> None:
    with pytest.raises(AccessError, match="a page of another site"):
        check_loopback("127.0.0.1", {"host": "localhost", "sec-fetch-site": site})
