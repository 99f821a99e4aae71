"""A server that shows the picture of a pipeline that only sleeps: `vizpipe demo`."""

import shlex
from functools import partial
from random import Random
from urllib.parse import quote

import trio
from hypercorn.config import Config
from quart_trio import QuartTrio

from ._pipe import Pipe
from ._record import Recording
from .hypercorn import serve
from .quart import viz_blueprint

STAGES = {"policy": 0.2, "cache": 0.5, "semantic": 1.5, "lookup": 8.0, "vector": 20.0, "merge": 1.0}
"""The stages, and how long they take on average, in milliseconds."""

WRITES = 0.1
"""The share of requests that write."""

_SUBJECTS = ("how do loops end", "what is a nursery", "cancel scopes", "eval", "typing of decorators")
_LABELS = ("eu", "us", "beta", "internal")


async def demo(host: str, port: int, rate: float, token: str | None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        host: Where to listen.
        port: The port, or 0 for any that is free.
        rate: Requests a second.
        token: What opens it. Without one, only clients on this machine are let in.
    """
    app, pipe, config = QuartTrio("vizpipe_demo"), Pipe(), Config()
    config.bind = [f"{host}:{port}"]
    config.errorlog = None
    app.register_blueprint(viz_blueprint(pipe, token=token))

    @app.before_serving
    async def start() -> None:
        await app.nursery.start(pipe.run)
        app.nursery.start_soon(_traffic, pipe, rate)

    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(partial(serve, app, config, pipe))
        # Where a server that listens everywhere can be reached from here.
        address = address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        query = f"?token={quote(token)}" if token else ""
        option = f"--token {shlex.quote(token)} " if token else ""
        print(f"Open {address}/viz/{query}, or run: vizpipe tail {option}{address}", flush=True)  # noqa: T201


async def _traffic(pipe: Pipe, rate: float) -> None:
    random = Random()  # noqa: S311 - no cryptography
    number = 0
    async with trio.open_nursery() as nursery:
        while True:
            await trio.sleep(random.expovariate(rate))
            number += 1
            nursery.start_soon(_request, pipe, random, number)


async def _request(pipe: Pipe, random: Random, number: int) -> None:
    if random.random() < WRITES:
        with pipe.record("WRITE", request_id=f"demo-{number}", source="notes", subject="a note"):
            await trio.sleep(random.expovariate(1 / 0.004))
        return
    with pipe.record(
        "QUERY",
        request_id=f"demo-{number}",
        source="search",
        subject=random.choice(_SUBJECTS),
        actor_type=random.choice(("user", "user", "agent", "system")),
        labels=random.sample(_LABELS, 1),
        stages=list(STAGES),
    ) as request:
        await _answer(request, random)


async def _answer(request: Recording, random: Random) -> None:
    answered_by = random.choices(list(STAGES), (1, 30, 15, 30, 14, 10))[0]
    for name, average_ms in STAGES.items():
        with request.stage(name) as stage:
            await trio.sleep(random.expovariate(1000 / average_ms))
            stage.hit = name == answered_by
        if stage.hit:
            break
    request.status = (
        "DENIED" if answered_by == "policy" else random.choice(("ALLOWED", "ALLOWED", "FILTERED"))
    )
    request.result_count = 0 if answered_by == "policy" else random.randint(1, 10)
