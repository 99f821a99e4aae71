"""The soak: a saturated pipe, viewers that come and go in every way, for as long as is asked.

    python tests/soak.py --seconds 600 --into docs/soak     what `make soak` does

It holds the server to what its viewers read from their sockets, writes its figures as JSON and,
where Matplotlib is installed, a plot. It ends with an error if a promise was not kept.
"""

import argparse
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio
from soak_viewers import VISITS, Account, stay
from support import STATS, get

STEADY = 4
"""Viewers that stay from the first event to the last, and read all there is."""

SLOW = 2
"""Viewers that stay as well, and do not keep up."""

VISITORS = 24
"""Viewers that come and go, at any moment."""

WARM_UP = 0.25
"""The share of the time after which memory must not grow any more."""

MAX_GROWTH = 12.0
"""Megabytes that the server's memory may grow by between then and the end. In a soak of a minute
it still fills its queues and the allocator its arenas: 7 of 100 were seen. A leak of a byte an event,
or of a few kilobytes a viewer, is more than that in ten minutes."""

_LOGGED = re.compile(r".*Running on http.*|\d+ times: an event was left out as invalid; .*")
"""What the server logs when nothing is wrong with it: its address, and the host's own bad events."""


class Soak:
    """A server in a process of its own, its viewers, and what was seen of it."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid
        self.visits = 0
        self.accounts: list[Account] = []
        self.samples: list[dict[str, float]] = []
        self._began = time.monotonic()

    def files(self) -> int:
        """Return how many files the server has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory(self) -> float:
        """Return the server's resident memory, in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6

    async def statistics(self) -> dict[str, int]:
        """Return the pipe's account, which has to add up at any moment."""
        now: dict[str, int] = (await get(self.url, STATS)).json()
        assert now["emitted"] == now["dropped"] + now["invalid"] + now["broadcast"] + now["queued"], now
        return now

    async def sample(self) -> None:
        """Note the server's state, and how long the host's own request took."""
        began = time.monotonic()
        assert (await get(self.url, "/ping")).text == "pong"
        ping = time.monotonic() - began
        now = await self.statistics()
        self.samples.append({
            "second": round(began - self._began, 2), "ping_ms": round(ping * 1000, 1),
            "memory_mb": round(self.memory(), 2), "files": self.files(),
            **{name: now[name] for name in ("emitted", "dropped", "broadcast", "delivered", "missed", "clients")},
        })  # fmt: skip

    async def keep_sampling(self, every: float) -> None:
        while True:
            await self.sample()
            await trio.sleep(every)

    async def keep_visiting(self) -> None:
        while True:
            with suppress(OSError, EOFError, trio.BrokenResourceError):  # given up, as a stuck one is
                await random.choice(VISITS)(self.url)
            self.visits += 1
            await trio.sleep(random.uniform(0, 0.2))

    async def run(self, seconds: float, end: Callable[[], None]) -> dict[str, int]:
        """Let viewers come and go for so long, then end the server; return what they left behind."""
        async with trio.open_nursery() as residents:
            for number in range(STEADY + SLOW):
                self.accounts.append(Account())
                pause = 0.25 if number >= STEADY else 0.0
                residents.start_soon(stay, self.url, self.accounts[-1], pause)
            while (await self.statistics())["clients"] < STEADY + SLOW:  # noqa: ASYNC110 - another process's
                await trio.sleep(0.01)
            await trio.sleep(0.5)  # the connections that asked are gone by then
            files_before = self.files()
            await get(self.url, "/begin")
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.keep_sampling, min(1.0, seconds / 40))
                    for _ in range(VISITORS):
                        nursery.start_soon(self.keep_visiting)
            with trio.move_on_after(30):
                while self.files() > files_before:  # noqa: ASYNC110 - as above
                    await trio.sleep(0.1)
            files_after = self.files()
            left = (await self.statistics())["clients"] - STEADY - SLOW
            end()
        return {"clients_left_behind": left, "files_left_behind": files_after - files_before}


def verdict(
    soak: Soak, final: dict[str, Any], left: dict[str, int], log: str, max_growth: float
) -> dict[str, Any]:
    """Return the figures, and under ``broken`` the promises that were not kept."""
    account = final["statistics"]
    settled = soak.samples[int(len(soak.samples) * WARM_UP) :]
    third = max(len(settled) // 3, 1)
    memory = [sample["memory_mb"] for sample in settled]
    growth = statistics.median(memory[-third:]) - statistics.median(memory[:third])
    pings = sorted(sample["ping_ms"] for sample in soak.samples)
    seconds = soak.samples[-1]["second"]
    promises = {
        "each call of emit was counted once": final["calls"] == account["emitted"],
        "the metric was told of each drop": final["metric"] == account["dropped"],
        "emit said what became of the event": final["accepted"] == final["calls"] - account["dropped"],
        "the pipe's account adds up": account["emitted"]
        == account["dropped"] + account["invalid"] + account["broadcast"],
        "nothing was left in the pipe": account["queued"] == account["clients"] == 0,
        "each viewer that stayed read or was told of every event": all(
            viewer.events + viewer.missed["slow"] == account["broadcast"] for viewer in soak.accounts
        ),
        "each viewer that stayed was told of every drop": all(
            viewer.missed["overload"] == final["dropped_before_the_end"] for viewer in soak.accounts
        ),
        "it was saturated": account["dropped"] > 0 and any(v.missed["slow"] for v in soak.accounts),
        "no client was left behind": left["clients_left_behind"] == 0,
        "no file was left behind": left["files_left_behind"] <= 0,
        "memory was flat": growth < max_growth,
        "nothing else was logged": all(_LOGGED.fullmatch(line) for line in log.splitlines()),
        "faults were logged once in ten seconds": log.count("times:") <= seconds / 10 + 3,
    }
    return {
        "seconds": seconds,
        "visits": soak.visits,
        "emitted_per_second": round(account["emitted"] / seconds),
        "broadcast_per_second": round(account["broadcast"] / seconds),
        "delivered_per_second": round(account["delivered"] / seconds),
        "memory_growth_mb": round(growth, 2),
        "ping_ms_median": pings[len(pings) // 2],
        "ping_ms_p99": pings[len(pings) * 99 // 100],
        **left,
        "log": log,
        "broken": [promise for promise, kept in promises.items() if not kept],
        "final": final,
        "viewers": [{"events": viewer.events, **viewer.missed} for viewer in soak.accounts],
        "samples": soak.samples,
    }


async def soak(seconds: float, max_growth: float = MAX_GROWTH) -> dict[str, Any]:
    """Run a soak, and return its figures."""
    with tempfile.TemporaryFile("w+") as log, trio.fail_after(seconds + 90):
        command = [sys.executable, str(Path(__file__).with_name("soak_server.py"))]
        server = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=log)
        try:
            assert server.stdout is not None
            address = await server.stdout.receive_some()
            this = Soak(json.loads(address), server.pid)
            left = await this.run(seconds, server.terminate)
            final = b"".join([data async for data in server.stdout])
        finally:
            server.kill()
            with trio.CancelScope(shield=True):
                await server.wait()
        log.seek(0)
        return verdict(this, json.loads(final), left, log.read(), max_growth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--into", type=Path, help="where soak.json and soak.png go")
    arguments = parser.parse_args()
    figures = trio.run(soak, arguments.seconds)
    if arguments.into:
        write(figures, arguments.into)
    print(json.dumps({name: value for name, value in figures.items() if name != "samples"}, indent=1))  # noqa: T201 - a program
    if figures["broken"]:
        sys.exit("broken: " + "; ".join(figures["broken"]))


def write(figures: dict[str, Any], directory: Path) -> None:
    """Write the figures, one sample a line, and the plot where there is Matplotlib."""
    directory.mkdir(parents=True, exist_ok=True)
    samples = ",\n".join(json.dumps(sample) for sample in figures["samples"])
    text = json.dumps({**figures, "samples": []}, indent=1)
    (directory / "soak.json").write_text(text.replace('"samples": []', f'"samples": [\n{samples}\n]') + "\n")
    with suppress(ImportError):
        draw(figures, directory / "soak.png")


def draw(figures: dict[str, Any], path: Path) -> None:
    """Draw what was sampled over the time."""
    import matplotlib as mpl  # noqa: PLC0415 - all else works without it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    samples = figures["samples"]
    seconds = [sample["second"] for sample in samples]
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 5), sharex=True, layout="constrained")

    def panel(place: int, title: str, **lines: list[float]) -> None:
        axis = axes.flat[place]
        for (label, values), colour in zip(lines.items(), ("#0f766e", "#94a3b8"), strict=False):
            axis.plot(seconds[-len(values) :], values, color=colour, linewidth=1, label=label)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_ylim(0, 1.15 * max(map(max, lines.values())))
        if len(lines) > 1:
            axis.legend(frameon=False, loc="upper right", ncols=2)

    def rate(name: str) -> list[float]:
        return [
            (after[name] - before[name]) / (after["second"] - before["second"]) / 1000
            for before, after in pairwise(samples)
        ]

    panel(0, "Events per second, thousands", delivered=rate("delivered"), emitted=rate("emitted"))
    panel(1, "The server's memory, MB", memory=[sample["memory_mb"] for sample in samples])
    panel(
        2,
        "Open files, and viewers",
        files=[sample["files"] for sample in samples],
        viewers=[sample["clients"] for sample in samples],
    )
    panel(
        3,
        "Lost, events per second, thousands",
        missed=rate("missed"),
        dropped=rate("dropped"),
    )
    axes.flat[3].set(yscale="symlog", ylim=(0, 50 * max(rate("missed"))))
    for axis in axes[1]:
        axis.set_xlabel("seconds")
    figure.savefig(path, dpi=130, facecolor="white")  # pyright: ignore[reportUnknownMemberType] - Matplotlib's


if __name__ == "__main__":
    main()
