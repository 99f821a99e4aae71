"""How an app that is instrumented is tested: with the fixtures of vizpipe-trio, found by pytest itself."""

from collections.abc import AsyncGenerator

import pytest

from vizpipe_trio import Event, Pipe, Subscription
from vizpipe_trio.testing import RecordingMetric, wait_for_events

from .corpus import Document
from .pipeline import Pipeline

DOCUMENTS = [
    Document("The for statement", "It is a loop over the items of an iterable.", ("statements",)),
    Document("The while statement", "It is a loop that ends when its test is false.", ("statements",)),
    Document("The break statement", "It leaves the loop that is nearest.", ("statements",)),
]


@pytest.fixture
async def pipeline(viz_pipe: Pipe) -> AsyncGenerator[Pipeline]:
    """Give the pipeline, with a pipe that runs."""
    pipeline = Pipeline(viz_pipe)
    await pipeline.load(DOCUMENTS)
    yield pipeline
    pipeline.close()


def answered_by(event: Event) -> list[str]:
    """Return the stages that answered."""
    return [stage.name for stage in event.stages or () if stage.hit]


async def test_a_search_is_shown_with_the_stage_that_answered(
    pipeline: Pipeline, viz_events: Subscription
) -> None:
    """It is the index the first time, and then the cache."""
    for _ in range(2):
        await pipeline.search("loop", "user")
    first, second = await wait_for_events(viz_events, 2)
    assert [answered_by(first), answered_by(second)] == [["lookup"], ["cache"]]


async def test_a_refusal_is_shown_among_what_is_allowed(pipeline: Pipeline, viz_events: Subscription) -> None:
    """Events that do not count are passed over."""
    await pipeline.search("loop", "user")
    await pipeline.search("loop exec", "user")
    [event] = await wait_for_events(viz_events, where=lambda event: event.status == "DENIED")
    assert event.subject == "loop exec"


async def test_a_search_is_answered_also_when_the_pipe_is_full(viz_metric: RecordingMetric) -> None:
    """The picture is a side channel: it may lose events, and counts them."""
    pipeline = Pipeline(Pipe(capacity=1, metric=viz_metric))
    await pipeline.load(DOCUMENTS)
    for _ in range(3):
        assert (await pipeline.search("loop", "user")).answer.results
    pipeline.close()
    assert viz_metric.count == 2
