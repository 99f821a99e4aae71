"""How long everything is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Times in seconds.

    Attributes:
        repetitions: How often everything is measured.
        warm: What is waited until a rate has settled.
        window: How long one rate is measured.
        host_window: How long the host's own requests are measured, a hundred a second.
        bursts: Bursts of calls that are timed, and single calls.
        lone_events: Events that are sent alone.
        idle_viewers: Viewers whose memory is measured.
        climb: Whether the offered rates that saturate a server begin low and end in fine steps,
            and what no target asks for is measured too.
        most_viewers: Over how many viewers a given number of deliveries is spread at most.
    """

    repetitions: int
    warm: float
    window: float
    host_window: float
    bursts: int
    lone_events: int
    idle_viewers: int
    climb: bool
    most_viewers: int


FULL = Plan(
    repetitions=3,
    warm=0.6,
    window=2.0,
    host_window=5.0,
    bursts=50,
    lone_events=100,
    idle_viewers=1000,
    climb=True,
    most_viewers=5000,
)
QUICK = Plan(
    repetitions=1,
    warm=0.25,
    window=0.6,
    host_window=2.0,
    bursts=15,
    lone_events=20,
    idle_viewers=300,
    climb=False,
    most_viewers=1000,
)
