"""Who may watch. Plain functions over a request's parts; no framework."""

from collections.abc import Mapping
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address

_PROXY_HEADERS = ("x-forwarded-", "forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip")


class AccessError(Exception):
    """A request that is not let in.

    Attributes:
        status: The HTTP status to answer with: 401 or 403.
        headers: Headers that go with it.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def check_token_setting(token: str | None) -> None:
    """Refuse a token that would protect nothing, or that no client could send.

    Raises:
        ValueError: It is empty, or has characters that do not fit a header.
    """
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        raise ValueError(
            "token must be printable ASCII without spaces, and not empty: "
            "use secrets.token_urlsafe(), or say token=None for loopback clients only"
        )


def check_token(expected: str, authorization: str, query_token: str | None) -> None:
    """Let in a request that carries the token, in its header or its query string.

    Raises:
        AccessError: It carries none, or another one. Compared in constant time.
    """
    scheme, _, credentials = authorization.partition(" ")
    given = credentials.strip() if scheme.lower() == "bearer" else query_token
    # Bytes, since compare_digest takes text only if it is ASCII.
    if given is None or not compare_digest(given.encode("utf-8", "replace"), expected.encode("ascii")):
        raise AccessError(
            401,
            "a token is needed: Authorization: Bearer <token>, or ?token=<token>",
            {"WWW-Authenticate": "Bearer"},
        )


def check_loopback(client: str | None, headers: Mapping[str, str]) -> None:
    """Let in a request that a program on this machine made for itself.

    Args:
        client: The peer's IP address; None where the transport has none.
        headers: The request's headers, with their names in lower case.

    Raises:
        AccessError: The peer is not on the loopback interface; or a proxy says that it
            speaks for somebody else; or a browser says that a page of another site asks; or
            the request is addressed to a name that is not this machine's, as when such a
            page has had its own name rebound to a loopback address.
    """
    if client is None or not _is_loopback(client):
        raise AccessError(403, "only clients on this machine are let in: set a token for others")
    if any(name.startswith(_PROXY_HEADERS) for name in headers):
        raise AccessError(403, "this request came through a proxy: set a token")
    if headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        raise AccessError(403, "a page of another site made this request: set a token")
    host = headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() != "localhost" and not _is_loopback(name.strip("[]")):
        raise AccessError(403, "this request is addressed to a name that is not this machine's: set a token")


def _is_loopback(address: str) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback
