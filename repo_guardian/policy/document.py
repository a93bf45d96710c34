"""One policy document as checked values: YAML nodes in, rules with their line numbers out.

Works on nodes and not on plain Python objects, because only nodes know their lines and still
show a key that was written twice. `load` alone reads files.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from repo_guardian.errors import GuardianError

_RULE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_MAX_WHY: Final = 500

Items = dict[str, tuple[Node, Node]]


@dataclass(slots=True)
class Problems:
    """Collects every mistake, so that one run shows them all."""

    lines: list[str] = field(default_factory=list)

    def add(self, source: str, line: int | None, problem: str) -> None:
        """Remember one mistake, at a line (from 1) of a file where that is known."""
        place = source if line is None else f"{source}:{line}"
        self.lines.append(f"{place}: {problem}")

    def raise_if_any(self) -> None:
        """Raise POLICY_INVALID with all mistakes; do nothing when there are none."""
        if self.lines:
            raise GuardianError(
                "POLICY_INVALID",
                "the policy has mistakes:\n  " + "\n  ".join(self.lines),
                hint="mend these lines; `repo-guardian check OWNER/REPO` shows what a policy does",
            )


@dataclass(frozen=True, slots=True)
class RawRule:
    """A rule as written; None and an empty tuple mean that this document does not say."""

    name: str
    source: str
    line: int
    enabled: bool | None = None
    paths: tuple[str, ...] = ()
    target: str | None = None
    template: str | None = None
    content: str | None = None
    why: str | None = None

    @property
    def label(self) -> str:
        """How messages call this rule."""
        return f"rules.{self.name}"

    def over(self, lower: RawRule) -> RawRule:
        """Lay this rule over the one below it: what is written here wins.

        New paths drop the old target, and content and template replace each other, since either
        would contradict what was written here.
        """
        written = {
            name: value
            for name in ("enabled", "paths", "target", "template", "content", "why")
            if (value := getattr(self, name)) not in (None, ())
        }
        if "paths" in written and lower.target not in self.paths:
            written.setdefault("target", None)
        if "content" in written or "template" in written:
            written.setdefault("content", None)
            written.setdefault("template", None)
        return dataclasses.replace(lower, source=self.source, line=self.line, **written)


def mapping_items(node: Node, source: str, what: str, problems: Problems) -> Items:
    """Return key → (key node, value node) of a mapping; a repeated key is a mistake."""
    items: Items = {}
    if not isinstance(node, MappingNode):
        problems.add(source, _line(node), f"{what} is {_kind(node)}; expected names with values")
        return items
    for key, value in node.value:
        name = str(key.value)
        if name in items:
            problems.add(source, _line(key), f"{what} has {name} twice")
        items[name] = (key, value)
    return items


def read_rules(items: Items, source: str, problems: Problems) -> dict[str, RawRule]:
    """Read the top of a document: `version` and `rules`."""
    _refuse_unknown(items, ("version", "rules"), source, "the policy", problems)
    version = items.get("version")
    if version is None:
        problems.add(source, 1, "version is missing; expected version: 1")
    elif version[1].value != "1":
        problems.add(source, _line(version[1]), "expected version: 1")
    if "rules" not in items:
        return {}
    rules = mapping_items(items["rules"][1], source, "rules", problems)
    return {name: _read_rule(name, *nodes, source, problems) for name, nodes in rules.items()}


def _read_rule(name: str, key: Node, node: Node, source: str, problems: Problems) -> RawRule:
    rule = RawRule(name, source, _line(key))
    if not _RULE_NAME.fullmatch(name):
        problem = f"rules has the name {name!r}; expected at most 40 of a-z, 0-9, - and _"
        problems.add(source, rule.line, problem)
    items = mapping_items(node, source, rule.label, problems)
    _refuse_unknown(items, tuple(_READERS), source, rule.label, problems)
    if "template" in items and "content" in items:
        problems.add(source, rule.line, f"{rule.label} has both content and template; expected one")
    values: dict[str, object] = {}
    for field_name in items.keys() & _READERS.keys():
        value_node = items[field_name][1]
        try:
            values[field_name] = _READERS[field_name](value_node)
        except ValueError as error:
            problems.add(source, _line(value_node), f"{rule.label}.{field_name}: {error}")
    return dataclasses.replace(rule, **values)  # type: ignore[arg-type]


def _refuse_unknown(
    items: Items, known: tuple[str, ...], source: str, what: str, problems: Problems
) -> None:
    for name in items.keys() - set(known):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
        problems.add(source, _line(items[name][0]), f"{what} has no {name}; {hint}")


def _read_bool(node: Node) -> bool:
    if isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:bool":
        return str(node.value).lower() in ("true", "yes", "on")
    raise ValueError(f"expected true or false, got {_kind(node)}")


def _read_text(node: Node) -> str:
    if isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:str":
        return str(node.value)
    raise ValueError(f"expected text, got {_kind(node)}")


def _read_content(node: Node) -> str:
    text = _read_text(node)
    if not text.strip():
        raise ValueError("expected the text of the file, got nothing")
    return text


def _read_why(node: Node) -> str:
    text = _read_text(node).strip()
    if len(text) > _MAX_WHY:
        raise ValueError(f"expected at most {_MAX_WHY} characters, got {len(text)}")
    return text


def _read_path(node: Node) -> str:
    """Read a path inside a repository: relative, forward slashes, nothing clever."""
    text = _read_text(node)
    parts = text.split("/")
    is_odd = any(part in ("", ".", "..") or part.rstrip(". ").lower() == ".git" for part in parts)
    if is_odd or "\\" in text or not text.isprintable() or str(PurePosixPath(text)) != text:
        raise ValueError(
            f"expected a path in the repository such as .github/CODEOWNERS, got {text!r}"
        )
    return text


def _read_paths(node: Node) -> tuple[str, ...]:
    if not isinstance(node, SequenceNode) or not node.value:
        raise ValueError(f"expected a list of paths, got {_kind(node)}")
    return tuple(dict.fromkeys(_read_path(item) for item in node.value))


_READERS: Final[dict[str, Callable[[Node], object]]] = {
    "enabled": _read_bool,
    "paths": _read_paths,
    "target": _read_path,
    "template": _read_text,
    "content": _read_content,
    "why": _read_why,
}


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(node: Node) -> str:
    if isinstance(node, SequenceNode):
        return "a list" if node.value else "an empty list"
    if isinstance(node, MappingNode):
        return "names with values"
    return f"the value {node.value}" if node.value else "nothing"
