"""The machine: its cores and limits, and what a process has used of it."""

import os
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_OURS = sorted(os.sched_getaffinity(0))
SERVER_CORE = _OURS[0]
LOAD_CORE = _OURS[-1]
CORES = os.cpu_count() or 1

_PACKAGES = (
    "vizpipe-trio", "trio", "msgspec", "quart", "quart-trio", "hypercorn", "h11",
    "sse-starlette", "starlette", "uvicorn", "uvloop", "httptools",
)  # fmt: skip


def raise_file_limit(needed: int) -> None:
    """Allow this process and its children as many open files as the system lets them.

    Raises:
        SystemExit: That is less than what is needed.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"{needed} open files are needed, and the system allows {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process so far, user and system."""
    # clock_getcpuclockid(3) of the process, which Python lacks: ~pid, and 2 for exact time.
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def busy_seconds() -> float:
    """Return how long all cores together have been busy so far, with anything."""
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal.
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Return the CPU time of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def describe() -> dict[str, object]:
    """Return what the figures depend on, for the results file."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    return {
        "cpu": cpu,
        "cores": CORES,
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        "load_average": os.getloadavg()[0],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
