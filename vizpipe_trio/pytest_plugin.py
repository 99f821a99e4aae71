"""Fixtures for pytest and pytest-trio. pytest finds them by itself once the package is installed.

- ``viz_pipe``: a pipe that runs in a nursery of pytest-trio's for the length of the test.
- ``viz_events``: a subscription to it that was there before the test began.
- ``viz_metric``: counts what it drops.

Needs the extra ``testing``: ``pip install 'vizpipe-trio[testing]'``. With ``trio_mode = true``, or a
test that is marked ``trio``.
"""

from collections.abc import AsyncGenerator, Generator

import trio

try:
    import pytest
except ImportError as _missing:
    raise ImportError(
        "vizpipe_trio.pytest_plugin needs pytest: pip install 'vizpipe-trio[testing]'"
    ) from _missing

from ._pipe import Pipe
from ._subscription import Subscription
from .testing import RecordingMetric

__all__ = ["viz_events", "viz_metric", "viz_pipe"]

PYTEST_TRIO = ("trio", "pytest_trio.plugin")
"""What pytest calls pytest-trio: if it found it by itself, and if it was named to it by ``-p``."""


@pytest.fixture
def viz_metric() -> RecordingMetric:
    """Counts the events that ``viz_pipe`` drops at its entrance."""
    return RecordingMetric()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say what is missing, before pytest and pytest-trio say it of things that the test does not name.

    And a Trio fixture in a test that is not Trio's has pytest 9 fail in itself in the tests behind.
    """
    if "viz_pipe" in getattr(item, "fixturenames", ()):
        if not any(map(item.config.pluginmanager.hasplugin, PYTEST_TRIO)):
            pytest.fail("viz_pipe needs pytest-trio: pip install 'vizpipe-trio[testing]'", pytrace=False)
        if item.get_closest_marker("trio") is None:
            pytest.fail("viz_pipe is for async tests, with trio_mode = true or marked trio", pytrace=False)


@pytest.fixture
async def viz_pipe(nursery: trio.Nursery, viz_metric: RecordingMetric) -> AsyncGenerator[Pipe]:
    """Give a running pipe, and let the test fail if it emitted an event that no viewer would see."""
    pipe = Pipe(metric=viz_metric)
    await nursery.start(pipe.run)
    yield pipe
    with pipe.subscribe() as rest:
        pipe.stop()
        async for _ in rest:  # until it has looked at all that was emitted
            pass
    invalid = pipe.statistics().invalid
    if invalid:
        pytest.fail(f"{invalid} of the events emitted cannot go on the wire: the log says why")


@pytest.fixture
def viz_events(viz_pipe: Pipe) -> Generator[Subscription]:
    """Give a subscription to ``viz_pipe``: it has all events that the test emits."""
    with viz_pipe.subscribe() as subscription:
        yield subscription
