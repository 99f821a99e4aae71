"""Which clients have been silent for how long. No tasks, and no clock of its own."""

import math
from collections import OrderedDict
from itertools import islice

from ._mailbox import Mailbox


class Heartbeats:
    """Clients that wait, by the interval after which each is sent a comment.

    Costs more the more different intervals there are; how many clients makes no difference.
    """

    def __init__(self) -> None:
        # Since when each is silent: those that have been for longest first.
        self._silent: dict[float, OrderedDict[Mailbox, float]] = {}

    def fell_silent(self, client: Mailbox, now: float) -> bool:
        """Note that a client waits from now on; say whether a heartbeat may be due earlier than before."""
        is_new = client.heartbeat_interval not in self._silent
        silent = self._silent.setdefault(client.heartbeat_interval, OrderedDict())
        silent[client] = now
        silent.move_to_end(client)
        return is_new

    def forget(self, client: Mailbox) -> None:
        """Let go of a client."""
        silent = self._silent.get(client.heartbeat_interval)
        if silent is not None:
            silent.pop(client, None)
            if not silent:
                del self._silent[client.heartbeat_interval]

    def take_due(self, now: float, most: int) -> list[Mailbox]:
        """Return clients whose heartbeat is due, so many at most; for each, the silence begins anew."""
        due: list[Mailbox] = []
        for interval, silent in self._silent.items():
            for client, since in islice(silent.items(), most - len(due)):
                if since + interval > now:
                    break
                due.append(client)
        for client in due:
            self.fell_silent(client, now)
        return due

    def due_in(self, now: float) -> float:
        """Return in how many seconds a heartbeat is due: less than 0 if it is late, infinity if there is none."""
        due_at = (
            since + interval
            for interval, silent in self._silent.items()
            for since in islice(silent.values(), 1)
        )
        return min(due_at, default=math.inf) - now
