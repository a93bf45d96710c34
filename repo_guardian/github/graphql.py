"""GraphQL documents from `queries/`, and what GraphQL answers when it does not answer."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_QUERIES: Final = importlib.resources.files("repo_guardian.github") / "queries"
_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_SPREAD: Final = re.compile(r"\.\.\.\s*(?!on\b)(\w+)")


@dataclass(frozen=True, slots=True)
class GraphQLError:
    """One entry of `errors`: its type (`NOT_FOUND`, `FORBIDDEN`, …; may be empty), text, place."""

    type: str
    message: str
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class GraphQLAnswer:
    """Data and errors side by side: GitHub gives both when only a part could not be had."""

    data: dict[str, Any]
    errors: tuple[GraphQLError, ...] = ()


def parse_answer(document: Any) -> GraphQLAnswer:
    """Read GitHub's JSON answer; ValueError when it is none."""
    if not isinstance(document, dict) or not ("data" in document or "errors" in document):
        raise ValueError("expected an object with data or errors")
    listed = document.get("errors") or ()
    if not all(isinstance(error, dict) for error in listed):
        raise ValueError("expected errors that are objects")
    if document.get("data") is None and not listed:
        raise ValueError("expected data, got null")
    problems = tuple(
        GraphQLError(
            type=str(error.get("type") or ""),
            message=str(error.get("message") or ""),
            path=tuple(error.get("path") or ()),
        )
        for error in listed
    )
    return GraphQLAnswer(document.get("data") or {}, problems)


def compose(operation: str, *generated: str) -> str:
    """Return an operation's text with the fragments that it uses, and no others.

    Args:
        operation: name of a file in `queries/` without its suffix.
        generated: fragments that are made at run time and belong to this operation.
    """
    parts = [_read(f"{operation}.graphql"), *generated]
    own = {name for part in generated for name in re.findall(r"fragment (\w+) on", _bare(part))}
    known = set(own)
    for part in parts:  # grows while it is read: a fragment may use others
        for name in _SPREAD.findall(_bare(part)):
            if name not in known:
                known.add(name)
                parts.append(_read(f"fragments/{name}.graphql"))
    return "\n".join(parts)


def watched_fragment(paths: Sequence[str], branch: str) -> str:
    """Return the fragment `Watched`: each path on the default branch (`d0`…) and on `branch` (`b0`…).

    Paths become string literals in JSON's escaping, which is GraphQL's, so that no path can
    break out of its literal.
    """
    lines = ["fragment Watched on Repository {", "  id"]
    for prefix, revision in (("d", "HEAD"), ("b", f"refs/heads/{branch}")):
        lines += [
            f"  {prefix}{number}: object(expression: {json.dumps(f'{revision}:{path}')}) {{ ...Entry }}"
            for number, path in enumerate(paths)
        ]
    return "\n".join([*lines, "}"])


def _bare(text: str) -> str:
    """The text without what its string literals say: a path may look like GraphQL."""
    return _STRING.sub('""', text)


@functools.cache
def _read(name: str) -> str:
    return _QUERIES.joinpath(name).read_text("utf-8")
