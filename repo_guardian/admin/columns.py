"""Plain text for a terminal: aligned columns, times, ages, and nothing that a terminal would obey (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

_GAP: Final = "  "
#: A shortened cell keeps so much, however narrow the terminal is.
_LEAST: Final = 12


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    elastic: int = -1,
) -> str:
    """Columns under their names, as wide as their longest cell.

    Args:
        header: the names.
        rows: a cell for each name.
        width: of the terminal; None leaves every cell as long as it is.
        elastic: the column that is shortened where a line would be wider.
    """
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    if width is not None:
        rest = sum(widths) - widths[elastic] + len(_GAP) * (len(header) - 1)
        widths[elastic] = min(widths[elastic], max(width - rest, _LEAST))
    return "\n".join(
        _GAP.join(
            _shortened(cell, room).ljust(room) for cell, room in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    )


def printable(text: str, *, keep: str = "") -> str:
    """The text with everything that is no letter for the eye written out, such as `\\x1b`.

    Args:
        keep: control characters that may stay, such as a newline.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else _written_out(char) for char in text
    )


def json_printable(text: str) -> str:
    """JSON text with what `printable` would write out as JSON's own escapes; newlines stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else _json(char) for char in text)


def moment(at: datetime) -> str:
    """A UTC time to the second, as `2026-11-24 14:05:09Z`."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def age(seconds: float) -> str:
    """A time span in its largest unit, as `9s`, `3m`, `36h` or `4d`."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    if whole < 120 * 60:
        return f"{whole // 60}m"
    return f"{whole // 3600}h" if whole < 48 * 3600 else f"{whole // 86400}d"


def plural(count: int, one: str, many: str) -> str:
    """The number with the noun that fits, as `1 repository` or `2,048 repositories`."""
    return f"{count:,} {one if count == 1 else many}"


def _shortened(cell: str, room: int) -> str:
    return cell if len(cell) <= room else f"{cell[: room - 1]}…"


def _written_out(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _json(char: str) -> str:
    """JSON writes what is beyond its four digits as a pair of surrogates."""
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
