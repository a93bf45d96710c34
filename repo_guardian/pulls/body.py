"""What people read: the title and the text of our pull request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from repo_guardian.github.model import Snapshot, blob_oid
from repo_guardian.policy.model import Policy
from repo_guardian.pulls.identity import BRANCH, Marker, render_marker

_TITLE_START: Final = "chore: add "

_NAMES_NOBODY: Final = (
    "**It names nobody yet.** Every line is a comment, so merging it as it is changes nothing: "
    "add at least one line with owners, here in this pull request or later."
)

_WHAT_NOW: Final = """\
### What now

- **Take it:** merge this pull request.
- **Change it first:** commit to the branch `{branch}`. From then on it is yours: `{app}` will \
not touch it again.
- **Do it another way:** add the file yourself; this pull request then closes itself.
- **Decline:** close this pull request without merging. That is remembered, and these files are \
not asked for again. Reopen it to change your mind."""


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file that we propose.

    Args:
        rule: the rule that asks for it.
        path: where it is added.
        content: its bytes.
        why: why the policy wants it.
        gap: what was found instead of it.
    """

    rule: str
    path: str
    content: bytes
    why: str
    gap: str

    @property
    def oid(self) -> str:
        """The git object id that this content has once it is committed."""
        return blob_oid(self.content)


def marker_for(files: Sequence[WantedFile]) -> Marker:
    """Return the marker of a pull request that proposes these files.

    The hash covers the files and what the text says about them, so that a changed reason in the
    policy renews the text, and an upgrade of this program alone does not.
    """
    facts = [[file.rule, file.path, file.oid, file.why] for file in files]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return Marker(frozenset(file.rule for file in files), digest[:16])


def render_title(files: Sequence[WantedFile]) -> str:
    """Return the title: the files by name as long as that stays short."""
    paths = [file.path for file in files]
    if len(paths) > 3:
        return f"{_TITLE_START}{len(paths)} missing files"
    names = paths[0] if len(paths) == 1 else ", ".join(paths[:-1]) + " and " + paths[-1]
    return _TITLE_START + names


def is_generated_title(title: str) -> bool:
    """Tell whether a title is still one of ours; people's own wording is kept."""
    return title.startswith(_TITLE_START)


def render_body(policy: Policy, snapshot: Snapshot, files: Sequence[WantedFile]) -> str:
    """Return the text: every file with its reason and its rule, what to do, how to decline."""
    count = "a file" if len(files) == 1 else f"{len(files)} files"
    sections = [
        f"This repository lacks {count} that {policy.source} asks for.",
        *(_file_section(file) for file in files),
        _what_now(snapshot),
        render_marker(marker_for(files)),
    ]
    return "\n\n".join(sections) + "\n"


def render_closed_body(reason: str, marker: Marker) -> str:
    """Return the text of a pull request that we close ourselves."""
    return f"Closed by its author: {reason}.\n\n{render_marker(marker)}\n"


def _file_section(file: WantedFile) -> str:
    lines = [f"### `{file.path}`", "", *([file.why, ""] if file.why else [])]
    lines += [f"Rule `{file.rule}`: {file.gap}."]
    if PurePosixPath(file.path).name == "CODEOWNERS" and _is_only_comments(file.content):
        lines += ["", _NAMES_NOBODY]
    return "\n".join(lines)


def _is_only_comments(content: bytes) -> bool:
    lines = [line.strip() for line in content.decode().splitlines()]
    return all(line.startswith("#") for line in lines if line)


def _what_now(snapshot: Snapshot) -> str:
    return _WHAT_NOW.format(branch=BRANCH, app=snapshot.app_slug)
