"""Faults in the pipe's own code, put in one by one: the host never feels them, and nothing is lost uncounted."""

import logging

import pytest
import trio
from faults import Fault, check_ledger
from trio.testing import MockClock, wait_all_tasks_blocked

from vizpipe_trio import Event, Pipe, open_pipe
from vizpipe_trio._stream import EventStream

LOGGER = logging.getLogger("host")


# What the dispatcher does, step by step, from the entrance to the client's task.
SEAMS = [
    "_entrance.Entrance.rest",
    "_dispatcher.Dispatcher._take",
    "_log.Log.settle",
    "_dispatcher.perf_counter",
    "_intake.Intake.take",
    "_intake.perf_counter",
    "_intake.Intake._encode",
    "_intake.encode_event",
    "_log.Log.event_id",
    "_intake.event_frame",
    "_intake.Batch",
    "_log.Log.extend",
    "_log.Log.add_gap",
    "_report.FaultReport.due_in",
    "_report.FaultReport.flush",
    "_dispatcher.Dispatcher._hindmost",
    "_heartbeats.Heartbeats.due_in",
    "_heartbeats.Heartbeats.take_due",
    "_pace.Pace.is_pressed",
    "_pace.Pace.turn_in",
    "_pace.Pace.events_in",
    "_pace.Pace.begin_turn",
    "_pace.Pace.end_turn",
    "_dispatcher.Dispatcher._send_heartbeats",
    "_dispatcher.Dispatcher._serve",
    "_log.Log.since",
    "_batch.Batch.select",
    "_mailbox.Mailbox.deliver",
    "_client.ClientQueue.offer",
    "_client.ClientQueue.lose",
    "_batch.Batch.part",
]


@pytest.mark.parametrize("times", [1, 7])
@pytest.mark.parametrize("seam", SEAMS)
async def test_the_run_goes_on_after_a_fault_in_it(
    seam: str, times: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pipe(10, logger=LOGGER) as pipe:
        with pipe.subscribe(lambda event: event.op == "QUERY") as first, pipe.subscribe() as second:
            await wait_all_tasks_blocked()
            fault = Fault(monkeypatch, seam, times, RuntimeError("a fault of ours"))
            for _ in range(10):  # two too many each time, so that there is an overload to tell of
                for number in range(12):
                    pipe.emit(Event(op="WRITE" if number % 2 else "QUERY"))
                await trio.sleep(1)
            assert fault.left == 0
            pipe.emit(Event(request_id="last"))
            pipe.stop()
            for subscription in (first, second):
                assert [event.request_id async for event in subscription][-1] == "last"
            check_ledger(pipe, first, second)
        assert pipe.statistics().queued == 0


@pytest.mark.parametrize("seam", [*SEAMS, "_mailbox.Mailbox.wake"])
async def test_a_fault_in_the_run_is_logged_with_its_place(
    seam: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_pipe(10, logger=LOGGER) as pipe:
        with pipe.subscribe():
            await wait_all_tasks_blocked()
            fault = Fault(monkeypatch, seam, 1, RuntimeError("a fault of ours"))
            for _ in range(12):
                pipe.emit(Event())
            await trio.sleep(1)
    assert fault.left == 0
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("1 times: ")
    assert record.getMessage().endswith("RuntimeError: a fault of ours\n")
    assert "Traceback" in record.getMessage()


async def test_a_client_that_could_not_be_served_is_told_of_the_gap_in_its_place(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pipe(logger=LOGGER) as pipe:
        with EventStream(pipe) as stream:
            await anext(stream)
            for faults in (0, 1, 0):
                Fault(monkeypatch, "_log.Log.since", faults, RuntimeError("a fault of ours"))
                pipe.emit(Event())
                await trio.sleep(1)
            first, gap, last = (await anext(stream)).split(b"\n\n")[:3]
    assert first.split(b"\n")[0].endswith(b"-1")
    assert gap == b'event: missed\ndata: {"missed":null,"reason":"history"}'
    assert last.split(b"\n")[0].endswith(b"-3")
    assert (pipe.statistics().missed, pipe.statistics().missed_history) == (0, 1)


async def test_a_fault_that_lasts_costs_a_client_no_more_than_one_gap(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pipe(logger=LOGGER) as pipe:
        with pipe.subscribe() as subscription:
            Fault(monkeypatch, "_client.ClientQueue.offer", 1000, RuntimeError("a fault of ours"))
            for _ in range(50):
                pipe.emit(Event())
                await trio.sleep(1)
            assert subscription.missed == subscription.offered == 50
            assert len(await subscription.receive_bytes()) < 100


async def test_a_client_that_cannot_be_served_at_all_is_ended_and_the_others_are_not(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_pipe(logger=LOGGER) as pipe:
        with pipe.subscribe() as one, pipe.subscribe() as other:
            faults = [
                Fault(monkeypatch, f"_client.ClientQueue.{name}", 1, RuntimeError("a fault of ours"))
                for name in ("offer", "write_off")
            ]
            pipe.emit(Event(request_id="e"))
            await trio.sleep(1)
            assert [fault.left for fault in faults] == [0, 0]
            assert [event.request_id async for event in one] == []
            assert (await anext(other)).request_id == "e"
            assert pipe.statistics().clients == 2  # until it leaves
    assert sorted(message.partition(";")[0] for message in caplog.messages) == [
        "1 times: a client could not be served at all, and was ended",
        "1 times: a client could not be served, and missed what was new",
    ]


async def test_a_fault_that_lasts_leaves_the_thread_to_the_host_and_drops_are_counted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_pipe(10, logger=LOGGER) as pipe:
        fault = Fault(monkeypatch, "_dispatcher.Dispatcher._take", 10**6, RuntimeError("a fault of ours"))
        assert sum(pipe.emit(Event()) for _ in range(15)) == 10
        await trio.sleep(60)
        assert 10**6 - fault.left == pytest.approx(600, abs=5)
        assert (pipe.statistics().dropped, pipe.statistics().queued) == (5, 10)
        assert 6 <= len(caplog.messages) <= 7  # one in ten seconds
        fault.left = 0
        await trio.sleep(1)
        assert pipe.statistics().broadcast == 10


async def test_a_pipe_with_a_fault_that_lasts_can_be_stopped(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(2):
        async with open_pipe(logger=LOGGER) as pipe:
            subscription = pipe.subscribe()
            Fault(monkeypatch, "_dispatcher.Dispatcher._take", 10**6, RuntimeError("a fault of ours"))
            pipe.emit(Event())
    assert [event async for event in subscription] == []
    check_ledger(pipe, subscription)
    assert pipe.statistics().queued == 1


@pytest.mark.parametrize(
    "seam",
    [
        "_intake.Intake.tell_drops",
        "_log.Log.gap_since",
        "_mailbox.Mailbox.write_off",
        "_mailbox.Mailbox.end",
        "_report.FaultReport.close",
    ],
)
async def test_a_fault_at_the_end_does_not_come_out_of_a_run_that_is_cancelled(
    seam: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe(logger=LOGGER, flush_interval=1000)
    with pipe.subscribe(), pipe.subscribe() as last:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            for _ in range(3):  # of which the last is not handed out yet
                pipe.emit(Event())
                await wait_all_tasks_blocked()
            fault = Fault(monkeypatch, seam, 1, RuntimeError("a fault of ours"))
            nursery.cancel_scope.cancel()
        assert fault.left == 0
        with trio.fail_after(5):
            assert len([event async for event in last]) < 3
    assert not pipe.statistics().running


@pytest.mark.parametrize("order", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("seam", ["_intake.encode_event", "_log.Log.since", "_dispatcher.Dispatcher._take"])
async def test_an_order_to_exit_passes_and_the_account_still_adds_up(
    seam: str, order: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe(logger=LOGGER)
    with pipe.subscribe() as subscription:
        with pytest.RaisesGroup(order):
            async with trio.open_nursery() as nursery:
                await nursery.start(pipe.run)
                await wait_all_tasks_blocked()
                Fault(monkeypatch, seam, 1, order())
                for _ in range(3):
                    pipe.emit(Event())
        assert len([event async for event in subscription]) == subscription.delivered
        check_ledger(pipe, subscription)
