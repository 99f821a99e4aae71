"""Who may watch. Plain functions over a request's parts; no framework.

With a token, who has it may watch, from wherever. Without one, only programs on this machine may,
and of browsers only pages that this server itself sent. SECURITY.md has the whole policy.
"""

from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv4Address, IPv6Address, ip_address

from ._request import RequestError

_PROXY_HEADERS = (
    "cdn-loop",
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-amzn-trace-id",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-",
    "x-forwarded-",
    "x-original-",
    "x-proxy",
    "x-real-ip",
)


class AccessError(RequestError):
    """A request that is not let in."""


class Token:
    """What clients must send. Only its digest is kept, so that no traceback or dump can show it.

    Raises:
        ValueError: The token is empty, or has characters that do not fit a header.
    """

    __slots__ = ("_digest",)

    def __init__(self, token: str) -> None:
        if not fits_header(token):
            raise ValueError(
                "token must be printable ASCII without spaces, and not empty: "
                "use secrets.token_urlsafe(), or say token=None for loopback clients only"
            )
        self._digest = _digest(token)

    def check(self, authorization: str, query_token: str | None) -> None:
        """Let in a request that carries the token, in its header or its query string.

        Takes equally long for every wrong token of one length.

        Args:
            authorization: The header of that name, ``""`` if there is none.
            query_token: What the query string says. It counts when the header says no token.

        Raises:
            AccessError: It carries none, or another one.
        """
        scheme, _, credentials = authorization.partition(" ")
        given = credentials.strip() if scheme.lower() == "bearer" else query_token
        if given is None or not compare_digest(_digest(given), self._digest):
            raise AccessError(
                401,
                "the right token is needed: Authorization: Bearer <token>, or ?token=<token>",
                {"WWW-Authenticate": "Bearer"},
            )


def fits_header(value: str) -> bool:
    """Return whether it can be sent as one word of a header: printable ASCII without spaces, and not empty."""
    return value.isascii() and value.isprintable() and " " not in value and value != ""


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def check_loopback(client: str | None, headers: Mapping[str, str], http_version: str) -> None:
    """Let in a request that a program on this machine made for itself.

    A proxy that says nothing of itself and speaks HTTP/1.1 cannot be told from such a program.

    Args:
        client: The peer's IP address; None where the transport has none.
        headers: The request's headers, with their names in lower case.
        http_version: As ASGI has it, such as ``"1.1"``.

    Raises:
        AccessError: The peer is not on the loopback interface; or a proxy says that it
            speaks for somebody else; or a browser says that a page of another origin asks; or
            the request is addressed to a name that is not this machine's, as when such a
            page has had its own name rebound to a loopback address.
    """
    if client is None or not _is_loopback(client):
        raise AccessError(403, "only clients on this machine are let in: set a token for others")
    # nginx, asked for no more than to pass requests on, adds no header and puts a Host of its own,
    # but up to 1.29 it speaks a version that browsers and other clients have long given up.
    if http_version == "1.0" or any(name.startswith(_PROXY_HEADERS) for name in headers):
        raise AccessError(403, "this request came through a proxy: set a token")
    host = headers.get("host", "").lower()
    # All browsers send Origin with what another origin's page could read; those of late say with
    # each request to a loopback address where it comes from.
    origin = headers.get("origin", f"http://{host}").lower()
    if origin.partition("://")[2] != host or headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        raise AccessError(403, "a page of another site made this request: set a token")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name != "localhost" and not _is_loopback(name.removeprefix("[").removesuffix("]")):
        raise AccessError(403, "this request is addressed to a name that is not this machine's: set a token")


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 socket shows as ``::ffff:127.0.0.1``, others as they are."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_loopback(address: str) -> bool:
    try:
        # An address with a zone ("::1%anything") is one of a link, and its zone any text.
        return "%" not in address and unmapped(ip_address(address)).is_loopback
    except ValueError:
        return False
