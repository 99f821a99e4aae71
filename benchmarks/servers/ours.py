"""This library in a Quart-Trio app, as its README shows it. No knob of the pipe is turned."""

from typing import Any

import msgspec
from quart_trio import QuartTrio

from benchmarks.events import COUNT, make_templates, request_id
from vizpipe_trio import Event, Pipe, StageInfo
from vizpipe_trio.hypercorn import StreamGuard
from vizpipe_trio.quart import viz_blueprint

from . import Emission
from .on_trio import add_control, serve


def main() -> None:
    fields = [
        {**template, "stages": [StageInfo(**stage) for stage in template["stages"]]}
        for template in make_templates()
    ]
    app = QuartTrio(__name__)
    pipe = Pipe()
    # The limit on clients guards a host's memory. It is not what is measured here.
    app.register_blueprint(viz_blueprint(pipe, token=None, max_clients=10_000))
    app.asgi_app = StreamGuard(app.asgi_app, pipe)

    @app.before_serving
    async def start() -> None:
        await app.nursery.start(pipe.run)

    def emit(number: int) -> None:
        pipe.emit(Event(request_id=request_id(number), **fields[number % COUNT]))

    def counts() -> dict[str, Any]:
        return {"pipe": msgspec.to_builtins(pipe.statistics())}

    add_control(app, Emission(), emit, counts)
    serve(app)


if __name__ == "__main__":
    main()
