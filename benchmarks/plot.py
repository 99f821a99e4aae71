"""The picture for the README: what is delivered, and what the host's own requests feel."""

from pathlib import Path
from statistics import median
from typing import Any

from .report import RESULTS
from .scenarios.fanout import saturated

_OURS, _PEER, _LIMIT = "#0f766e", "#94a3b8", "#cbd5e1"


def draw(raw: dict[str, list[Any]]) -> Path:
    """Draw both panels from what the scenarios have measured, and return where."""
    import matplotlib as mpl  # noqa: PLC0415 - all else works without it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")

    fanout = raw["fanout"]
    names = [name for name in ("one write", "sse-starlette", "better-sse", "ours") if name in fanout[0]]
    values = [median(saturated(once[name])["delivered"] for once in fanout) for name in names]
    for name in ("stack", "bare"):
        names.append(name)
        values.append(median(once[name]["delivered"] for once in fanout))
    labels = {
        "one write": "Quart-Trio,\none write per event",
        "ours": "vizpipe-trio",
        "stack": "the stack with\nnothing to do",
        "bare": "bare socket.send",
    }
    colours = {"ours": _OURS, "stack": _LIMIT, "bare": _LIMIT}
    bars = left.barh(
        [labels.get(name, name) for name in names], values, color=[colours.get(n, _PEER) for n in names]
    )
    left.bar_label(bars, [f" {value:,.0f}" for value in values])
    left.set_xscale("log")
    left.set_xlim(min(values) / 3, max(values) * 12)
    left.set_title("Delivered events/s, 100 viewers, one core (log scale)", fontsize=10, loc="left")

    host = raw["host"]
    steps = {
        "alone": "no viewer",
        "crowd": "1000 viewers\n× 100 events/s",
        "hall": "5000 viewers\n× 20 events/s",
    }
    for offset, which, colour in ((-0.2, "median", _OURS), (0.2, "p99", _PEER)):
        heights = [1000 * median(once[step]["ping"][which] for once in host) for step in steps]
        bars = right.bar(
            [place + offset for place in range(len(steps))], heights, 0.38, color=colour, label=which
        )
        right.bar_label(bars, [f"{height:.1f}" for height in heights])
    right.set_xticks(range(len(steps)), list(steps.values()))
    right.set_yscale("log")
    right.set_ylim(0.3, 4 * right.dataLim.y1)
    right.legend(frameon=False, loc="upper left")
    right.set_title("The host's own request, GET /ping, in ms (log scale)", fontsize=10, loc="left")

    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "plot.png"
    figure.savefig(path, dpi=160, facecolor="white")
    return path
