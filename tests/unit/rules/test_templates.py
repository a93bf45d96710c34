"""Placeholders of file templates."""

from __future__ import annotations

import pytest

from repo_guardian.rules.templates import render, unknown_placeholders, values_of

VALUES = values_of("acme/widgets", "main")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{owner}} {{ repository }}", "acme widgets"),
        ("{{full_name}}@{{default_branch}}", "acme/widgets@main"),
        ("on: ${{ github.ref }}", "on: ${{ github.ref }}"),
        (r"\{{owner}} and \{{depName}}", "{{owner}} and {{depName}}"),
        ("{ {owner} }", "{ {owner} }"),
        ("", ""),
    ],
)
def test_known_placeholders_are_filled_and_everything_else_stays(template: str, text: str) -> None:
    """Expressions of GitHub Actions and escaped braces are left as they are."""
    assert render(template, VALUES) == text


def test_a_value_is_never_expanded_again() -> None:
    """A branch may be called `{{owner}}`; names are not templates."""
    assert render("{{default_branch}}", values_of("acme/widgets", "{{owner}}")) == "{{owner}}"


def test_unknown_placeholders_are_found_with_their_lines() -> None:
    """Including those that are no names at all."""
    template = "{{owner}}\n{{team}}\n${{ github.actor }} {{ a.b }} {{}}\n\\{{ok}}\n"
    assert unknown_placeholders(template) == [(2, "team"), (3, "a.b"), (3, "")]
