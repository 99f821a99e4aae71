"""The table and the results file."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .machine import describe
from .rows import Row, format_value

RESULTS = Path(__file__).parent / "results"

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
_BEGIN, _END = "<!-- The table is written by make bench. -->", "<!-- The end of the table. -->"

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
    if len(row.samples) == 1:
        spread = "measured once"
    if row.judge == "worst":
        figure += " (worst)"
    return row.name, row.target, figure, spread, row.verdict


def write_table(rows: list[Row], document: Path) -> None:
    """Put the rows into a document, between its two marks."""
    before, _, rest = document.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    document.write_text(f"{before}{_BEGIN}\n{markdown([_cells(row) for row in rows])}\n{_END}{after}")


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows that a results file calls ``cells`` as a table in Markdown."""
    lines = [_HEAD, ("---",) * len(_HEAD), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    for plain, typeset in (("<=", "≤"), (">=", "≥"), (" x ", " × "), ("FAIL", "**short**")):
        text = text.replace(plain, typeset)
    return text


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
                "cells": _cells(row),
            }
            for row in rows
        ],
        "raw": raw,
    }
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path
