"""The command ``vizpipe``: watch a pipe from a terminal.

Needs the extra ``cli``: ``pip install 'vizpipe-trio[cli]'``; ``vizpipe demo`` needs ``quart`` as well.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, cast

import msgspec
import trio

try:
    import httpx2
    from rich.console import Console
    from rich.live import Live

    from . import _options
    from ._show import Board, event_line, missed_line, plain
except ImportError as _missing:
    sys.exit(f"vizpipe: {_missing}; pip install 'vizpipe-trio[cli]'")

from ._batch import Missed
from ._connections import error_text
from ._event import Event
from .client import EventReader, EventStreamError, open_events

REFRESH_SECONDS = 0.5

FILTERS = ("op", "status", "source", "actor_type", "label")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code: 0 also after Ctrl-C, the way to end it."""
    options = _parser().parse_args(arguments)
    cast("TextIOWrapper", sys.stdout).reconfigure(errors="replace")  # not every terminal has all characters
    code = 0
    try:
        trio.run(options.command, options)
    except* KeyboardInterrupt:
        pass
    except* BrokenPipeError:
        # Who read from us has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except* (EventStreamError, httpx2.RequestError, OSError) as group:
        # It may have a server's own words in it: whatever they are, they are one line.
        sys.stderr.write(f"vizpipe: {plain(' '.join(error_text(_first(group)).split()))}\n")
        code = 1
    return code


def _first(error: BaseException) -> BaseException:
    if isinstance(error, BaseExceptionGroup):
        return _first(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    return error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vizpipe", description="Watch a vizpipe-trio server from a terminal.")
    commands = parser.add_subparsers(required=True, metavar="{tail,top,demo}")
    tail = commands.add_parser("tail", help="print one line for each event")
    tail.set_defaults(command=_tail)
    tail.add_argument("--json", action="store_true", help="print what comes as JSON, a line each")
    top = commands.add_parser("top", help="show rates, latencies and stages of the last ten seconds")
    top.set_defaults(command=_top)
    top.add_argument(
        "--seconds", type=_options.seconds, default=float("inf"), help="end after so many seconds"
    )
    for command in (tail, top):
        command.add_argument(
            "url", type=_options.url, help="the server's address, its dashboard's, or its stream's"
        )
        command.add_argument(
            "--token", type=_options.token, default=os.environ.get("VIZ_TOKEN"), help="default: $VIZ_TOKEN"
        )
        command.add_argument("--no-reconnect", action="store_true", help="end with the connection")
        for name in FILTERS:
            command.add_argument(
                f"--{name.replace('_', '-')}", action="append", default=[], metavar="VALUE",
                help=f"only events with this {name.replace('_', ' ')}; may be repeated",
            )  # fmt: skip
    demo = commands.add_parser("demo", help="run a server with made-up traffic to look at")
    demo.set_defaults(command=_demo)
    demo.add_argument("--host", default="127.0.0.1")
    demo.add_argument("--port", type=_options.port, default=8000)
    demo.add_argument("--rate", type=_options.rate, default=20.0, help="requests a second")
    demo.add_argument(
        "--token", type=_options.token, help="what opens it (default: being a program on this machine)"
    )
    return parser


async def _watch(
    options: argparse.Namespace, notices: logging.Handler, show: Callable[[EventReader], Any]
) -> None:
    logger = logging.getLogger("vizpipe_trio.client")
    logger.addHandler(notices)
    logger.setLevel(logging.INFO)
    filters = {name: getattr(options, name) for name in FILTERS}
    async with open_events(
        options.url, token=options.token, filters=filters, reconnect=not options.no_reconnect
    ) as events:
        await show(events)


def _line(console: Console, given: Event | Missed) -> str:
    text = missed_line(given) if isinstance(given, Missed) else event_line(given)
    with console.capture() as captured:
        # A terminal gets a line for each, whatever its width; a file gets all of it.
        console.print(
            text,
            no_wrap=True,
            overflow="ellipsis" if console.is_terminal else "ignore",
            crop=console.is_terminal,
        )
    return captured.get()


async def _tail(options: argparse.Namespace) -> None:
    console = Console(highlight=False)
    notices = logging.StreamHandler()
    notices.setFormatter(logging.Formatter("vizpipe: %(message)s"))

    async def show(events: EventReader) -> None:
        async for given in events:
            if options.json:
                sys.stdout.buffer.write(msgspec.json.encode(given) + b"\n")  # JSON is UTF-8 everywhere
            else:
                sys.stdout.write(_line(console, given))
            sys.stdout.flush()

    await _watch(options, notices, show)


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # and not SystemExit, which says that something went wrong


class _LastNotice(logging.Handler):
    """Keeps what is to be shown on a screen that is drawn anew all the time."""

    text = "not connected"

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


async def _top(options: argparse.Namespace) -> None:
    console, board, notice = _Screen(), Board(), _LastNotice()
    # Without its query: a token has no place on a screen.
    title = str(httpx2.URL(options.url).copy_with(userinfo=b"", query=None, fragment=None))

    async def show(events: EventReader) -> None:
        def draw() -> None:
            trouble = None if events.connected else notice.text
            live.update(board.render(trio.current_time(), title, trouble), refresh=True)

        async def read() -> None:
            async for given in events:
                board.add(given, trio.current_time())
            nursery.cancel_scope.cancel()

        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = trio.current_time() + options.seconds
                nursery.start_soon(read)
                while True:
                    draw()
                    await trio.sleep(REFRESH_SECONDS)
            draw()

    await _watch(options, notice, show)


async def _demo(options: argparse.Namespace) -> None:
    try:
        from ._demo import demo  # noqa: PLC0415 - it needs another extra
    except ImportError:
        sys.exit("vizpipe: the demo needs a server: pip install 'vizpipe-trio[cli,quart]'")
    await demo(options.host, options.port, options.rate, options.token)
