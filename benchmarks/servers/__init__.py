"""The servers that are measured: ours, the peers, and what bounds them all.

Each is a program of its own. It prints the port it listens on as a line of JSON, and
answers, besides its event stream at ``/api/viz/events``:

- ``GET /ping``: a trivial request, as the host's own.
- ``GET /start?rate=R&seconds=S``: emit events, evenly, at once and in the background.
- ``GET /counts``: JSON; ``emitted`` since the start of the process, ``emitting`` or not, and
  what the server has counted beyond that.
"""

import json
from typing import Any

EVENTS = "/api/viz/events"
BACKLOG = 4096
"""Connections that may wait to be accepted: so many, for every server alike, that a crowd
which comes at once is met by the server and not turned away by the kernel."""


def announce(port: int) -> None:
    """Tell the benchmark where to connect."""
    print(json.dumps({"port": port}), flush=True)


class Emission:
    """What a server has emitted, over all its runs."""

    def __init__(self) -> None:
        self.emitted = 0
        self.running = 0

    def next_number(self) -> int:
        """Count one more event, and return its number from 0."""
        number = self.emitted
        self.emitted += 1
        return number

    def counts(self, **more: Any) -> dict[str, Any]:
        """Return what ``/counts`` answers."""
        return {"emitted": self.emitted, "emitting": self.running > 0, **more}
