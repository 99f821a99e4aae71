"""The stages of one request, and the time that each of them took."""

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal, get_args

from vizpipe_trio import StageInfo

Stage = Literal["policy", "cache", "semantic", "lookup", "vector", "merge"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class StageClock:
    """Times one request: start it when the request comes in, and read it when the answer is there."""

    def __init__(self) -> None:
        self._started = perf_counter()
        self._ms: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: Stage) -> Generator[None]:
        """Add the time spent in the block to the stage ``name``. A stage may be entered more than once."""
        entered = perf_counter()
        try:
            yield
        finally:
            self._ms[name] += (perf_counter() - entered) * 1000

    def stages(self, answered_by: Stage) -> tuple[StageInfo, ...]:
        """Return all stages in order; one that was never entered took no time."""
        return tuple(
            StageInfo(place, name, ms=self._ms[name], hit=name == answered_by)
            for place, name in enumerate(STAGES, start=1)
        )

    def total_ms(self) -> float:
        """Return the time since the request came in: all stages, and what lies between them."""
        return (perf_counter() - self._started) * 1000
