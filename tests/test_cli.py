"""The command: as it is run by hand, and what it draws."""

import fcntl
import io
import json
import os
import pty
import re
import ssl
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from signal import SIGINT

import pytest
import trio
import trustme
from rich.console import Console, RenderableType
from support import VIZPIPE, WITH_CTRL_C, Program, make_app, run_program, serve, until

from vizpipe_trio import Missed, Pipe, StageInfo
from vizpipe_trio._cli import _line, _parser
from vizpipe_trio._show import Board, event_line, missed_line, stage_bar
from vizpipe_trio.testing import make_event


@asynccontextmanager
async def vizpipe(*arguments: str, **variables: str) -> AsyncGenerator[Program]:
    """Run the command, for at most 90 seconds."""
    environment = {**os.environ, "TZ": "UTC", "VIZ_TOKEN": "sesame", "COLUMNS": "120", **variables}
    command = [sys.executable, "-c", WITH_CTRL_C, VIZPIPE, *arguments]
    async with run_program(*command, seconds=90, stderr=subprocess.PIPE, env=environment) as program:
        yield program


class Screen:
    """A terminal of 60 columns, and all that was shown on it."""

    def __init__(self) -> None:
        ours, self._its = pty.openpty()
        fcntl.ioctl(self._its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        self._file = trio.lowlevel.FdStream(ours)
        self._written = b""
        self.process: trio.Process | None = None

    async def run(self, *arguments: str) -> trio.Process:
        """Start the command on it."""
        environment = {**os.environ, "TERM": "xterm", "VIZ_TOKEN": "sesame"}
        command = [sys.executable, "-c", WITH_CTRL_C, VIZPIPE, *arguments]
        its = self._its
        self.process = await trio.lowlevel.open_process(
            command, stdin=its, stdout=its, stderr=its, env=environment
        )
        return self.process

    @property
    def shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._written.decode(errors="replace"))

    async def shows(self, text: str) -> None:
        """Wait until it shows this, from here on."""
        seen = len(self.shown)
        while text not in self.shown[seen:]:
            self._written += await self._file.receive_some(65_536)

    async def aclose(self) -> None:
        if self.process is not None:
            self.process.kill()
        os.close(self._its)
        await self._file.aclose()


async def test_tail_prints_a_line_for_each_event_and_gap_and_ends_on_ctrl_c() -> None:
    pipe = Pipe(capacity=1)
    async with serve(make_app(pipe, token="sesame")) as url, vizpipe("tail", url) as run:
        await until(lambda: pipe.statistics().clients == 1)
        pipe.emit(make_event(1, subject="how do\nloops end\x1b[2J"))
        pipe.emit(make_event(2))
        line = await run.line()
        assert line == (
            "00:00:00 ALLOWED  QUERY user        2.50 ms ▒▒▒▒▒███████████████████ lookup     "
            "how do\ufffdloops end\ufffd[2J eu"
        )
        assert await run.line() == "-------- 1 events missed here: overload"
        run.process.send_signal(SIGINT)
        assert await run.end() == (0, "", "")


async def test_tail_in_json_gives_what_was_asked_for_and_ends_when_its_reader_does() -> None:
    pipe = Pipe()
    async with (
        serve(make_app(pipe, token="sesame")) as url,
        vizpipe("tail", "--json", "--op", "WRITE", "--actor-type", "agent", url) as run,
    ):
        await until(lambda: pipe.statistics().clients == 1)
        pipe.emit(make_event(1))
        pipe.emit(make_event(2, op="WRITE", actor_type="agent"))
        assert json.loads(await run.line())["request_id"] == "req-2"
        assert run.process.stdout is not None
        await run.process.stdout.aclose()
        with trio.fail_after(60):
            while run.process.poll() is None:
                pipe.emit(make_event(3, op="WRITE", actor_type="agent"))
                await trio.sleep(0.01)
        assert run.process.stderr is not None
        assert await run.process.stderr.receive_some() == b""
        assert run.process.returncode == 0


async def test_tail_says_why_it_is_refused() -> None:
    async with serve(make_app(Pipe(), token="other")) as url, vizpipe("tail", url) as run:
        code, printed, complaint = await run.end()
        assert (code, printed) == (1, "")
        assert complaint.startswith("vizpipe: no event stream: 401 {")


async def test_tail_says_that_it_comes_back_or_ends_with_the_connection_if_told_to() -> None:
    pipe = Pipe()
    async with (
        serve(make_app(pipe, token="sesame")) as url,
        vizpipe("tail", url) as staying,
        vizpipe("tail", "--no-reconnect", url) as leaving,
    ):
        await until(lambda: pipe.statistics().clients == 2)
        pipe.emit(make_event(1))
        pipe.stop()
        for run in (staying, leaving):
            assert "lookup" in await run.line()
        assert await leaving.end() == (0, "", "")
        complaint = await staying.complaint()
        assert re.fullmatch(r"vizpipe: not connected, the next attempt is at \d\d:\d\d:\d\d\n", complaint)


async def test_tail_says_why_there_is_no_connection() -> None:
    async with vizpipe("tail", "127.0.0.1:1") as run:
        complaint = await run.complaint()
        assert re.fullmatch(
            r"vizpipe: not connected, the next attempt is at [\d:]{8}: all attempts .* failed\n", complaint
        )


async def test_tail_says_what_is_wrong_with_a_certificate() -> None:
    async def handle(client: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError):
            await client.do_handshake()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType] - it also takes pyOpenSSL's
    async with trio.open_nursery() as nursery:
        start = partial(trio.serve_ssl_over_tcp, handle, 0, context, host="127.0.0.1")
        [listener] = await nursery.start(start)
        port = listener.transport_listener.socket.getsockname()[1]
        async with vizpipe("tail", "--no-reconnect", f"https://127.0.0.1:{port}") as run:
            code, printed, complaint = await run.end()
        nursery.cancel_scope.cancel()
    assert (code, printed) == (1, "")
    assert re.fullmatch(r"vizpipe: .*certificate verify failed.*\n", complaint)


async def test_tail_writes_what_the_terminals_encoding_has_and_json_in_utf_8() -> None:
    pipe = Pipe()
    async with (
        serve(make_app(pipe, token="sesame")) as url,
        vizpipe("tail", url, PYTHONIOENCODING="cp1252", PYTHONUTF8="0") as lines,
        vizpipe("tail", "--json", url, PYTHONIOENCODING="cp1252", PYTHONUTF8="0") as objects,
    ):
        await until(lambda: pipe.statistics().clients == 2)
        pipe.emit(make_event(1, subject="loops \u221e"))
        assert await lines.line() == (
            "00:00:00 ALLOWED  QUERY user        2.50 ms " + "?" * 24 + " lookup     loops ? eu"
        )
        assert json.loads(await objects.line())["subject"] == "loops \u221e"


async def test_top_shows_rates_latencies_and_stages() -> None:
    pipe = Pipe()
    async with (
        serve(make_app(pipe, token="sesame")) as url,
        vizpipe("top", "--no-reconnect", url) as run,
    ):
        await until(lambda: pipe.statistics().clients == 1)
        for number in range(20):
            pipe.emit(make_event(number))
        pipe.stop()
        code, printed, complaints = await run.end()
        assert (code, complaints) == (0, "")
        assert "20 in all" in printed
        assert re.search(r"QUERY search +20 +2\.50 +2\.50 +2\.50", printed)
        assert re.search(r"lookup +100% +100% +2\.00 +2\.00 +2\.00 +80%", printed)


async def test_top_ends_when_its_reader_does() -> None:
    async with (
        serve(make_app(Pipe(), token="sesame")) as url,
        vizpipe("top", "--seconds", "0.1", url) as run,
    ):
        assert run.process.stdout is not None
        await run.process.stdout.aclose()
        assert run.process.stderr is not None
        assert await run.process.stderr.receive_some() == b""
        assert await run.process.wait() == 0


async def test_top_shows_on_its_screen_that_the_server_has_gone_and_no_token() -> None:
    pipe = Pipe()
    async with aclosing(Screen()) as screen:
        async with serve(make_app(pipe, token="sesame")) as url:
            top = await screen.run("top", url + "/viz/?token=sesame")
            await until(lambda: pipe.statistics().clients == 1)
            pipe.emit(make_event())
            await screen.shows(f"events/s  1 in all  {url}/viz/")
        with trio.fail_after(90):
            await screen.shows("not connected, the next attempt is at")
            assert "sesame" not in screen.shown
            top.send_signal(SIGINT)
            assert await top.wait() == 0


async def test_the_demo_is_a_server_to_look_at() -> None:
    async with vizpipe("demo", "--port", "0", "--rate", "200") as demo:
        address = re.fullmatch(
            r"Open (http://127\.0\.0\.1:\d+)/viz/, or run: vizpipe tail \1", await demo.line()
        )
        assert address is not None
        async with vizpipe("tail", "--op", "QUERY", address[1]) as tail:
            assert re.search(
                r"QUERY \w+ +[\d.]+ ms [▒█]{24} (policy|cache|semantic|lookup|vector|merge)",
                await tail.line(),
            )
        demo.process.send_signal(SIGINT)
        assert await demo.end() == (0, "", "")


async def test_the_demo_says_where_it_is_when_it_listens_everywhere_and_how_others_get_in() -> None:
    async with vizpipe("demo", "--host", "0.0.0.0", "--port", "0", "--token", "a'b") as demo:  # noqa: S104
        address = re.fullmatch(
            r"Open (http://127\.0\.0\.1:\d+)/viz/\?token=a%27b, or run: "
            r"""vizpipe tail --token 'a'"'"'b' \1""",
            await demo.line(),
        )
        assert address is not None
        async with vizpipe("tail", address[1], VIZ_TOKEN="a'b") as tail:
            assert "ms" in await tail.line()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("demo --rate 0", "argument --rate: 0 is not more than 0 and at most 1000"),
        ("demo --rate nan", "argument --rate: nan is not more than 0 and at most 1000"),
        ("demo --rate fast", "argument --rate: invalid rate value: 'fast'"),
        ("demo --port 99999", "argument --port: 99999 is not from 0 to 65535"),
        ("demo --token s\u00e9same", "argument --token: it must be printable ASCII without spaces"),
        ("top --seconds nan here", "argument --seconds: nan is not more than 0"),
        ("tail --token s\u00e9same here", "argument --token: it must be printable ASCII without spaces"),
        ("tail ftp://here", "argument url: url must begin with http:// or https:// and a host"),
        ("tail http://here:port", "argument url: Invalid port: 'port'"),
    ],
)
def test_options_that_make_no_sense_are_told_so(
    arguments: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        _parser().parse_args(arguments.split())
    assert complaint in capsys.readouterr().err


def test_an_empty_token_is_none_and_an_address_without_a_scheme_is_one_of_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VIZ_TOKEN", "")
    options = _parser().parse_args(["tail", "localhost:8000"])
    assert (options.token, options.url) == (None, "http://localhost:8000")


async def test_help_names_the_commands_and_filters() -> None:
    async with vizpipe("tail", "--help") as run:
        code, printed, _ = await run.end()
        assert code == 0
        for option in ("--json", "--op", "--status", "--source", "--actor-type", "--label", "--no-reconnect"):
            assert option in printed


# What is drawn.


def drawn(renderable: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("times", "bar"),
    [
        ([], "........"),
        ([0.0, 0.0], "........"),
        ([1.0, 1.0], "▒▒▒▒████"),
        ([0.0, 5.0], "████████"),
        ([7.0, 0.001], "▒▒▒▒▒▒▒▒"),
        ([1.0, 1.0, 1.0], "▒▒▒▒▒███"),
        ([1e308, 1e308], "▒▒▒▒████"),
        ([5e-324, 5e-324], "▒▒▒▒████"),
        ([9.0, -8.0, 9.0], "▒▒▒▒████"),
        ([-1.0, -1.0], "........"),
    ],
)
def test_a_stage_bar_is_shared_as_the_time_was(times: list[float], bar: str) -> None:
    last = len(times)
    stages = [StageInfo(place, "a", ms, hit=place == last) for place, ms in enumerate(times, 1)]
    assert stage_bar(stages, 8).plain == bar.replace(".", "·")


@pytest.mark.parametrize(
    ("zone", "moment", "shown"),
    [
        ("UTC+5", datetime(2026, 1, 1, 12, tzinfo=UTC), "07:00:00 "),
        ("UTC+5", datetime(1, 1, 1, tzinfo=UTC), "00:00:00 "),
        ("UTC-5", datetime(9999, 12, 31, 23, tzinfo=UTC), "23:00:00 "),
    ],
)
def test_a_time_that_is_out_of_range_here_is_shown_as_it_came(
    zone: str, moment: datetime, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            assert event_line(make_event(timestamp=moment)).plain.startswith(shown)
    finally:
        time.tzset()  # also for the tests that come after one that has failed


@pytest.mark.parametrize(
    ("total", "shown"), [(999_999.99, " 999999.99 ms "), (1e308, " 1.00e+308 ms "), (-2.5, "     -2.50 ms ")]
)
def test_a_time_takes_the_same_place_however_long_it_was(total: float, shown: str) -> None:
    assert event_line(make_event(total_ms=total)).plain[30:44] == shown


def test_a_board_shows_odd_numbers_and_does_not_fail() -> None:
    board = Board()
    for ms in (1e308, -1e308, 1e308):
        board.add(make_event(total_ms=ms, stages=[StageInfo(1, "a", ms), StageInfo(2, "b", ms)]), 0)
    assert "1.00e+308" in drawn(board.render(1, "here"))


def test_no_part_of_an_event_reaches_the_terminal_as_a_command() -> None:
    evil = "\x1b]0;pwned\x07\r\n\x9b2J\u202e"
    event = make_event(subject=evil, labels=[evil], stages=[StageInfo(1, evil, 1.0, hit=True)])
    board = Board()
    board.add(make_event(source=evil, stages=[StageInfo(1, evil, 1.0)]), 0)
    shown = event_line(event).plain + drawn(board.render(1, evil))
    assert not set(shown) & set("\x1b\x07\r\x9b\u202e")


@pytest.mark.parametrize("name", ["[red]loud", "[/b]", "[link=http://a]here[/link]", ":smile:"])
def test_a_name_that_looks_like_markup_is_shown_as_it_is(name: str) -> None:
    event = make_event(source=name, subject=name, labels=[name], stages=[StageInfo(1, name, 1.0, hit=True)])
    board = Board()
    board.add(event, 0)
    assert drawn(event_line(event)).count(name) == 3
    assert drawn(board.render(1, name)).count(name) == 3


@pytest.mark.parametrize(("terminal", "length"), [(True, 60), (False, 283)])
def test_an_event_is_one_line_cut_to_the_width_of_a_terminal_only(terminal: bool, length: int) -> None:
    console = Console(force_terminal=terminal, width=60, color_system=None)
    line = _line(console, make_event(subject="long " * 40))
    assert line.endswith("\n")
    assert [len(part) for part in line.splitlines()] == [length]


def test_a_gap_is_told_with_its_number_or_that_nobody_knows_it() -> None:
    assert missed_line(Missed("slow", 12)).plain == "-------- 12 events missed here: slow"
    assert (
        missed_line(Missed("history", None)).plain
        == "-------- an unknown number of events missed here: history"
    )


def test_a_board_looks_back_on_ten_seconds_and_counts_all() -> None:
    board = Board()
    for number in range(100):
        board.add(make_event(number, total_ms=float(number)), number / 5)
    shown = drawn(board.render(20.0, "here"))
    assert shown.startswith("5.0 events/s  100 in all  here")
    assert "QUERY search      50    74.00    97.00    99.00" in shown


def test_a_board_does_not_pretend_to_know_what_it_does_not() -> None:
    board = Board()
    assert "0.0 events/s  0 in all" in drawn(board.render(5, "here"))
    for missed in (Missed("slow", 3), Missed("slow", 4), Missed("history", 2), Missed("history", None)):
        board.add(missed, 1)
    assert "missed (slow) 7  missed (history) 2 and more" in drawn(board.render(5, "here"))


def test_a_board_says_first_what_is_wrong_and_its_figures_are_never_cut_off() -> None:
    lines = drawn(Board().render(5, "http://" + "a" * 99, "not connected: " + "b" * 99)).splitlines()
    assert lines[0].startswith("not connected: bbb")
    assert lines[1].startswith("0.0 events/s  0 in all  http://aaa")
    assert "not connected" not in drawn(Board().render(5, "here"))
