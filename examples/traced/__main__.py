"""Thumbnails: work that is traced by OpenTelemetry, shown by one line where the tracing is set up.

Start ``python -m examples.traced``: it makes ten thumbnails, sweeps once, prints what the pipe brings, and ends.
"""

import sys

import trio
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from vizpipe_trio import Pipe
from vizpipe_trio.opentelemetry import PipeSpanProcessor

SOURCE = "thumbnails"

pipe = Pipe()


def set_up_tracing() -> Tracer:
    """Return the tracer; beside the pipe it would export to a collector."""
    provider = TracerProvider(resource=Resource.create({"service.name": SOURCE}))
    provider.add_span_processor(PipeSpanProcessor(pipe))
    return provider.get_tracer(__name__)


async def make_thumbnail(tracer: Tracer, name: str) -> None:
    """Make one. Its spans were there before the picture was; the attributes only make it a better one."""
    with tracer.start_as_current_span("make thumbnail") as request:
        request.set_attribute("vizpipe.subject", name)
        with tracer.start_as_current_span("read"):
            await trio.sleep(0.001)
        with tracer.start_as_current_span("scale"):
            await trio.sleep(0.005)
        with tracer.start_as_current_span("store") as store:
            await trio.sleep(0.002)
            store.set_attribute("vizpipe.hit", True)


@pipe.record("WRITE", source=SOURCE, subject="sweep")
async def sweep() -> None:
    """Delete what is old. Nobody traces it: the decorator is enough."""
    await trio.sleep(0.003)


async def main(count: int) -> None:
    """Work, then print what the pipe brings."""
    tracer = set_up_tracing()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        with pipe.subscribe() as events:
            for number in range(1, count + 1):
                await make_thumbnail(tracer, f"{number}.png")
            await sweep()
            pipe.stop()
            async for event in events:
                stages = " ".join(stage.name + "*" * stage.hit for stage in event.stages or ())
                print(f"{event.source} {event.op} {event.subject}: {event.total_ms:.1f} ms {stages}".rstrip())


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 10)
