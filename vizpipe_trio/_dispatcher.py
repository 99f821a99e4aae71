"""From the log to one queue per client, some clients a turn: what `Pipe.run` does.

No fault in here ends it: that would end the host's nursery. It is logged, what it cost is
counted as missed by the clients that it hit, and the work goes on.
"""

import math
from collections import OrderedDict
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple

import trio

from ._entrance import Entrance
from ._heartbeats import Heartbeats, first_of
from ._intake import TURN_SECONDS, Intake
from ._log import Log, Place
from ._mailbox import Mailbox, Parcel
from ._pace import Pace
from ._report import FaultReport
from ._sight import Seen

CLIENTS_A_TURN = 10
"""Clients that are woken before the host's other tasks get their turn. Each costs the
thread one write, 50 to 80 µs under Hypercorn, so a turn is under a millisecond."""

PASSES_A_WRITE = 3
"""Times that Trio runs a client's task until its write is done, under Hypercorn: how
long they take is what a turn costs."""

FAULT_PAUSE = 0.1
"""Seconds until the dispatcher goes on after a fault of its own: one that lasts must not take
the thread. Meanwhile events wait at the entrance, or are dropped there and counted."""

LAST_ATTEMPTS = 3
"""Faults after which a dispatcher that is to stop gives up handing out what is queued."""


class Served(NamedTuple):
    """What a client was offered, and when, by Trio's clock."""

    place: Place
    at: float


class Dispatcher:
    """Hands out to clients what comes in at the entrance.

    Args:
        entrance: Where events come in.
        log: Where they go, and clients find them.
        intake: The way from the one to the other.
        faults: Told what went wrong.
        flush_interval: As for `Pipe`.
    """

    def __init__(
        self, entrance: Entrance, log: Log, intake: Intake, faults: FaultReport, flush_interval: float
    ) -> None:
        self._entrance = entrance
        self._log = log
        self._intake = intake
        self._faults = faults
        self._flush_interval = flush_interval
        self._pace = Pace(flush_interval)
        self._heartbeats = Heartbeats()
        # In the order in which they were served last, so the hindmost first.
        self._clients: OrderedDict[Mailbox, Served] = OrderedDict()

    def add(self, client: Mailbox) -> None:
        """Hand out to a client what comes from now on."""
        self._clients[client] = Served(self._log.head, self._pace.round_ended)

    def forget(self, client: Mailbox) -> None:
        """Let go of a client, if it is still there."""
        self._clients.pop(client, None)
        self._heartbeats.forget(client)

    def fell_silent(self, client: Mailbox) -> None:
        """Note that a client waits, which is to be woken for its heartbeat."""
        if self._heartbeats.fell_silent(client, trio.current_time()):
            self._entrance.rouse()  # it may mean to rest for longer

    def end_soon(self) -> None:
        """End the clients without a run, from anywhere."""
        for client in list(self._clients):
            client.end_soon()

    async def run(self) -> None:
        """Serve the clients until there is nothing more to do, whatever goes wrong; then end them."""
        attempts = LAST_ATTEMPTS
        self._part_with_strangers()
        for client in list(self._clients):
            # A stop before this run may have ended it: it is to get first what is queued.
            client.ended = False
        self._intake.note_rest(trio.current_time())  # the clock is not that of the run before
        while attempts:
            try:
                await self._take_turns()
            except Exception as error:
                self._faults.note_own("the dispatcher failed, and goes on", error)
            else:
                break
            attempts -= self._entrance.closed
            with suppress(Exception):
                self._faults.flush()
            await trio.sleep(FAULT_PAUSE)
        while True:  # the end of a stream is a write as well
            self._see_off(CLIENTS_A_TURN)
            for _ in range(PASSES_A_WRITE):
                await trio.lowlevel.checkpoint()
            if not self._clients:
                return

    def _part_with_strangers(self) -> None:
        """End the clients that wait in other runs of Trio: the pipe did not run, so they could."""
        run = trio.lowlevel.current_trio_token()
        for client in [client for client in list(self._clients) if client.waits_elsewhere(run)]:
            self.forget(client)
            client.end_soon()

    def wind_up(self) -> None:
        """End every client that is left, without a checkpoint: the run was cancelled, or broke."""
        self._see_off(len(self._clients))
        # The next run may have another clock.
        self._heartbeats = Heartbeats()
        self._pace = Pace(self._flush_interval)
        with suppress(Exception):  # a clock, say: there is nobody left to tell
            self._faults.close()

    def _see_off(self, most: int) -> None:
        """End so many clients. What was not handed out to them by now, they have missed; they are told.

        No filter runs and nothing is encoded: there may be thousands of them.
        """
        try:
            self._intake.tell_drops()
        except Exception as error:
            self._faults.note_own("drops at the end were not told", error)
        for _ in range(most):
            first = first_of(self._clients)  # anew each time: a finalizer may close any of them
            if first is None:
                return
            client, (place, _) = first
            if place != self._log.head:
                due = client.queue.offered + self._log.head.events - place.events
                self._pass_over(client, due, place)
            self._dismiss(client)

    async def _take_turns(self) -> None:
        """Serve the clients in rounds, the hindmost first, some a turn."""
        entrance, pace = self._entrance, self._pace
        half_full = entrance.capacity // 2
        intake = self._intake
        while not entrance.closed or entrance.waiting or intake.has_drops or self._hindmost() is not None:
            is_idle = not (entrance.waiting or intake.has_drops or intake.has_arrivals)
            if is_idle and self._hindmost() is None:
                self._log.settle(self._log.head)  # now, and not when the next event is in a hurry
                heartbeat_in = self._heartbeats.due_in(trio.current_time())
                late = await entrance.rest(alarm=0, seconds=min(self._faults.due_in(), heartbeat_in))
                self._intake.note_rest(trio.current_time() - late)
            self._take(trio.current_time())
            # A write costs far more than an event in it. As long as the next one would not
            # be half full, let events gather (but not so many that the entrance overflows),
            # and let the host have its share of the time.
            now = trio.current_time()
            hindmost = self._hindmost()
            pressed = (
                entrance.closed or len(entrance.waiting) > half_full or pace.is_pressed(self._log.pending)
            )
            turn_in = 0.0 if pressed else pace.turn_in(now)
            if hindmost is None:
                events_in = math.inf
            else:
                events_in = 0.0 if pressed else pace.events_in(now, hindmost[1].at)
            if events_in > 0:
                heartbeat_in = self._heartbeats.due_in(now)
                pause = turn_in if hindmost is None else min(events_in, max(turn_in, heartbeat_in))
                if pause > 0 or (hindmost is None and heartbeat_in > 0):
                    await entrance.rest(alarm=half_full, seconds=pause)
                    continue
            brings_events = self._log.pending > 0
            woken = self._send_heartbeats(now)
            if hindmost is not None and events_in <= 0:
                pace.begin_turn(now, hindmost[1].at, self._log.pending)
                self._serve(now, woken)
            for _ in range(PASSES_A_WRITE):
                await trio.lowlevel.checkpoint()
            pace.end_turn(
                now,
                trio.current_time(),
                max(len(self._clients) / CLIENTS_A_TURN, 1),
                brought_events=brings_events and events_in <= 0,
            )

    def _take(self, now: float) -> None:
        """Take events from the entrance, up to one write for the hindmost client."""
        hindmost = self._hindmost()
        self._log.settle(hindmost[1].place if hindmost else self._log.head)
        self._intake.take(self._pace.max_write, now)
        self._faults.flush()

    def _serve(self, now: float, woken: int) -> None:
        """Offer some clients what is new for them; so many were woken in this turn already."""
        served = Served(self._log.head, now)
        parcels: dict[tuple[Place, object, Seen], Parcel] = {}
        until = perf_counter() + TURN_SECONDS
        while (hindmost := self._hindmost()) is not None:
            client, (place, _) = hindmost
            due = client.queue.offered + served.place.events - place.events
            key = place, client.filter_key, client.seen
            try:
                if key not in parcels:
                    parcels[key] = [
                        (len(batch), batch.select(client.queue.filter, self._faults), gap)
                        for batch, gap in self._log.since(place, client.seen)
                    ]
                # Before it is woken, and only if its own filter has not just closed it.
                if self._move_back(client, served):
                    woken += client.deliver(parcels[key], self._pace.max_write)
                    if client.seen:
                        client.seen = self._log.not_passed(client.seen)
            except Exception as error:
                self._faults.note_own("a client could not be served, and missed what was new", error)
                if self._move_back(client, served):
                    woken += self._pass_over(client, due)
            if woken >= CLIENTS_A_TURN or perf_counter() > until:
                return

    def _move_back(self, client: Mailbox, served: Served) -> bool:
        """Note what a client was offered, if it is still there."""
        if client not in self._clients:
            return False
        self._clients[client] = served
        self._clients.move_to_end(client)
        return True

    def _pass_over(self, client: Mailbox, due: int, place: Place | None = None) -> bool:
        """Have a client miss what of so many events it was not offered; say whether that woke a task.

        Args:
            client: The client.
            due: How many events it was to be offered so far.
            place: Up to where it was offered everything; None if that is not known.
        """
        try:
            return client.write_off(due, None if place is None else self._log.gap_since(place))
        except Exception as error:
            self._faults.note_own("a client could not be served at all, and was ended", error)
            self._dismiss(client)
            return True

    def _dismiss(self, client: Mailbox) -> None:
        """End a client: it gets what it has in its queue, and nothing more."""
        self._clients.pop(client, None)
        try:
            client.end()
        except Exception as error:
            self._faults.note_own("a client could not be woken for its end", error)

    def _hindmost(self) -> tuple[Mailbox, Served] | None:
        """Return the client that was served longest ago, if there is anything new for it."""
        first = first_of(self._clients)
        return None if first is None or first[1].place == self._log.head else first

    def _send_heartbeats(self, now: float) -> int:
        """Wake some of the clients that have been silent for long; return how many."""
        return sum(client.wake() for client in self._heartbeats.take_due(now, CLIENTS_A_TURN))
