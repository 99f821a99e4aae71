"""Viewers that go from worker to worker, over random interleavings, without a server or a clock.

A viewer sees no event twice, and each worker's in order; and where it does not see some it is told so, at
this place or when it came to the worker.
"""

import re
import sys
from string import ascii_letters

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vizpipe_trio._log
from vizpipe_trio import Event, Pipe
from vizpipe_trio._envelope import Envelope
from vizpipe_trio._receiver import Receiver
from vizpipe_trio._request import MAX_LAST_EVENT_ID
from vizpipe_trio._sight import START, Sight, Spot, parse_seen
from vizpipe_trio._trail import FORGET_MS, Trail

Fields = dict[bytes, bytes]

NAME = re.compile(r'"request_id":"(\w+)"')

GO, TOLD = "*go", "*told"

BOOT = 10 * FORGET_MS
"""The server's clock: what is at its beginning is old."""

NOW = 1_700_000_000_000
"""A time, in milliseconds."""

BACKFILL = 3
"""Messages that a worker takes into its history which starts again."""


class Stream:
    """What the server holds."""

    def __init__(self) -> None:
        self.epoch = self.run = 1
        self.messages: list[tuple[Spot, Fields]] = []
        self.now = BOOT
        self.ever: set[str] = set()  # events that it had at some time

    def append(self, envelope: Envelope) -> Spot:
        self.now += 1
        spot = Spot(self.now, 0, 0)
        self.messages.append((spot, {name.encode(): value for name, value in envelope.encode().items()}))
        self.ever.update(NAME.findall(b"".join(envelope.data).decode()))
        return spot

    def begin_anew(self) -> None:
        """Lose all data, and let the clock go backwards."""
        self.epoch += 1
        self.run += 1
        self.messages.clear()
        self.now = BOOT

    def restore(self, count: int) -> None:
        """Start again without the last messages."""
        self.run += 1
        del self.messages[-count:]


class Worker:
    """A pipe and the relay's part of it, one step at a time."""

    def __init__(self, name: str, stream: Stream, history: int, capacity: int) -> None:
        self.name = name
        self.stream = stream
        self.pipe = Pipe(history=history)
        self.junction = self.pipe._join(capacity)
        self.receiver = Receiver(self.junction, self.pipe._log.run, 0, self.answer)
        self.epoch = self.run = 0
        self.emitted = 0
        self.is_asked = False
        self.connect()

    def emit(self, count: int) -> None:
        for _ in range(count):
            self.emitted += 1
            self.pipe.emit(Event(request_id=f"{self.name}{self.emitted}"))
        self.take()

    def events(self) -> set[str]:
        return {f"{self.name}{number}" for number in range(1, self.emitted + 1)}

    def take(self) -> None:
        while self.junction.arrivals or self.pipe.statistics().queued:
            self.pipe._dispatcher._take(0.0)  # for a millisecond at most, at a time

    def answer(self) -> None:
        self.is_asked = True

    def connect(self) -> None:
        """Do as a relay does over a new link, if the server is another one."""
        receiver, outbox, stream = self.receiver, self.junction.outbox, self.stream
        if self.run != stream.run:
            if self.epoch != stream.epoch:
                past = [] if self.epoch else stream.messages[-BACKFILL:]
                receiver.begin(b"%x" % stream.epoch, past[0][0] if len(past) == BACKFILL else START)
                for message in past:
                    receiver.hear(message, past=True)
            else:
                receiver.miss()
            self.epoch, self.run = stream.epoch, stream.run
            self.say(hello=True)
        if not outbox.is_unconfirmed:
            receiver.is_whole = True

    def say(self, *, hello: bool) -> None:
        stand = self.junction.outbox.stand
        spot = self.stream.append(Envelope(self.pipe._log.run, stand.first, stand.dropped, 0, hello=hello))
        if hello:
            self.receiver.expect(spot)

    def send(self, count: int, *, arrives: bool = True, confirmed: bool = True) -> None:
        """Send some events, and perhaps not get the answer, whether they arrive or not."""
        outbox = self.junction.outbox
        self.connect()
        if outbox.is_unconfirmed:
            self.say(hello=True)
            self.read(1000)
            if self.receiver.is_whole:
                outbox.under_way = 0
            else:
                outbox.abandon()
            self.receiver.is_whole = True
        load = outbox.peek(count, 10_000)
        outbox.under_way = load.first + len(load.events) - 1
        if arrives:
            self.stream.append(
                Envelope(self.pipe._log.run, load.first, 0, len(load.events), data=load.events)
            )
        if confirmed:
            outbox.confirm(outbox.under_way)

    def read(self, count: int) -> None:
        self.connect()
        receiver, messages = self.receiver, self.stream.messages
        if receiver.read_to not in {START, *(spot for spot, _ in messages)}:
            receiver.miss()
        for message in [message for message in messages if message[0] > receiver.read_to][:count]:
            receiver.hear(message)
        if self.is_asked:
            self.is_asked = False
            self.say(hello=False)
        self.take()

    def settle(self) -> None:
        while self.junction.outbox.queued:
            self.send(100)
        self.connect()
        self.say(hello=False)  # what was lost last is known by what does not come


class Viewer:
    """A client with what it has seen."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.subscription = worker.pipe.subscribe()
        self.last_id = ""
        self.seen: list[str] = []
        self.course: list[str] = []  # what it saw, with GO and TOLD between

    def look(self) -> None:
        dispatcher = self.worker.pipe._dispatcher
        while dispatcher._hindmost() is not None:
            dispatcher._serve(0.0, 0)
        while self.subscription._mailbox.queue:
            self.note(self.subscription._mailbox.take_bytes(0.0))

    def note(self, data: bytes) -> None:
        for block in data.decode().split("\n\n"):
            self.seen += NAME.findall(block)
            self.course += [TOLD] if "event: missed" in block else NAME.findall(block)
        if ids := re.findall(rb"^id: (.*)$", data, re.MULTILINE):
            self.last_id = ids[-1].decode()

    def go(self, worker: Worker) -> None:
        self.look()
        if self.last_id:
            self.move(worker)

    def move(self, worker: Worker) -> None:
        self.subscription.close()
        self.worker = worker
        self.course.append(GO)
        if self.last_id:
            for data in worker.pipe.replay(self.last_id):
                self.note(data)
        else:
            self.course.append(TOLD)  # it begins anew, and asks for nothing that was before
        self.subscription = worker.pipe.subscribe(last_event_id=self.last_id)

    @property
    def was_told(self) -> bool:
        return TOLD in self.course

    def lost_in_silence(self, every: set[str]) -> set[str]:
        """Return those events that it has not seen, and was not told of."""
        return {event for event in every - set(self.seen) if TOLD not in self._around(event)}

    def _around(self, event: str) -> list[str]:
        """Return what came where an event would have had its place, and since it came to the worker."""
        places = [(int(seen[1:]), at) for at, seen in enumerate(self.course) if seen[0] == event[0]]
        before = max((at for number, at in places if number < int(event[1:])), default=0)
        after = min((at for number, at in places if number > int(event[1:])), default=len(self.course))
        went = max((at for at, what in enumerate(self.course[:after]) if what == GO), default=0)
        return self.course[min(before, went) : after]

    def check(self) -> None:
        assert len(self.seen) == len(set(self.seen)), self.seen
        for name in {seen[0] for seen in self.seen}:
            numbers = [int(seen[1:]) for seen in self.seen if seen[0] == name]
            assert numbers == sorted(numbers), self.seen


def steps(*more: str) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    """Return what may happen: in most stories most of it goes well."""
    often = ["emit", "relay", "relay to one", "look", "go", "go", "break"]
    rarely = ["send", "get no answer", "send in vain", "read", *more]
    kinds = st.one_of(st.sampled_from(often), st.sampled_from(often), st.sampled_from(rarely))
    return st.lists(st.tuples(kinds, st.integers(0, 2), st.integers(0, 2)), min_size=4, max_size=40)


class Story:
    """Three workers that share a stream, and viewers that go from one to the other."""

    def __init__(self, history: int, capacity: int) -> None:
        self.history = history
        self.capacity = capacity
        self.stream = Stream()
        self.names = iter(ascii_letters)
        self.workers = [Worker(next(self.names), self.stream, history, capacity) for _ in range(3)]
        for worker in self.workers:
            worker.read(10)
        self.viewers = [Viewer(worker) for worker in self.workers]
        self.gone: set[str] = set()  # events of workers that are no more

    def leave(self, worker: Worker, successor: Worker) -> None:
        """End a worker, whose viewers go to another one."""
        self.gone |= worker.events()
        for viewer in self.viewers:
            if viewer.worker is worker:
                viewer.move(successor)

    def act(self, step: str, which: int, amount: int) -> None:  # noqa: C901, PLR0912 - a table of steps
        index = which % len(self.workers)
        worker, viewer = self.workers[index], self.viewers[amount]
        match step:
            case "emit":
                worker.emit(amount + 1)
            case "relay":
                worker.send(100)
                for each in self.workers:
                    each.read(100)
            case "relay to one":
                worker.send(100)
                self.workers[amount % len(self.workers)].read(100)
            case "send":
                worker.send(amount + 1)
            case "get no answer":
                worker.send(amount + 1, confirmed=False)
            case "send in vain":
                worker.send(amount + 1, arrives=False, confirmed=False)
            case "read":
                worker.read(amount + 1)
            case "look":
                viewer.look()
            case "go":
                viewer.go(worker)
            case "break":
                viewer.move(worker)  # with what was under way to it
            case "begin anew":
                self.stream.begin_anew()
            case "restore":
                self.stream.restore(amount + 1)
            case "leave":
                if len(self.workers) > 1:
                    del self.workers[index]
                    self.leave(worker, self.workers[amount % len(self.workers)])
            case "restart":
                name = next(self.names)  # it is another worker to all others
                self.workers[index] = Worker(name, self.stream, self.history, self.capacity)
                self.leave(worker, self.workers[amount % len(self.workers)])
            case _:
                del self.stream.messages[: amount + 1]

    def end(self) -> None:
        for worker in self.workers:
            worker.settle()
        for worker in self.workers:
            worker.read(1000)
        for viewer in self.viewers:
            viewer.look()

    def check_end(self) -> None:
        # Of what never left a worker that is no more nobody can tell.
        every = (self.gone & self.stream.ever).union(*(worker.events() for worker in self.workers))
        for viewer in self.viewers:
            viewer.check()
            assert not viewer.lost_in_silence(every), viewer.course


def play(todo: list[tuple[str, int, int]], history: int, capacity: int) -> list[Viewer]:
    story = Story(history, capacity)
    for step, which, amount in todo:
        story.act(step, which, amount)
        for viewer in story.viewers:
            viewer.check()
    story.end()
    story.check_end()
    return story.viewers


A, B, C = range(3)  # workers, and the viewers that begin there; "emit" 0 is one event


def viewer_of(which: int, todo: list[tuple[str, int, int]], history: int = 1000) -> Viewer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vizpipe_trio._log, "TRIM_AT", 1)
        return play(todo, history, capacity=1000)[which]


def test_a_viewer_is_told_when_another_workers_event_is_no_longer_held() -> None:
    held = [("emit", C, 0), ("look", 0, C), ("emit", A, 0), ("relay to one", A, B), ("look", 0, B)]
    viewer = viewer_of(C, [*held, ("emit", A, 0), ("relay to one", A, B), ("go", B, C)], 0)
    assert (viewer.seen, viewer.was_told) == (["c1", "a2"], True)


def test_a_viewer_is_told_when_a_worker_no_longer_holds_its_own_event() -> None:
    held = [("emit", A, 0), ("look", 0, A), ("emit", B, 0), ("look", 0, B), ("emit", B, 0)]
    viewer = viewer_of(A, [*held, ("go", B, A)], 0)
    assert (viewer.seen, viewer.was_told) == (["a1", "b2"], True)


def test_a_viewer_that_is_ahead_is_told_since_the_worker_cannot_know_which_of_its_own_it_saw() -> None:
    viewer = viewer_of(A, [("emit", B, 1), ("send", B, 0), ("read", A, 2), ("look", 0, A), ("go", B, A)])
    assert (viewer.seen, viewer.was_told) == (["b1"], True)


def test_a_viewer_is_told_when_its_place_is_in_a_stream_that_has_begun_anew_since() -> None:
    before = [("emit", A, 0), ("relay", A, 0), ("look", 0, B), ("begin anew", 0, 0), ("emit", C, 0)]
    viewer = viewer_of(
        B, [*before, ("relay", C, 0), ("look", 0, B), ("emit", A, 0), ("relay", A, 0), ("go", C, B)]
    )
    assert (viewer.seen, viewer.was_told) == (["a1", "c1", "a2"], True)


def test_what_was_sent_though_no_answer_came_is_seen_once_at_any_worker() -> None:
    sent = [("emit", A, 1), ("get no answer", A, 0), ("read", B, 2), ("look", 0, B), ("relay", A, 0)]
    viewer = viewer_of(B, [*sent, ("go", C, B), ("go", A, B), ("emit", A, 0), ("relay", A, 0)])
    assert (viewer.seen, viewer.was_told) == (["a1", "a2", "a3"], False)


def test_what_never_reached_the_server_is_sent_again_and_seen_once() -> None:
    viewer = viewer_of(
        B, [("emit", A, 1), ("send in vain", A, 0), ("relay", A, 0), ("look", 0, B), ("go", C, B)]
    )
    assert (viewer.seen, viewer.was_told) == (["a1", "a2"], False)


def test_a_viewer_that_is_ahead_and_comes_back_is_told_what_it_does_not_get_in_doubt() -> None:
    """At a worker that cannot know yet which of its own events it saw at another one."""
    ahead = [
        ("emit", B, 0),
        ("relay to one", B, C),
        ("look", 0, C),
        ("go", A, C),
        ("emit", A, 0),
        ("look", 0, C),
    ]
    viewer = viewer_of(C, [*ahead, ("emit", A, 0), ("break", A, C), ("emit", A, 0)])
    assert viewer.course == ["b1", "*go", "a1", "*go", "*told", "a3"]


@pytest.mark.parametrize("loss", ["begin anew", "restore"])
def test_a_viewer_is_told_of_what_never_reached_a_server_that_has_lost_something_since(loss: str) -> None:
    vain = [("emit", C, 0), ("relay", C, 0), ("emit", A, 1), ("send in vain", A, 0), (loss, 0, 0)]
    viewer = viewer_of(B, [*vain, ("relay", A, 0)])
    assert (viewer.seen, viewer.was_told) == (["c1", "a2"], True)


def test_what_was_lost_on_the_way_does_not_come_late_at_the_worker_that_has_it() -> None:
    lost = [("emit", A, 0), ("send in vain", A, 0), ("emit", A, 0), ("begin anew", 0, 0), ("relay", A, 0)]
    viewer = viewer_of(B, [*lost, ("look", 0, B), ("go", A, B), ("emit", A, 0)])
    assert (viewer.seen, viewer.was_told) == (["a2", "a3"], True)


def test_a_viewer_is_told_when_the_server_lost_what_a_worker_sent_that_is_gone_since() -> None:
    sent = [("emit", A, 0), ("send", A, 0), ("leave", A, 0)]
    for loss in ("begin anew", "restore"):
        viewer = viewer_of(B, [("emit", C, 0), ("relay", C, 0), *sent, (loss, 0, 0)])
        assert (viewer.seen, viewer.was_told) == (["c1"], True)


@pytest.mark.parametrize("loss", [[("restore", 0, 0)], [("trim", 0, 2), ("trim", 0, 2)]])
def test_what_was_lost_before_it_came_back_to_its_sender_does_not_come_twice_there(
    loss: list[tuple[str, int, int]],
) -> None:
    lost = [("emit", B, 0), ("relay to one", B, A), *loss, ("relay", A, 0), ("look", 0, A), ("go", B, A)]
    viewer = viewer_of(A, [*lost, ("emit", B, 0)])
    assert (viewer.seen, viewer.was_told) == (["b1", "b2"], True)


def test_a_viewer_sees_what_a_worker_sent_before_it_ended_and_after_it_has_started_again() -> None:
    ended = [("emit", A, 0), ("send", A, 0), ("restart", A, 1), ("emit", A, 0), ("relay", A, 0)]
    viewer = viewer_of(B, [*ended, ("look", 0, B), ("go", A, B), ("emit", A, 0)])
    assert (viewer.seen, viewer.was_told) == (["a1", "d1", "d2"], False)


def test_what_a_viewer_saw_before_its_worker_had_read_anything_of_a_new_stream_does_not_come_again() -> None:
    anew = [
        ("emit", A, 0),
        ("begin anew", 0, 0),
        ("send", A, 0),
        ("emit", A, 0),
        ("emit", A, 0),
        ("look", 0, A),
    ]
    gone = [("go", B, A), ("read", B, 0), ("emit", B, 0), ("look", 0, A), ("relay to one", A, B)]
    assert viewer_of(A, [*anew, *gone]).seen == ["a1", "a2", "a3", "b1"]


def test_what_a_viewer_saw_is_in_all_ids_of_a_worker_that_has_it_no_longer_but_knows_that_it_came() -> None:
    """Events of its own that were on their way to the viewer when the worker had not begun to read."""
    young = [("emit", C, 0), ("relay", C, 0), *[("restart", A, B)] * (BACKFILL + 1), ("go", A, B)]
    assert viewer_of(B, [*young, ("emit", A, 1), ("go", B, B)]).seen == ["c1", "g1", "g2"]


def test_a_viewer_that_saw_only_the_own_events_of_a_worker_keeps_what_it_saw_before() -> None:
    before = [
        ("emit", C, 0),
        ("relay", C, 0),
        ("begin anew", 0, 0),
        ("relay", B, 0),
        ("emit", B, 0),
        ("look", 0, B),
    ]
    young = [("restart", A, B), ("go", A, B), ("emit", A, 0), ("look", 0, B)]
    viewer = viewer_of(B, [*before, *young, ("go", C, B)])
    assert viewer.seen == ["c1", "b1", "d1"]


def go_round(names: str) -> Viewer:
    """Return a viewer that has gone twice to each of some workers, which cannot reach the server."""
    stream = Stream()
    workers = [Worker(name, stream, 1000, 1000) for name in names]
    for worker in workers * 2:
        worker.read(100)
    viewer = Viewer(workers[0])
    for worker in workers * 2:
        worker.emit(1)
        viewer.go(worker)
        worker.emit(1)
        viewer.look()
    return viewer


def test_a_viewer_that_goes_round_many_workers_while_the_server_is_away_sees_nothing_twice() -> None:
    viewer = go_round("abcdefgh")
    viewer.check()
    assert len(viewer.seen) == 32
    assert not viewer.was_told
    assert len(viewer.last_id) <= MAX_LAST_EVENT_ID


def test_a_viewer_that_has_been_at_more_workers_than_an_id_can_say_is_told_so() -> None:
    course = go_round("abcdefghijk").course
    assert course[course.index("k2") :][:3] == ["k2", GO, TOLD]


@pytest.mark.parametrize(("epoch", "ms"), [(b"1", NOW), (b"1", 0), (b"f", NOW)])
def test_what_a_viewer_saw_at_a_worker_that_is_gone_is_forgotten_after_a_while(epoch: bytes, ms: int) -> None:
    trail = Trail(b"ffffffff")
    for name, now in ((b"1", NOW), (b"2", NOW + 1)):
        trail.begin(name, START, 0)
        trail.read_to(Spot(now, 0, 0))
    seen = (Sight(b"00000000", 5, epoch, Spot(ms, 0, 0)),)
    trail.read_to(Spot(NOW + FORGET_MS, 0, 0))
    assert trail.not_passed(seen) == seen
    trail.read_to(Spot(NOW + FORGET_MS + 2, 0, 0))
    assert trail.not_passed(seen) == ()


@pytest.mark.parametrize("loss", [[("begin anew", 0, 0)], [("trim", 0, 2), ("trim", 0, 2)]])
def test_what_a_viewer_saw_before_the_server_lost_it_does_not_come_again_at_another_worker(
    loss: list[tuple[str, int, int]],
) -> None:
    seen = [("emit", B, 0), ("get no answer", B, 0), ("relay to one", A, C), ("look", 0, C), ("go", A, C)]
    assert viewer_of(C, [*seen, *loss]).seen == ["b1"]


def test_what_a_viewer_saw_before_a_loss_was_told_does_not_come_again() -> None:
    told = [("emit", C, 0), ("relay", C, 0), ("send", C, 0), ("restore", 0, 0), ("send", B, 0)]
    viewer = viewer_of(B, [*told, ("emit", B, 0), ("emit", B, 0), ("look", 0, B), ("go", A, B)])
    assert (viewer.seen, viewer.was_told) == (["c1", "b1", "b2"], True)


def test_what_a_viewer_saw_elsewhere_is_found_by_the_message_and_not_by_the_event() -> None:
    trail = Trail(b"ffffffff")
    trail.begin(b"1", START, 0)
    for number in range(20):
        trail.own += 256
        trail.echo(256 * number + 1, 256, Spot(2 * number, 0, 0))
        trail.add(256 * (2 * number + 1), 256, b"00000000", 256 * number + 1, Spot(2 * number + 1, 0, 0))
    seen = parse_seen("11111111-1.0.1.13-0.100")  # in hexadecimal digits: message 19
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        wanted = trail.unseen(0, 512 * 20, seen, replay=True)
    finally:
        sys.setprofile(None)
    assert wanted == [False] * (512 * 9 + 256 + 100) + [True] * (156 + 512 * 10)
    assert calls < 500


@settings(deadline=None)
@given(steps())
def test_a_viewer_that_changes_workers_sees_each_event_once(todo: list[tuple[str, int, int]]) -> None:
    play(todo, history=1000, capacity=1000)


@settings(deadline=None)
@given(steps(), st.integers(0, 8), st.integers(1, 8))
def test_a_viewer_is_told_when_a_worker_no_longer_holds_or_never_sent_what_it_did_not_see(
    todo: list[tuple[str, int, int]], history: int, capacity: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vizpipe_trio._log, "TRIM_AT", 1)
        play(todo, history, capacity)


@settings(deadline=None)
@given(steps("begin anew", "restore", "trim", "leave", "restart"), st.sampled_from([0, 3, 1000]))
def test_a_viewer_is_told_when_the_server_may_have_lost_what_it_did_not_see(
    todo: list[tuple[str, int, int]], history: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vizpipe_trio._log, "TRIM_AT", 1)
        play(todo, history, capacity=1000)
