"""Placeholders of file templates: `{{owner}}` and three others, in one pass, nothing else.

`${{ … }}` belongs to GitHub Actions and is left as it stands; `\\{{ … }}` writes `{{ … }}`.
There is no expression language on purpose: what a repository is called must never become code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

PLACEHOLDERS: Final = ("owner", "repository", "full_name", "default_branch")

_BRACES = re.compile(r"(?<!\$)(?P<escape>\\?)\{\{\s*(?P<name>[^{}\n]*?)\s*\}\}")


def unknown_placeholders(template: str) -> list[tuple[int, str]]:
    """Return (line, name) of every placeholder that `render` would not know, lines from 1."""
    return [
        (template.count("\n", 0, match.start()) + 1, match["name"])
        for match in _BRACES.finditer(template)
        if not match["escape"] and match["name"] not in PLACEHOLDERS
    ]


def render(template: str, values: Mapping[str, str]) -> str:
    """Fill in a template whose placeholders are known; a value is never expanded again."""

    def fill(match: re.Match[str]) -> str:
        if match["escape"]:
            return match[0][1:]
        return values[match["name"]]

    return _BRACES.sub(fill, template)


def values_of(full_name: str, default_branch: str) -> dict[str, str]:
    """Return the value of every placeholder for one repository."""
    owner, _, repository = full_name.partition("/")
    return {
        "owner": owner,
        "repository": repository,
        "full_name": full_name,
        "default_branch": default_branch,
    }
