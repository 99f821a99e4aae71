"""The table and the results file."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .machine import describe
from .rows import Row, format_value

RESULTS = Path(__file__).parent / "results"

_HEAD = ("figure", "target", "median", "min – max", "")


def table(rows: list[Row]) -> str:
    """Return the rows as text, in columns."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths[:-1]))
    return "\n".join(text)


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    if not row.samples:
        return row.name, row.target, "–", "–", row.verdict
    figure = format_value(row.figure, row.unit)
    spread = f"{format_value(min(row.samples), '')} – {format_value(max(row.samples), '')}"
    if row.judge == "worst":
        figure += " (worst)"
    return row.name, row.target, figure, spread, row.verdict


def save(rows: list[Row], raw: dict[str, list[Any]], **run: Any) -> Path:
    """Write everything that was measured, with what ``run`` says about it, and return where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / ("quick.json" if run["quick"] else "latest.json")
    results = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        **run,
        "machine": describe(),
        "rows": [
            {
                "figure": row.name,
                "target": row.target,
                "unit": row.unit,
                "value": row.figure if row.samples else None,
                "samples": row.samples,
                "verdict": row.verdict,
            }
            for row in rows
        ],
        "raw": raw,
    }
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path
