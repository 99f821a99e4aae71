"""With two workers, the first one that has shut down has the other one killed in the middle of it.

Exits with 0 once it is mended.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import trio
from hypercorn.config import Config
from hypercorn.run import run

folder = Path(os.environ.setdefault("WORKERS_FOLDER", tempfile.mkdtemp()))


async def app(scope, receive, send):
    """Note each worker's beginning and end. The second one needs some seconds for its shutdown."""
    await receive()
    number = 0
    while True:
        try:
            (folder / f"began-{number}").touch(exist_ok=False)
            break
        except FileExistsError:
            number += 1
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await trio.sleep(3 * number)
    (folder / f"ended-{number}").touch()
    await send({"type": "lifespan.shutdown.complete"})


def main():
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.worker_class = "trio"
    config.workers = 2
    config.errorlog = None
    config.application_path = f"{Path(__file__).resolve()}:app"
    if not os.fork():
        while len(list(folder.glob("began-*"))) < 2:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(0)
    run(config)
    ended = len(list(folder.glob("ended-*")))
    print(f"workers that were let finish their shutdown: {ended} of 2")
    return ended == 2


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
