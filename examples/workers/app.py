"""What each worker serves: the document search, its pipe joined to those of the others.

``hypercorn --worker-class trio --workers 4 examples.workers.app:app``, with the server's address in
``VIZ_REDIS`` and what opens the stream in ``VIZ_TOKEN``.
"""

import os

from examples.docsearch.app import create_app
from vizpipe_trio import Pipe
from vizpipe_trio.hypercorn import StreamGuard
from vizpipe_trio.redis import RedisRelay

pipe = Pipe()
relay = RedisRelay(pipe, os.environ["VIZ_REDIS"])
app = create_app(pipe, token=os.environ["VIZ_TOKEN"])
app.asgi_app = StreamGuard(app.asgi_app, pipe)  # type: ignore[method-assign]


@app.before_serving
async def start() -> None:
    """Join the others; the app itself runs the pipe, and the relay ends with it."""
    await app.nursery.start(relay.run)
