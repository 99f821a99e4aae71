"""How many streams may be open, in all and for one address, and how many are. No I/O."""

from collections import Counter
from ipaddress import ip_address

from ._access import unmapped


class Places:
    """A bounded number of places, of which one address may take only so many.

    Args:
        limit: Places in all, at least 1.
        limit_per_address: Places for one address, at least 1; None for no bound of its own.

    Attributes:
        taken: Places that are taken now.
    """

    def __init__(self, limit: int, limit_per_address: int | None = None) -> None:
        if limit < 1:
            raise ValueError(f"max_clients must be at least 1, not {limit}")
        if limit_per_address is not None and limit_per_address < 1:
            raise ValueError(f"max_clients_per_address must be at least 1 or None, not {limit_per_address}")
        self.taken = 0
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._taken_by: Counter[bytes] = Counter()

    def full_for(self, client: str | None) -> str | None:
        """Say why there is no place for a client, or None if there is one.

        Args:
            client: The peer's IP address; None where the transport has none.
        """
        if self.taken >= self._limit:
            return f"all {self._limit} places are taken"
        if self._limit_per_address is not None and self._taken_by[_key(client)] >= self._limit_per_address:
            return f"all {self._limit_per_address} places for one address are taken"
        return None

    def take(self, client: str | None) -> None:
        """Take a place, which `full_for` has just said there is."""
        self.taken += 1
        self._taken_by[_key(client)] += 1

    def give_back(self, client: str | None) -> None:
        """Give back the place of a client that leaves."""
        self.taken -= 1
        key = _key(client)
        self._taken_by[key] -= 1
        if not self._taken_by[key]:
            del self._taken_by[key]  # so that there are never more addresses than places


def _key(client: str | None) -> bytes:
    """Return what is one address here: of IPv6 the network, since each host has a whole /64."""
    try:
        address = unmapped(ip_address(client or ""))
    except ValueError:
        return (client or "").encode("utf-8", "surrogatepass")
    return address.packed if address.version == 4 else address.packed[:8]  # noqa: PLR2004 - IP's versions
