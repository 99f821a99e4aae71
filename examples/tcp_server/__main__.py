"""A key-value store over plain TCP that prints what its requests went through; no web framework.

Start ``python -m examples.tcp_server``, and ``nc 127.0.0.1 8001`` in another terminal. Each line is a
request: ``SET key value``, ``GET key`` or ``DEL key``. Ctrl-C ends it.
"""

import signal
import sys
from functools import partial

import trio

from vizpipe_trio import Event, Subscription, open_pipe

from .store import Store

LONGEST_LINE = 4096


async def main(port: int) -> None:
    """Serve until Ctrl-C, and print what the pipe brings."""
    async with open_pipe() as pipe:
        with pipe.subscribe() as subscription, Store(pipe) as store:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(show, subscription)
                await serve(store, port)
                pipe.stop()  # what is under way is still printed, then the subscription ends


async def show(subscription: Subscription) -> None:
    """Print events, until the pipe ends."""
    async for event in subscription:
        print(described(event), flush=True)


def described(event: Event) -> str:
    """Return an event in a line: ``QUERY colour: 0.31 ms (cache 0.01, store 0.28*)``."""
    stages = ", ".join(f"{stage.name} {stage.ms:.2f}{'*' * stage.hit}" for stage in event.stages or ())
    return f"{event.op} {event.subject}: {event.total_ms:.2f} ms" + (f" ({stages})" if stages else "")


async def serve(store: Store, port: int) -> None:
    """Answer clients until Ctrl-C."""
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server = partial(trio.serve_tcp, partial(converse, store), port, host="127.0.0.1")
            [listener] = await nursery.start(server)
            print(f"Listening on port {listener.socket.getsockname()[1]}", flush=True)
            await anext(signals)
            nursery.cancel_scope.cancel()


async def converse(store: Store, stream: trio.abc.Stream) -> None:
    """Answer one client, line by line."""
    received = b""
    try:
        async for chunk in stream:
            *lines, received = (received + chunk).split(b"\n")
            for line in lines:
                answer = await store.answer(line.decode(errors="replace"))
                await stream.send_all(answer.encode() + b"\n")
            if len(received) > LONGEST_LINE:
                await stream.send_all(b"ERROR: that line is too long\n")
                return
    except trio.BrokenResourceError:
        pass  # this client is gone; the others stay


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 8001)
