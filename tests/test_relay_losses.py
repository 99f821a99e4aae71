"""What workers that share a server lose, and that viewers hear of it."""

from functools import partial
from typing import Any

import pytest
import trio
from coredis import PureToken
from support import until
from test_relay import Line, named
from valkey_server import KEY, Valkey, Worker, run_valkey, run_worker

import vizpipe_trio._link
import vizpipe_trio._receiver
import vizpipe_trio._sender
from vizpipe_trio._junction import Arrival, Junction
from vizpipe_trio._link import Link, Message
from vizpipe_trio._receiver import Receiver
from vizpipe_trio._sight import Spot

EVENTS = {"v": "1", "r": "00000000", "s": "1", "d": "0", "n": "1", "e": '[{"request_id":"x1"}]'}


async def test_what_was_trimmed_while_a_worker_was_away_is_told_though_its_sender_is_gone() -> None:
    async with run_valkey() as valkey, trio.open_nursery() as nursery:
        b = Worker(valkey.url)
        with b.viewer.stream:
            async with trio.open_nursery() as away:
                await away.start(b.relay.run)
                await nursery.start(b.pipe.run)
                await until(lambda: b.relay.statistics().connected)
                away.cancel_scope.cancel()
            async with run_worker(valkey.url) as a:
                a.emit("a1")
                await until(lambda: a.relay.statistics().sent == 1)
            async with valkey.client() as client:
                await client.xtrim(KEY, PureToken.MAXLEN, threshold=0)
            await nursery.start(b.relay.run)
            assert await b.viewer.see("None relay") == ["None relay"]
            assert (b.relay.statistics().unknown_in, b.pipe.statistics().missed_unknown) == (1, 1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("right", "seen"), [("+info", ["x1"]), ("-info", ["None relay", "x1"])])
async def test_a_new_connection_costs_nothing_only_if_it_is_known_that_the_server_is_the_same(
    right: str, seen: list[str]
) -> None:
    async with (
        run_valkey(user=f"viz on >pw ~* +@all {right}") as valkey,
        run_worker(valkey.url, username="viz", password="pw") as b,
    ):
        async with valkey.client() as client:
            await client.client_kill(type_=PureToken.NORMAL, skipme=True)
        await until(lambda: b.relay.statistics().connections == 2)
        await valkey.add(**EVENTS)
        assert await b.viewer.see("x1") == seen


async def test_what_was_trimmed_faster_than_a_worker_reads_is_told_though_its_sender_is_gone() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as b:
        async with valkey.client() as client, client.pipeline(transaction=True) as pipeline:
            for fields in [EVENTS, *[{"a": "stranger"}] * 16]:
                pipeline.xadd(KEY, fields)
            pipeline.xtrim(KEY, PureToken.MAXLEN, threshold=16)
        assert await b.viewer.see("None relay") == ["None relay"]
        assert b.relay.statistics().connections == 1


async def test_a_worker_that_reads_all_in_time_is_told_of_no_loss() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as b:
        for number in range(40):
            await valkey.add(**{**EVENTS, "s": f"{number + 1}", "e": f'[{{"request_id":"x{number + 1}"}}]'})
        async with valkey.client() as client:
            await until(lambda: b.relay.statistics().relayed == 40)
            await client.xtrim(KEY, PureToken.MAXLEN, threshold=1)
        await valkey.add(**{**EVENTS, "s": "41", "e": '[{"request_id":"x41"}]'})
        assert await b.viewer.see("x41") == named("x", 41)


async def test_a_server_that_was_emptied_is_noticed_even_when_its_clock_goes_backwards(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vizpipe_trio._receiver, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(vizpipe_trio._link, "BLOCK_SECONDS", 0.1)
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        async with valkey.client() as client:
            await client.xadd(KEY, {"x": "y"}, identifier="9999999999999-0")
            await until(lambda: a.relay.statistics().malformed == b.relay.statistics().malformed == 1)
            await client.flushall()
        a.emit("a1")
        assert await b.viewer.see("a1") == ["None relay", "a1"]
    said = "the relay is not connected, and tries again: RuntimeError: the server has lost the stream"
    assert [record.getMessage() for record in caplog.records if record.name == "vizpipe_trio"] == [said] * 2


async def test_a_server_that_comes_back_without_the_last_messages_and_its_clock_behind_is_heard() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        async with valkey.client() as client:
            await client.xadd(KEY, {"x": "y"}, identifier="9999999999999-0")
            await until(lambda: a.relay.statistics().malformed == b.relay.statistics().malformed == 1)
            await client.delete([KEY])
            await client.client_kill(type_=PureToken.NORMAL, skipme=True)
        await until(lambda: a.relay.statistics().connections == b.relay.statistics().connections == 2)
        a.emit("a1")
        seen = await b.viewer.see("a1")
        assert (set(seen), seen[-1]) == ({"None relay", "a1"}, "a1")


async def kill_writer(valkey: Valkey) -> None:
    """End the connection over which the only worker writes."""
    async with valkey.client() as client:
        own = await client.client_id()
        while not (await client.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - nobody tells when it reads
            await trio.sleep(0.01)
        [writer] = [
            each for each in await client.client_list() if each["flags"] == "N" and int(each["id"]) != own
        ]
        await client.client_kill(identifier=int(writer["id"]))


async def test_a_link_ends_with_its_connection_and_none_is_opened_in_its_place() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a:
        await kill_writer(valkey)
        a.emit("a1")
        await until(lambda: a.relay.statistics().sent == 1)
        assert a.relay.statistics().connections == 2


async def test_the_connection_of_a_worker_that_has_nothing_to_send_is_used_and_made_anew_when_it_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vizpipe_trio._sender, "KEEP_SECONDS", 0.1)
    async with run_valkey() as valkey, run_worker(valkey.url) as a:
        await kill_writer(valkey)
        await until(lambda: a.relay.statistics().connections == 2)


async def test_what_a_worker_could_not_send_before_it_ended_is_lost_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with run_valkey() as valkey:
        a = Worker(valkey.url)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.relay.run)
            await nursery.start(a.pipe.run)
            await valkey.pause()
            a.emit(*named("a", 500))
            await until(lambda: a.relay.statistics().queued_out == 500)
            a.pipe.stop()
        valkey.go_on()
    now = a.relay.statistics()
    assert (now.offered, now.sent, now.queued_out, now.lost_out) == (500, 0, 0, 500)
    [said] = [record for record in caplog.records if record.name == "vizpipe_trio"]
    assert said.getMessage() == "the relay has ended, and 500 events are lost for other workers"


async def lose_nothing(_: Valkey) -> None:
    pass


async def trim(valkey: Valkey) -> None:
    async with valkey.client() as client:
        await client.xtrim(KEY, PureToken.MAXLEN, threshold=0)


async def forbid_info(valkey: Valkey) -> None:
    async with valkey.client() as client:
        await client.acl_setuser("default", "-info")


@pytest.mark.parametrize(
    ("meanwhile", "seen", "lost"),
    [
        (lose_nothing, ["a0", "a1", "a2"], 0),
        (trim, ["a0", "1 relay", "a2"], 1),
        (forbid_info, ["a0", "1 relay", "a2"], 1),
    ],
)
async def test_what_was_under_way_is_sent_again_only_if_the_same_server_has_lost_nothing_since(
    meanwhile: Any, seen: list[str], lost: int
) -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as b, trio.open_nursery() as nursery:
        line = Line(valkey.port, b'"a1"', arrives=False, meanwhile=partial(meanwhile, valkey))
        [listener] = await nursery.start(partial(trio.serve_tcp, line, 0, host="127.0.0.1"))
        async with run_worker(f"redis://127.0.0.1:{listener.socket.getsockname()[1]}") as a:
            a.emit("a0")
            assert await a.viewer.see("a0") == await b.viewer.see("a0") == ["a0"]
            a.emit("a1")
            await until(lambda: a.relay.statistics().connections == 2)
            a.emit("a2")
            assert ["a0", *await b.viewer.see("a2")] == seen
            await until(lambda: a.relay.statistics().queued_out == 0)
            assert (a.relay.statistics().sent, a.relay.statistics().lost_out) == (3 - lost, lost)
        nursery.cancel_scope.cancel()


def test_a_worker_that_starts_misses_nothing_that_an_older_and_quiet_one_did_before() -> None:
    junction = Junction(10, 10, lambda: None)
    receiver = Receiver(junction, b"ffffffff", 0, lambda: None)
    receiver.begin(b"00000001", Spot(1, 0, 0))
    old = {name.encode(): value.encode() for name, value in EVENTS.items()}
    receiver.hear((Spot(1, 0, 0), old), past=True)
    receiver.expect(Spot(600_000, 0, 0))
    quiet = {**old, b"r": b"11111111", b"s": b"5"}
    receiver.hear((Spot(601_000, 0, 0), quiet))
    receiver.hear((Spot(700_000, 0, 0), {**quiet, b"r": b"22222222"}))
    arrivals = [each for each in junction.arrivals if isinstance(each, Arrival)]
    assert [arrival.lost for arrival in arrivals] == [0, 0, None]


class EmptyLink(Link):
    """A link to a stream without messages."""

    def __init__(self) -> None:
        pass

    async def read(self, after: Spot) -> list[Message]:
        await trio.sleep(1)
        return []


async def test_a_hello_that_was_deleted_before_it_was_read_keeps_nobody_waiting_for_it(
    autojump_clock: object,
) -> None:
    receiver = Receiver(Junction(10, 10, lambda: None), b"ffffffff", 0, lambda: None)
    receiver.begin(b"00000001", Spot(1, 0, 0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.run, EmptyLink(), Spot(2, 0, 0))
        with trio.fail_after(3):
            await receiver.is_level.wait()
        assert not receiver.is_whole
        nursery.cancel_scope.cancel()
