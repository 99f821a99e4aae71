"""Who may watch. Plain functions over a request's parts; no framework."""

from hmac import compare_digest
from ipaddress import IPv6Address, ip_address

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


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


def check_loopback(client: str | None, host: str, header_names: set[str]) -> None:
    """Let in a request that a program on this machine made for itself.

    Args:
        client: The peer's IP address; None where the transport has none.
        host: The ``Host`` header.
        header_names: The request's header names in lower case.

    Raises:
        AccessError: The peer is not on the loopback interface, a proxy speaks for somebody
            else, or the request is addressed to a name that is not this machine's: a
            page of another site whose name was rebound to a loopback address.
    """
    if client is None or not _is_loopback(client):
        raise AccessError(403, "only clients on this machine are let in: set a token for others")
    if not header_names.isdisjoint(_FORWARDED):
        raise AccessError(403, "this request came through a proxy: set a token")
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
