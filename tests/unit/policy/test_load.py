"""The policy file: what it may say, how it is laid over the built-in one, and its mistakes."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from repo_guardian.errors import GuardianError
from repo_guardian.policy.load import load_policy
from repo_guardian.policy.model import Limits, Policy, parent_paths


def load(tmp_path: Path, text: str, template_dir: Path | None = None) -> Policy:
    """Load a policy file with this text."""
    path = tmp_path / "policy.yml"
    path.write_text(textwrap.dedent(text))
    return load_policy(path, template_dir=template_dir)


def mistakes(tmp_path: Path, text: str, template_dir: Path | None = None) -> list[str]:
    """The mistakes of a policy file, without the folder it lies in."""
    with pytest.raises(GuardianError) as caught:
        load(tmp_path, text, template_dir)
    assert caught.value.code == "POLICY_INVALID"
    lines = caught.value.message.splitlines()[1:]
    return [line.strip().replace(f"{tmp_path}/", "") for line in lines]


def test_the_built_in_policy_asks_for_codeowners_and_dependabot() -> None:
    """Renovate is known and off."""
    policy = load_policy(None, template_dir=None)
    assert [rule.name for rule in policy.rules] == ["codeowners", "dependabot", "renovate"]
    assert [rule.name for rule in policy.enabled_rules] == ["codeowners", "dependabot"]
    owners, updates, renovate = policy.rules
    assert owners.paths == (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
    assert updates.paths == (".github/dependabot.yml", ".github/dependabot.yaml")
    assert len(renovate.paths) == 6
    assert all(rule.target in rule.paths and rule.why and rule.content for rule in policy.rules)


def test_every_path_and_every_folder_above_it_is_watched() -> None:
    """Of enabled rules only, each once."""
    assert load_policy(None, template_dir=None).watched_paths == (
        ".github/CODEOWNERS",
        "CODEOWNERS",
        "docs/CODEOWNERS",
        ".github/dependabot.yml",
        ".github/dependabot.yaml",
        ".github",
        "docs",
    )
    assert parent_paths("a/b/c") == ["a/b", "a"]


def test_a_policy_file_changes_only_what_it_names(tmp_path: Path) -> None:
    """Merged rule by rule; the other rules stay."""
    policy = load(tmp_path, "version: 1\nrules:\n  renovate: {enabled: true}\n")
    built_in = load_policy(None, template_dir=None)
    assert [rule.enabled for rule in policy.rules] == [True, True, True]
    assert policy.rule("codeowners") == built_in.rule("codeowners")
    assert policy.source == "the policy file policy.yml"


def test_new_paths_bring_a_new_target_unless_the_old_one_is_among_them(tmp_path: Path) -> None:
    """A target outside of the paths would never satisfy the rule."""
    moved = load(tmp_path, "version: 1\nrules: {codeowners: {paths: [OWNERS]}}")
    assert moved.rule("codeowners").target == "OWNERS"
    kept = load(
        tmp_path, "version: 1\nrules: {codeowners: {paths: [CODEOWNERS, .github/CODEOWNERS]}}"
    )
    assert kept.rule("codeowners").target == ".github/CODEOWNERS"


def test_content_replaces_the_template_and_a_template_the_content(tmp_path: Path) -> None:
    """Either says the whole file."""
    text = 'version: 1\nrules: {codeowners: {content: "* @{{owner}}/core\\n"}}'
    assert load(tmp_path, text).rule("codeowners").content == "* @{{owner}}/core\n"
    swapped = load(tmp_path, "version: 1\nrules: {codeowners: {template: renovate}}")
    assert "renovate-schema" in swapped.rule("codeowners").content


def test_a_rule_of_ones_own_needs_paths_and_content(tmp_path: Path) -> None:
    """The target is the first path, and the rule is on."""
    policy = load(
        tmp_path,
        """\
        version: 1
        rules:
          security:
            paths: [SECURITY.md, .github/SECURITY.md]
            content: "Mail security@example.org\\n"
            why: People must know where to report.
        """,
    )
    rule = policy.rule("security")
    assert (rule.target, rule.enabled, rule.why[:6]) == ("SECURITY.md", True, "People")


@pytest.mark.parametrize("text", ["", "# nothing\n", "version: 1\n", "version: 1\nrules: {}\n"])
def test_an_empty_policy_file_leaves_the_built_in_policy(tmp_path: Path, text: str) -> None:
    """Nothing said, nothing changed."""
    assert load(tmp_path, text).rules == load_policy(None, template_dir=None).rules


def test_limits_come_from_the_caller() -> None:
    """SKIP_FORKS and SKIP_ARCHIVED are settings, not policy."""
    limits = Limits(skip_archived=False, skip_forks=False)
    assert load_policy(None, template_dir=None, limits=limits).limits == limits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 2\n", "policy.yml:1: expected version: 1"),
        ("rules: {}\n", "policy.yml:1: version is missing; expected version: 1"),
        ("- a\n", "policy.yml:1: the policy is a list; expected names with values"),
        ("version: 1\nrule: {}\n", "policy.yml:2: the policy has no rule; did you mean rules?"),
        (
            "version: 1\nxyz: {}\n",
            "policy.yml:2: the policy has no xyz; expected one of version, rules",
        ),
        (
            "version: 1\nrules: 3\n",
            "policy.yml:2: rules is the value 3; expected names with values",
        ),
        (
            "version: 1\n\tx: 1\n",
            "policy.yml:2: is not valid YAML: found character '\\t' that cannot start any token",
        ),
        ("a: b\n---\nc: d\n", "policy.yml:2: is not valid YAML: but found another document"),
        ("? [a]\n: b\nversion: 1\n", "policy.yml:1: the policy has no "),
        (
            "version: 1\nrules: {codeowners: {enabled: 1}}",
            "policy.yml:2: rules.codeowners.enabled: expected true or false, got the value 1",
        ),
        (
            "version: 1\nrules: {codeowners: {paths: X}}",
            "policy.yml:2: rules.codeowners.paths: expected a list of paths, got the value X",
        ),
        (
            "version: 1\nrules: {codeowners: {paths: []}}",
            "policy.yml:2: rules.codeowners.paths: expected a list of paths, got an empty list",
        ),
        (
            "version: 1\nrules: {codeowners: {target: X}}",
            "policy.yml:2: rules.codeowners.target is X; expected one of its paths: .github/CODEOWNERS",
        ),
        (
            "version: 1\nrules: {codeowners: {why: [a]}}",
            "policy.yml:2: rules.codeowners.why: expected text, got a list",
        ),
        (
            f"version: 1\nrules: {{codeowners: {{why: {'x' * 501}}}}}",
            "policy.yml:2: rules.codeowners.why: expected at most 500 characters, got 501",
        ),
        (
            "version: 1\nrules: {codeowners: {content: ' '}}",
            "policy.yml:2: rules.codeowners.content: expected the text of the file, got nothing",
        ),
        (
            "version: 1\nrules: {codeowners: {content: a, template: b}}",
            "policy.yml:2: rules.codeowners has both content and template; expected one",
        ),
        (
            "version: 1\nrules: {codeowners: {template: nope}}",
            "policy.yml:2: rules.codeowners.template is nope, which does not exist; expected one of",
        ),
        (
            "version: 1\nrules: {codeowners: {content: 'a {{team}}'}}",
            "policy.yml, rules.codeowners.content:1: unknown placeholder {{team}}; expected one of",
        ),
        (
            "version: 1\nrules: {Code Owners: {}}",
            "policy.yml:2: rules has the name 'Code Owners'; expected at most 40 of a-z, 0-9, - and _",
        ),
        (
            "version: 1\nrules: {mine: {}}",
            "policy.yml:2: rules.mine needs content (the text of the file) or template (a name)",
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_and_what_was_expected(
    tmp_path: Path, text: str, expected: str
) -> None:
    """One case per mistake."""
    assert mistakes(tmp_path, text)[0].startswith(expected)


def test_an_unknown_template_is_told_with_the_known_ones(tmp_path: Path) -> None:
    """And with the place where a new one goes."""
    (found,) = mistakes(tmp_path, "version: 1\nrules: {codeowners: {template: nope}}")
    assert found.endswith("one of codeowners, dependabot, renovate, or that file in TEMPLATE_DIR")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a//b", "./a", "a/../b", "a/", ".git/config", "a\\b", "a\nb"]
)
def test_a_path_that_leaves_the_repository_is_refused(tmp_path: Path, path: str) -> None:
    """Also what git would not take."""
    (found, *_) = mistakes(tmp_path, f"version: 1\nrules: {{codeowners: {{paths: [{path!r}]}}}}")
    assert "expected a path in the repository such as .github/CODEOWNERS" in found


def test_all_mistakes_come_together(tmp_path: Path) -> None:
    """One run shows them all, a repeated name too."""
    found = mistakes(
        tmp_path,
        """\
        version: 1
        rules:
          codeowners:
            pahts: [a]
          dependabot:
            enabled: maybe
          dependabot:
            why: 7
        """,
    )
    assert found == [
        "policy.yml:7: rules has dependabot twice",
        "policy.yml:4: rules.codeowners has no pahts; did you mean paths?",
        "policy.yml:8: rules.dependabot.why: expected text, got the value 7",
    ]


def test_a_policy_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """No traceback."""
    with pytest.raises(GuardianError, match=r"absent\.yml: cannot be read \(No such file"):
        load_policy(tmp_path / "absent.yml", template_dir=None)


def test_a_policy_file_that_is_not_text_is_one_sentence(tmp_path: Path) -> None:
    """Bytes of another encoding."""
    path = tmp_path / "policy.yml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GuardianError, match=r"is not UTF-8 text"):
        load_policy(path, template_dir=None)


def test_templates_in_the_folder_replace_the_built_in_ones(tmp_path: Path) -> None:
    """By name; what Kubernetes puts beside a mounted ConfigMap is overlooked."""
    (tmp_path / "codeowners.tmpl").write_text("* @acme/core\n")
    (tmp_path / "..data").mkdir()
    (tmp_path / ".hidden.tmpl").write_text("x")
    policy = load_policy(None, template_dir=tmp_path)
    assert policy.rule("codeowners").content == "* @acme/core\n"
    assert "version: 2" in policy.rule("dependabot").content


def test_a_template_folder_that_is_absent_changes_nothing(tmp_path: Path) -> None:
    """Its default place need not exist."""
    policy = load_policy(None, template_dir=tmp_path / "absent")
    assert policy == load_policy(None, template_dir=None)


def test_a_rule_of_ones_own_may_bring_its_template(tmp_path: Path) -> None:
    """A name that a rule uses is known in the folder."""
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "security.tmpl").write_text("Mail {{owner}}\n")
    text = "version: 1\nrules: {security: {paths: [SECURITY.md], template: security}}"
    assert load(tmp_path, text, folder).rule("security").content == "Mail {{owner}}\n"


@pytest.mark.parametrize("name", ["catalog-info.tmpl", "codeowners"])
def test_an_unknown_file_in_the_template_folder_is_told_with_the_known_names(
    tmp_path: Path, name: str
) -> None:
    """A template that nothing uses, or a name without its suffix, is a mistake and not silence."""
    (tmp_path / name).write_text("x")
    with pytest.raises(GuardianError) as caught:
        load_policy(None, template_dir=tmp_path)
    expected = "expected one of codeowners.tmpl, dependabot.tmpl, renovate.tmpl"
    assert f"{name}: is no template that a rule uses; {expected}" in caught.value.message


def test_an_unknown_placeholder_is_told_with_its_line(tmp_path: Path) -> None:
    """With the names that would have been known."""
    (tmp_path / "renovate.tmpl").write_text("{\n  {{depName}}\n}\n")
    with pytest.raises(GuardianError) as caught:
        load_policy(None, template_dir=tmp_path)
    known = "{{owner}}, {{repository}}, {{full_name}}, {{default_branch}}"
    assert f"renovate.tmpl:2: unknown placeholder {{{{depName}}}}; expected one of {known}" in (
        caught.value.message
    )


@pytest.mark.parametrize("lower", ["SECURITY.md", "SECURITY.md/x"])
def test_rules_whose_paths_collide_are_refused(tmp_path: Path, lower: str) -> None:
    """One commit cannot hold both, and each would undo the other."""
    text = f"""\
        version: 1
        rules:
          a: {{paths: [{lower}], content: one}}
          b: {{paths: [docs/b, SECURITY.md], content: two}}
        """
    (found,) = mistakes(tmp_path, text)
    assert found.startswith("policy.yml:4: rules.b has the path SECURITY.md, which collides with ")
    assert f"{lower} of rules.a" in found
    off = text.replace("content: one", "content: one, enabled: false")
    assert load(tmp_path, off).rule("b").enabled


def test_a_policy_that_is_nested_too_deeply_is_one_sentence(tmp_path: Path) -> None:
    """No traceback."""
    assert mistakes(tmp_path, "[" * 3000) == ["policy.yml: is nested too deeply"]


@pytest.mark.parametrize("path", [".GIT/config", "x/.Git/hooks", ".git./x", ".git /x"])
def test_a_path_that_some_system_takes_for_git_is_refused(tmp_path: Path, path: str) -> None:
    """Case and trailing dots do not count on every file system."""
    (found, *_) = mistakes(tmp_path, f"version: 1\nrules: {{codeowners: {{paths: [{path!r}]}}}}")
    assert "expected a path in the repository" in found


def test_an_empty_template_is_refused(tmp_path: Path) -> None:
    """An empty file fulfils no rule: its pull request would come again after every merge."""
    (tmp_path / "codeowners.tmpl").write_text(" \n")
    with pytest.raises(GuardianError) as refused:
        load_policy(None, template_dir=tmp_path)
    assert "codeowners" in refused.value.message
    assert "is empty" in refused.value.message
