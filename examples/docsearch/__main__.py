"""Run the app: ``python -m examples.docsearch --traffic 20``, until Ctrl-C."""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial

import trio
from hypercorn.config import Config

from vizpipe_trio import Pipe
from vizpipe_trio.hypercorn import serve

from .app import create_app
from .options import from_command_line

GRACE = 1.0  # seconds for requests under way at the end
# Where an app that listens everywhere can be reached from here.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing binds to these


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Bound here and not by Hypercorn, for an error that can be told plainly."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # So that the app can be started again at once; not on Windows, where it means something else.
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        sys.exit(f"Can't listen on {host} port {port}: {error.strerror}")
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL under which the app can be reached from this machine."""
    host: str
    host, port = listener.getsockname()[:2]
    host = WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def stop_traffic(signals: AsyncIterator[int], traffic: trio.CancelScope) -> None:
    """Wait for Ctrl-C; then the server ends the rest."""
    await anext(signals)
    traffic.cancel()


async def send_traffic(address: str, rate: float) -> None:
    """Run the traffic in a process of its own, until cancelled."""
    command = [sys.executable, "-m", "examples.docsearch.traffic", address, str(rate)]
    # In a session of its own, Ctrl-C in the terminal does not reach it: it ends when the app says so.
    done = await trio.run_process(command, check=False, start_new_session=True)
    print(f"The traffic has ended by itself, with exit code {done.returncode}.", file=sys.stderr)


async def run(listener: socket.socket, token: str, rate: float | None) -> None:
    """Serve until SIGINT or SIGTERM."""
    pipe, traffic = Pipe(), trio.CancelScope()
    config = Config()
    config.graceful_timeout = GRACE
    config.loglevel = "WARNING"  # it would announce an address without the token
    address = address_of(listener)
    config.bind = [f"fd://{listener.detach()}"]
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        app = create_app(pipe, token=token)
        async with trio.open_nursery() as nursery:
            trigger = partial(stop_traffic, signals, traffic)
            await nursery.start(partial(serve, app, config, pipe, shutdown_trigger=trigger))
            print(f"Search:     {address}/?token={token}")
            print(f"Dashboard:  {address}/viz/?token={token}")
            print(f"Stream:     curl -N '{address}/api/viz/events?token={token}'")
            print("Ctrl-C stops it.", flush=True)
            with traffic:
                if rate is not None:
                    await send_traffic(address, rate)


def main() -> None:
    """Run the app."""
    options = from_command_line()
    trio.run(run, listen(options.host, options.port), options.token, options.traffic)


if __name__ == "__main__":
    main()
