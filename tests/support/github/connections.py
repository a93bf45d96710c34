"""GraphQL pagination with GitHub's rules. https://docs.github.com/graphql/guides/using-pagination-in-the-graphql-api"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from tests.support.github.problems import ApiProblem

_MOST: Final = 100
Item = TypeVar("Item")


def connection(
    name: str,
    items: Sequence[Item],
    *,
    show: Callable[[Item], object],
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> dict[str, object]:
    """The part of `items` that the arguments ask for; only that part goes through `show`.

    Raises:
        ApiProblem: neither or too much was asked for.
    """
    _check(name, first, last)
    start = _position(after) if after else 0
    stop = _position(before) - 1 if before else len(items)
    start, stop = min(start, len(items)), max(0, min(stop, len(items)))
    if first is not None:
        stop = min(stop, start + first)
    elif last is not None:
        start = max(start, stop - last)
    nodes = [show(item) for item in items[start:stop]]
    return {
        "nodes": nodes,
        "totalCount": len(items),
        "pageInfo": {
            "startCursor": _cursor(start + 1) if nodes else None,
            "endCursor": _cursor(start + len(nodes)) if nodes else None,
            "hasPreviousPage": start > 0,
            "hasNextPage": start + len(nodes) < len(items),
        },
    }


def _check(name: str, first: int | None, last: int | None) -> None:
    if first is None and last is None:
        raise ApiProblem(
            200,
            "You must provide a `first` or `last` value to properly paginate the"
            f" `{name}` connection.",
            kind="MISSING_PAGINATION_BOUNDARIES",
        )
    for argument, value in (("first", first), ("last", last)):
        if value is not None and not 0 <= value <= _MOST:
            raise ApiProblem(
                200,
                f"Requesting {value} records on the `{name}` connection exceeds the"
                f" `{argument}` limit of {_MOST} records.",
                kind="EXCESSIVE_PAGINATION",
            )


def _cursor(position: int) -> str:
    return base64.b64encode(f"cursor:v2:{position}".encode()).decode()


def _position(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor, validate=True).decode()
        return int(text.removeprefix("cursor:v2:"))
    except ValueError as error:
        message = f"`{cursor}` does not appear to be a valid cursor."
        raise ApiProblem(200, message, kind="INVALID_CURSOR_ARGUMENTS") from error
