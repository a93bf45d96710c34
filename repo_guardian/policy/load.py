"""Reads the policy: the built-in one, a policy file over it, and templates from a folder.

All mistakes are reported together, each with file, line and what was expected.
"""

from __future__ import annotations

import importlib.resources
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from repo_guardian.policy.document import Problems, RawRule, mapping_items, read_rules
from repo_guardian.policy.model import FileRule, Limits, Policy, parent_paths
from repo_guardian.rules.templates import PLACEHOLDERS, unknown_placeholders

_BUILT_IN_TEMPLATES: Final = importlib.resources.files("repo_guardian.rules") / "content"
_BUILT_IN_POLICY: Final = importlib.resources.files("repo_guardian.policy") / "default.yml"
_BUILT_IN: Final = "the built-in policy"


@dataclass(frozen=True, slots=True)
class _Template:
    """Text of a template and the file that it came from, for messages."""

    text: str
    source: str


def load_policy(
    path: Path | None, *, template_dir: Path | None, limits: Limits | None = None
) -> Policy:
    """Return the policy that holds on this server.

    Args:
        path: the policy file; None for the built-in policy alone.
        template_dir: folder whose `NAME.tmpl` files replace the built-in templates; it may be
            absent, or None.
        limits: which repositories are left alone; the model's defaults when None.

    Raises:
        GuardianError: POLICY_INVALID, with every mistake of every file on a line of its own.
    """
    problems = Problems()
    rules = _parse(_BUILT_IN_POLICY.read_text("utf-8"), _BUILT_IN, problems)
    if path is not None:
        for name, rule in _parse(_read_text(path, problems), str(path), problems).items():
            rules[name] = rule.over(rules[name]) if name in rules else rule
    named = {rule.template for rule in rules.values() if rule.template}
    templates = _load_templates(template_dir, named, problems)
    complete = [_complete(rule, templates, problems) for rule in rules.values()]
    _refuse_collisions([rule for rule in rules.values() if rule.enabled is not False], problems)
    problems.raise_if_any()
    return Policy(
        rules=tuple(rule for rule in complete if rule is not None),
        source=f"the policy file {path.name}" if path is not None else _BUILT_IN,
        limits=limits or Limits(),
    )


def _read_text(path: Path, problems: Problems) -> str:
    if path.exists() and not path.is_file():
        problems.add(str(path), None, "is not a file")  # reading a pipe would wait for ever
        return ""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        problems.add(str(path), None, f"cannot be read ({error.strerror}); expected a YAML file")
    except UnicodeDecodeError:
        problems.add(str(path), None, "is not UTF-8 text")
    return ""


def _parse(text: str, source: str, problems: Problems) -> dict[str, RawRule]:
    """Read one policy document; nothing for an empty one or one that is not YAML."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problems.add(source, line, f"is not valid YAML: {error.problem}")
        return {}
    except RecursionError:
        problems.add(source, None, "is nested too deeply")
        return {}
    except yaml.YAMLError as error:
        problems.add(source, None, f"is not valid YAML: {error}")
        return {}
    if root is None:
        return {}
    return read_rules(mapping_items(root, source, "the policy", problems), source, problems)


def _refuse_collisions(rules: list[RawRule], problems: Problems) -> None:
    """Refuse rules of which one's file would be, or would lie in, the place of another's."""
    for first, second in itertools.combinations(rules, 2):
        other, rule = (second, first) if second.source == _BUILT_IN else (first, second)
        for path, taken in itertools.product(rule.paths, other.paths):
            if path == taken or path in parent_paths(taken) or taken in parent_paths(path):
                problem = f"{rule.label} has the path {path}, which collides with {taken} of"
                problems.add(rule.source, rule.line, f"{problem} {other.label}")


def _load_templates(
    folder: Path | None, named: set[str], problems: Problems
) -> dict[str, _Template]:
    templates = {
        item.name.removesuffix(".tmpl"): _Template(item.read_text("utf-8"), f"built-in {item.name}")
        for item in _BUILT_IN_TEMPLATES.iterdir()
        if item.name.endswith(".tmpl")
    }
    known = templates.keys() | named
    try:
        if folder is not None and folder.is_dir():
            templates |= _load_folder(folder, {f"{name}.tmpl" for name in known}, problems)
    except OSError as error:
        problems.add(str(folder), None, f"cannot be read ({error.strerror}); expected a folder")
    return templates


def _load_folder(folder: Path, known: set[str], problems: Problems) -> dict[str, _Template]:
    """Read the folder's templates. Hidden entries are Kubernetes' bookkeeping for a ConfigMap."""
    found = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.is_dir():
            continue
        if file.name not in known:
            names = ", ".join(sorted(known))
            problems.add(
                str(file), None, f"is no template that a rule uses; expected one of {names}"
            )
            continue
        found[file.stem] = _Template(_read_text(file, problems), str(file))
    return found


def _complete(
    rule: RawRule, templates: dict[str, _Template], problems: Problems
) -> FileRule | None:
    """Turn what was written into a rule that cannot be wrong, None when it is."""
    template = _template_of(rule, templates, problems)
    if not rule.paths:
        problems.add(
            rule.source, rule.line, f"{rule.label} needs paths: a list of at least one path"
        )
        return None
    target = rule.target or rule.paths[0]
    if target not in rule.paths:
        problem = (
            f"{rule.label}.target is {target}; expected one of its paths: {', '.join(rule.paths)}"
        )
        problems.add(rule.source, rule.line, problem)
    if template is None:
        return None
    if not template.text.strip():
        # An empty file fulfils no rule: the pull request would come again after every merge.
        problems.add(template.source, None, f"the text of {rule.label} is empty")
    for line, name in unknown_placeholders(template.text):
        known = ", ".join("{{" + each + "}}" for each in PLACEHOLDERS)
        problem = f"unknown placeholder {{{{{name}}}}}; expected one of {known}"
        problems.add(template.source, line, problem + ", or \\{{ for braces that stay")
    return FileRule(
        name=rule.name,
        paths=rule.paths,
        target=target,
        content=template.text,
        enabled=True if rule.enabled is None else rule.enabled,
        why=rule.why or "",
    )


def _template_of(
    rule: RawRule, templates: dict[str, _Template], problems: Problems
) -> _Template | None:
    """The text of the file to add: written in the policy, or in the template that it names."""
    if rule.content is not None:
        return _Template(rule.content, f"{rule.source}, {rule.label}.content")
    if rule.template is None:
        problem = f"{rule.label} needs content (the text of the file) or template (a name)"
        problems.add(rule.source, rule.line, problem)
    elif rule.template not in templates:
        names = ", ".join(sorted(templates))
        problem = f"{rule.label}.template is {rule.template}, which does not exist; expected one of"
        problems.add(rule.source, rule.line, f"{problem} {names}, or that file in TEMPLATE_DIR")
    return templates.get(rule.template or "")
