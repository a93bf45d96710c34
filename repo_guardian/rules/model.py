"""What a rule says about a repository."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """Result of one rule on one repository. `error` is counted neither as pass nor as fail."""

    PASS = "pass"  # noqa: S105 - a state
    FAIL = "fail"
    #: The question does not arise now: the repository is left alone, or someone is on it.
    SKIPPED = "skipped"
    #: The repository need not fulfil the rule.
    EXEMPT = "exempt"
    #: We could not tell, or we cannot help.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's result.

    Args:
        rule: name of the rule.
        state: what came out.
        path: where the file lies (pass), or where it would be added (fail); else empty.
        why: one sentence for people.
    """

    rule: str
    state: State
    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What rules need to know of our own open pull request: its number, the rules it asks for."""

    number: int
    rules: frozenset[str]
