"""A live picture of a Trio server's request pipeline.

    import trio
    from vizpipe_trio import Event, open_pipe

    async def main():
        async with open_pipe() as pipe:
            with pipe.subscribe() as subscription:
                pipe.emit(Event(request_id="r1", total_ms=2.5))
                async for event in subscription:
                    print(event.request_id, event.total_ms)
                    break

    trio.run(main)

`Pipe.emit` never blocks the code that calls it. The pipe may lose events; every loss
is counted, has a reason, and is told to the viewer that missed something.
"""

from ._batch import EventFilter, Missed
from ._entrance import DropMetric
from ._event import Event, StageInfo
from ._pipe import Pipe, open_pipe
from ._record import Recording, Stage, current_recording
from ._sse import marshal_sse
from ._statistics import PipeStatistics
from ._subscription import Subscription
from ._version import __version__

__all__ = [
    "DropMetric",
    "Event",
    "EventFilter",
    "Missed",
    "Pipe",
    "PipeStatistics",
    "Recording",
    "Stage",
    "StageInfo",
    "Subscription",
    "__version__",
    "current_recording",
    "marshal_sse",
    "open_pipe",
]
