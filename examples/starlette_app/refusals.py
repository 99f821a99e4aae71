"""A program of its own that watches the app, and says who was refused.

Start ``python -m examples.starlette_app.refusals http://127.0.0.1:8002 sesame`` beside the app. It comes back by
itself when the app is started again; Ctrl-C ends it.
"""

import sys

import trio

from vizpipe_trio import Missed
from vizpipe_trio.client import open_events


async def main(url: str, token: str) -> None:
    """Print a line for each refusal, and one where any may be missing."""
    async with open_events(url, token=token) as events:
        async for event in events:
            if isinstance(event, Missed):
                print(f"{event.count or 'an unknown number of'} events are missing here", flush=True)
            elif event.status == "DENIED":
                print(f"refused: {event.subject}", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1], sys.argv[2])
    except* KeyboardInterrupt:
        pass
