"""The policy as values: which files a repository must have, and which repositories are asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class FileRule:
    """A file that every repository must have, at any one of several paths.

    Args:
        name: lower-case name of the rule in the policy, in findings and in pull requests.
        paths: the file may lie at any of these; the first that exists satisfies the rule.
        target: where we add it when it lies at none of them; one of `paths`.
        content: template of the file that we add (see `rules.templates`).
        enabled: a rule that is not enabled is never asked.
        why: one or two sentences for the reader of the pull request.
    """

    name: str
    paths: tuple[str, ...]
    target: str
    content: str
    enabled: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Which repositories are left alone as a whole."""

    skip_archived: bool = True
    skip_forks: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules, in the order in which people read them, and where they were written."""

    rules: tuple[FileRule, ...]
    source: str = "the built-in policy"
    limits: Limits = field(default_factory=Limits)

    @property
    def enabled_rules(self) -> tuple[FileRule, ...]:
        """The rules that are asked."""
        return tuple(rule for rule in self.rules if rule.enabled)

    def rule(self, name: str) -> FileRule:
        """Return the rule of this name; KeyError when there is none."""
        return {rule.name: rule for rule in self.rules}[name]

    @property
    def watched_paths(self) -> tuple[str, ...]:
        """Every path to look up in a repository: those of the rules and the folders above them.

        The folders matter because a file of the same name would be in the way of ours.
        """
        paths = [path for rule in self.enabled_rules for path in rule.paths]
        parents = [parent for path in paths for parent in parent_paths(path)]
        return tuple(dict.fromkeys([*paths, *parents]))


def parent_paths(path: str) -> list[str]:
    """Return the folders above a path, nearest first, without the root: `a/b/c` → `a/b`, `a`."""
    return [str(parent) for parent in PurePosixPath(path).parents if parent.name]
