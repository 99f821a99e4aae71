"""What a request may ask for, within bounds. Plain functions over its parts; no framework.

Servers bound a request's head as a whole (Hypercorn: 16 KiB that are not yet complete, so about
80 KiB at most). What this package reads of it has bounds of its own, checked before anything is
parsed, since strangers are heard before they are refused.
"""

from collections.abc import Iterable, Mapping

MAX_QUERY = 8192
"""Bytes of a query string at most: room for a token and for filters in plenty."""

MAX_PARAMETERS = 64
"""Parameters in a query string at most, the token and the ID among them."""

MAX_LAST_EVENT_ID = 512
"""Characters of a last event ID that are kept. Those that this package gives out have under 30; with a
relay some 50, and as many again for each other worker that they have to tell of: see ``_sight.py``."""


class RequestError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status to answer with.
        headers: Headers that go with it.
        allowed: What may stand in the place of what was given, where that can be said.
    """

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        allowed: Iterable[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.allowed = None if allowed is None else sorted(allowed)


def parse_query(query: bytes) -> list[tuple[str, str]]:
    """Return a query string's names and values, in order. Bytes that are no text become U+FFFD.

    Raises:
        RequestError: It is too long (414), or has too many parameters (400).
    """
    if len(query) > MAX_QUERY:
        raise RequestError(414, f"the query string is longer than {MAX_QUERY} bytes")
    from urllib.parse import parse_qsl  # noqa: PLC0415 - a pipe without a server has no use for it

    try:
        return parse_qsl(
            query.decode("utf-8", "replace"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError as error:
        raise RequestError(400, f"there are more than {MAX_PARAMETERS} parameters") from error


def check_back_pressure(http_version: str) -> None:
    """Refuse an event stream over HTTP/2 and HTTP/3, whose clients the server does not wait for.

    Raises:
        RequestError: The version is not 1.0 or 1.1.
    """
    if not http_version.startswith("1."):
        raise RequestError(
            505,
            f"no event streams over HTTP/{http_version}: the server would hold in memory, without a bound, what a "
            "slow client does not take, and neither side would learn of it. Use HTTP/1.1: for the whole server with "
            'alpn_protocols = ["http/1.1"], or behind a proxy that speaks HTTP/2 to browsers; or take the risk with '
            "viz_blueprint(http2=True) or EventStreamResponse(stream, http2=True)",
        )


def check_no_body(headers: Mapping[str, str]) -> None:
    """Refuse a request that brings a body, which would be kept for as long as the stream is open.

    Raises:
        RequestError: It has one, or may have.
    """
    if "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0":
        raise RequestError(413, "send no body")


def find_last_event_id(header: str | None, parameter: str | None) -> str:
    """Return the ID that a client saw last, ``""`` for a new client. The header goes first.

    What is cut off one that is too long does not matter: it was never given out.
    """
    return (header or parameter or "")[:MAX_LAST_EVENT_ID]
