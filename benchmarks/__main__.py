"""``python -m benchmarks [--quick] [--only NAME ...]``: measure, print the table, keep the results.

Exits with 1 if a target was missed, or something with a target could not be measured.
"""

import argparse
import os
import sys
import time
from typing import Any

from .machine import CORES, LOAD_CORE, SERVER_CORE, busy_seconds, own_seconds, raise_file_limit
from .plan import FULL, QUICK
from .plot import draw
from .report import DOCUMENT, save, table, write_table
from .scenarios import ALL

FILES = 5500
"""Open files that a process of five thousand connections needs."""
QUIET = 0.03
"""The share of the cores that others may take."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="The two laws as measured ratios."
    )
    parser.add_argument("--quick", action="store_true", help="one minute, one repetition: a rough look")
    parser.add_argument(
        "--only", nargs="+", choices=ALL, default=list(ALL), help="not everything", metavar="NAME"
    )
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL

    raise_file_limit(FILES)
    os.sched_setaffinity(0, {LOAD_CORE})
    if SERVER_CORE == LOAD_CORE:
        _say("there is one core only: the server and the load share it, and no figure is worth much")
    began, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    raw: dict[str, list[Any]] = {name: [] for name in arguments.only}
    for repetition in range(plan.repetitions):
        for name in arguments.only:
            _say(f"{time.monotonic() - began:4.0f} s  {name}, {repetition + 1} of {plan.repetitions}")
            raw[name].append(ALL[name].measure(plan, raw[name]))
    seconds = time.monotonic() - began
    disturbance = (busy_seconds() - busy - (own_seconds() - own)) / seconds / CORES

    rows = [row for name in arguments.only for row in ALL[name].rows(raw[name])]
    path = save(rows, raw, quick=arguments.quick, seconds=round(seconds), disturbance=disturbance)
    print(table(rows))
    print(f"\n{seconds:.0f} s; results in {path}")
    if arguments.only == list(ALL) and not arguments.quick:
        print(f"plot in {draw(raw)}")
        write_table(rows, DOCUMENT)
    if disturbance > QUIET:
        print(f"THE MACHINE WAS NOT QUIET: others took {disturbance:.0%} of its cores. Measure again.")
    return int(any(row.verdict in {"FAIL", "not measured"} and row.target != "reported" for row in rows))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
