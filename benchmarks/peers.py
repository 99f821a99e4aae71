"""Which servers there are, and how each is started."""

import json
import shutil
import subprocess
from collections.abc import Callable

from .events import make_templates
from .processes import CACHE, ROOT, Server, python_server

_BETTER_SSE = "better-sse@0.16"
_HOME = CACHE / "node"


def better_sse() -> Callable[[], Server] | None:
    """Return how to start better-sse, which it installs; None if that is not possible here."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    if not (_HOME / "node_modules" / "better-sse").exists():
        _HOME.mkdir(parents=True, exist_ok=True)
        install = subprocess.run(  # noqa: S603 - a fixed command
            [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(_HOME), _BETTER_SSE],
            check=False,
        )
        if install.returncode:
            return None
    events = CACHE / "events.json"
    events.write_text(json.dumps(make_templates()))
    program = ROOT / "benchmarks" / "servers" / "better_sse.mjs"
    return lambda: Server("better_sse", [node, str(program), str(_HOME), str(events)])


def ours() -> Server:
    """Start our own."""
    return python_server("ours")


def one_write() -> Server:
    """Start Quart-Trio with one write per event."""
    return python_server("one_write")


def starlette() -> Server:
    """Start sse-starlette, as its documents say."""
    return python_server("starlette_sse")


def lean_starlette() -> Server:
    """Start sse-starlette without its check before each event."""
    return python_server("starlette_sse", "lean")


def bare(batch_size: int) -> Server:
    """Start the loop of ``socket.send``."""
    return python_server("bare", str(batch_size))


def stack(batch_size: int) -> Server:
    """Start Quart-Trio on Hypercorn with nothing to do but to write."""
    return python_server("stack", str(batch_size))


def waiting(how: str) -> Server:
    """Start a server whose streams only wait, on ``hypercorn`` alone or with ``quart``."""
    return python_server("waiting", how)
