"""The doctor's rows as text and as JSON. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from repo_guardian.doctor.rows import Check, Result, Row

_RESULT_WIDTH: Final = max(len(result.value) for result in Result)
_CHECK_WIDTH: Final = max(len(check.value) for check in Check)
_INDENT: Final = " " * (_RESULT_WIDTH + _CHECK_WIDTH + 4)


def has_failed(rows: Sequence[Row]) -> bool:
    """Whether something must be mended."""
    return any(row.result is Result.FAILED for row in rows)


def as_table(rows: Sequence[Row]) -> str:
    """A line for each row, its fix below it, and a sum at the end."""
    return "\n".join([*(line for row in rows for line in _lines(row)), "", _sum(rows)])


def as_json(rows: Sequence[Row]) -> str:
    """`ok`, and the rows with all their fields."""
    return json.dumps({"ok": not has_failed(rows), "rows": [asdict(row) for row in rows]}, indent=2)


def _lines(row: Row) -> list[str]:
    said = f"{row.code}: {row.message}" if row.code else row.message
    line = f"{row.result.value:<{_RESULT_WIDTH}}  {row.check.value:<{_CHECK_WIDTH}}  {said}"
    return [line, f"{_INDENT}fix: {row.fix}"] if row.fix else [line]


def _sum(rows: Sequence[Row]) -> str:
    count = Counter(row.result for row in rows)
    return ", ".join(f"{count[result]} {result.value}" for result in Result if count[result])
