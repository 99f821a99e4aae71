"""Which clients have been silent for how long. No tasks, and no clock of its own."""

import math
from collections import OrderedDict
from typing import TypeVar

from ._mailbox import Mailbox

T = TypeVar("T")

_NOBODY: OrderedDict[Mailbox, float] = OrderedDict()


class Heartbeats:
    """Clients that wait, by the interval after which each is sent a comment.

    Costs more the more different intervals there are; how many clients makes no difference. A finalizer
    may close a client, and so take it out, in the middle of anything here.
    """

    def __init__(self) -> None:
        # Since when each is silent: those that have been for longest first.
        self._silent: dict[float, OrderedDict[Mailbox, float]] = {}

    def fell_silent(self, client: Mailbox, now: float) -> bool:
        """Note that a client waits from now on; say whether a heartbeat may be due earlier than before."""
        known = self._silent.get(client.heartbeat_interval)
        silent = OrderedDict[Mailbox, float]() if known is None else known
        silent[client] = now
        silent.move_to_end(client)
        self._silent[client.heartbeat_interval] = silent  # last: the others in it may just have left
        return known is None

    def forget(self, client: Mailbox) -> None:
        """Let go of a client."""
        silent = self._silent.get(client.heartbeat_interval)
        if silent is not None:
            silent.pop(client, None)
            if not silent:
                self._silent.pop(client.heartbeat_interval, None)

    def take_due(self, now: float, most: int) -> list[Mailbox]:
        """Return clients whose heartbeat is due, so many at most; for each, the silence begins anew."""
        due: list[Mailbox] = []
        for interval in list(self._silent):
            silent = self._silent.get(interval, _NOBODY)
            while len(due) < most and (first := first_of(silent)) is not None:
                client, since = first
                if since + interval > now:
                    break
                due.append(client)
                if client in silent:
                    silent[client] = now
                    silent.move_to_end(client)
        return due

    def due_in(self, now: float) -> float:
        """Return in how many seconds a heartbeat is due: less than 0 if it is late, infinity if there is none."""
        due_at = math.inf
        for interval in list(self._silent):
            first = first_of(self._silent.get(interval, _NOBODY))
            if first is not None:
                due_at = min(due_at, first[1] + interval)
        return due_at - now


def first_of(clients: OrderedDict[Mailbox, T]) -> tuple[Mailbox, T] | None:
    """Return the first client and what is said of it.

    In a loop, since nothing can come between its beginning and its first step: no garbage
    collection, whose finalizers may close a client.
    """
    for first in clients.items():
        return first
    return None
