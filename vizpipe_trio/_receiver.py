"""The relay's way in: reads the shared stream, and hands the pipe what is new, and what is missing.

Each worker numbers its events, so from its next message it is known what did not come before. But
it may have no next one. So it is also seen when the stream has lost something before it was read:
then what was read last is no longer there.
"""

from collections.abc import Callable, Sequence

import trio

from ._envelope import UnknownVersionError, decode_envelope
from ._junction import Arrival, Epoch, Junction
from ._link import MESSAGES_A_READ, Link, Message
from ._origins import Origins
from ._sight import NO_EPOCH, START, Spot

SETTLING_SECONDS = 60
"""How long after its start a worker hears for the first time of others that are older."""

CHECK_SECONDS = 3.0
"""How often it is looked whether the stream has begun anew. A server that evicts what nobody
uses would else evict the epoch."""

BACKFILL = 64
"""Messages that a worker which starts takes into its history."""


class Receiver:
    """What a worker has read of the shared stream, over one link after the other.

    Args:
        junction: Where the pipe is joined.
        run: The run part of the pipe's IDs.
        pause: Seconds to wait between two reads.
        asked: Called when a worker that has just connected wants to know where this one stands.

    Attributes:
        origins: What was heard of each other worker.
        malformed: Messages that were none of ours.
        other_version: Messages of another version.
        has_read: Set when the link was read from.
        is_level: Set when all was read that the stream held when this worker said hello.
        is_whole: Whether the stream can have lost nothing, read or unread, since this was last set.
        read_to: Where in the stream the message is that was read last.
    """

    def __init__(self, junction: Junction, run: bytes, pause: float, asked: Callable[[], object]) -> None:
        self.origins = Origins()
        self.malformed = self.other_version = 0
        self.has_read, self.is_level = trio.Event(), trio.Event()
        self.is_whole = True
        self.read_to = START
        self._junction = junction
        self._run = run
        self._pause = pause
        self._asked = asked
        self._epoch = NO_EPOCH
        self._server = ""  # the run of it that was read from last
        self._is_cut = False  # what comes next was told as lost
        self._hello = START  # where in the stream this worker said last that it is there
        self._joined = 0  # when it said so first, by the server's clock in milliseconds

    async def catch_up(self, link: Link, no_room: Callable[[], object]) -> None:
        """Find out where to go on reading over a new link; the first time, also what was last.

        Args:
            link: The link.
            no_room: Called when the pipe, which takes what was last, is not running yet.
        """
        self.has_read, self.is_level = trio.Event(), trio.Event()
        server, epoch = await link.check_server(), await link.epoch()
        is_same = server == self._server != ""
        self._server = server
        if epoch != self._epoch:
            await self._begin(link, epoch, no_room)
        elif not is_same:
            self.miss()  # its data may be that of a snapshot
        else:
            await self._check_whole(link)

    async def _begin(self, link: Link, epoch: bytes, no_room: Callable[[], object]) -> None:
        first_time = self._epoch == NO_EPOCH
        # What is in a stream that has begun anew is all new; of a strange one, the last part will do.
        past: Sequence[Message] = await link.latest(BACKFILL) if first_time else ()
        await self._junction.until_room()
        self.begin(epoch, past[0][0] if len(past) == BACKFILL else START)
        for message in past:
            if not self._junction.has_room:
                no_room()
            await self._junction.until_room()
            self.hear(message, past=True)

    async def run(self, link: Link, hello: Spot) -> None:
        """Read until the link fails.

        Args:
            link: The link, which was caught up with.
            hello: Where in the stream this worker has said over it that it is there.
        """
        self.expect(hello)
        check_at = trio.current_time() + CHECK_SECONDS
        while True:
            messages = await link.read(self.read_to)
            self.has_read.set()
            is_full = len(messages) == MESSAGES_A_READ
            # The stream keeps as many messages, so if there are fewer it has lost none of them.
            if is_full and self.read_to != START:
                await self._check_whole(link)
            for message in messages:
                await self._junction.until_room()
                self.hear(message)
            if not messages and not self.is_level.is_set():
                self.is_whole = False  # what was said is gone again
                self.is_level.set()
            if trio.current_time() > check_at:
                if await link.epoch() != self._epoch:
                    raise RuntimeError("the server has lost the stream")
                check_at = trio.current_time() + CHECK_SECONDS
            if not is_full:
                # A read costs more than a message in it. Those of one worker are further apart.
                await trio.sleep(self._pause)

    async def _check_whole(self, link: Link) -> None:
        """See that what was read last is still there: then so is all that comes behind it."""
        if not await link.has(self.read_to):
            self.miss()

    def expect(self, hello: Spot) -> None:
        """Note where this worker has said that it is there."""
        self._hello = hello
        self._joined = self._joined or hello.ms

    def begin(self, epoch: bytes, floor: Spot) -> None:
        """Note that the stream is read for the first time, from a floor on, or has begun anew."""
        is_anew = self._epoch != NO_EPOCH
        self._epoch = epoch
        self.read_to = floor
        self._junction.push(Epoch(epoch, floor))
        if is_anew:
            self.miss()

    def miss(self) -> None:
        """Tell that what comes next in the stream was lost, if there was anything."""
        self.is_whole = False
        if not self._is_cut:
            self._is_cut = True
            self._junction.push(Arrival(self.read_to, self.read_to, lost=None))

    def hear(self, message: Message, *, past: bool = False) -> None:
        """Hand a message to the pipe; no checkpoint between what is noted and what is done.

        Args:
            message: The message.
            past: Whether it is older than this worker.
        """
        self.read_to = message[0]
        self._is_cut = False
        if not past and self.read_to >= self._hello:
            self.is_level.set()
        self._junction.push(self._arrival(message, past=past))

    def _arrival(self, message: Message, *, past: bool) -> Arrival:
        spot, fields = message
        nothing = Arrival(spot=spot, until=spot)
        try:
            envelope = decode_envelope(fields, self._run)
        except UnknownVersionError:
            self.other_version += 1
            return nothing
        except ValueError:
            self.malformed += 1
            return nothing
        if envelope.run == self._run:
            count = envelope.count
            if envelope.first + count - 1 > self._junction.outbox.offered or not envelope.first:
                self.malformed += 1  # not sent by us
                return nothing
            self._junction.outbox.confirm(envelope.first + count - 1)
            return Arrival(spot, spot._replace(offset=count), first=envelope.first, echoed=count)
        if envelope.hello and not past:
            self._asked()
        is_settling = not envelope.hello and spot.ms < self._joined + SETTLING_SECONDS * 1000
        return self.origins.hear(envelope, spot, is_baseline=past or is_settling)
