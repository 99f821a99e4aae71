"""An app that does what the README says, for tests that serve it in a process of its own.

``hypercorn --worker-class trio guarded_app:app``, or as a program: ``python guarded_app.py 2.0``, which
serves with that grace. It emits a hundred events a second until the pipe stops, and prints what became of
it when its lifespan ends.
"""

import json
import logging
import os

import trio
from hypercorn.config import Config
from quart_trio import QuartTrio

from vizpipe_trio import Event, Pipe
from vizpipe_trio.hypercorn import StreamGuard, serve
from vizpipe_trio.quart import viz_blueprint

GRACE = float(os.environ.get("GRACE", "3"))

logging.basicConfig(level=logging.INFO)
pipe = Pipe()
app = QuartTrio("guarded")
app.register_blueprint(viz_blueprint(pipe, token=None))
app.asgi_app = StreamGuard(app.asgi_app, pipe, graceful_timeout=GRACE)  # type: ignore[method-assign]


async def emit() -> None:
    number = 0
    while pipe.emit(Event(request_id=f"r{number}", subject="x" * 400)):
        number += 1
        await trio.sleep(0.01)


@app.before_serving
async def start() -> None:
    await app.nursery.start(pipe.run)
    app.nursery.start_soon(emit)


@app.after_serving
async def end() -> None:  # noqa: ASYNC124 - the framework's interface
    statistics = pipe.statistics()
    said = json.dumps({"broadcast": statistics.broadcast, "clients": statistics.clients})
    os.write(1, f"ended {said}\n".encode())  # in one piece: another worker may say so in this moment


async def main() -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = GRACE
    config.errorlog = "-"
    await serve(app, config, pipe)


if __name__ == "__main__":
    trio.run(main)
