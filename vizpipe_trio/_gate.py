"""Who is let in, from an ASGI scope: puts the checks of a request's parts together."""

from collections.abc import Mapping
from typing import Any

from ._access import Token, check_loopback
from ._request import check_no_body


class Gate:
    """Lets in who has the token; or if there is none, programs on this machine.

    Args:
        token: As for `Token`; None lets in programs on this machine.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else Token(token)

    def check(self, scope: Mapping[str, Any], query_token: str | None) -> None:
        """Let a request in, or not.

        Args:
            scope: The request's ASGI scope.
            query_token: What its query string says is the token, if anything.

        Raises:
            RequestError: It is not let in, or has a body.
        """
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        if self._token is not None:
            self._token.check(headers.get("authorization", ""), query_token)
        # A scope that names no peer is as good as one that says None (ASGI), except that
        # Quart's test client makes such scopes, with a mark that no server puts there.
        elif "client" in scope or "_quart._preserve_context" not in scope:
            check_loopback(address_of(scope), headers, scope.get("http_version", "1.1"))
        check_no_body(headers)


def address_of(scope: Mapping[str, Any]) -> str | None:
    """Return the peer's address; None where the transport has none."""
    client = scope.get("client")
    return client[0] if client else None
