"""GraphQL documents and answers."""

from __future__ import annotations

import pytest
from graphql import parse
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_guardian.github.errors import GitHubError
from repo_guardian.github.graphql import GraphQLError, compose, parse_answer, watched_fragment
from repo_guardian.github.installation import raise_errors
from repo_guardian.github.transport import graphql_url, refusal


def test_an_operation_comes_with_the_fragments_that_it_uses_and_no_others() -> None:
    """GitHub refuses unused fragments."""
    text = compose("OpenPulls")
    assert text.count("fragment ") == 3
    assert "fragment OpenPulls on" in text
    assert "fragment Pull on" in text
    assert "fragment" not in compose("Commit")


def test_a_generated_fragment_is_part_of_its_operation() -> None:
    """And brings the fragments that it uses itself."""
    text = compose("Snapshot", watched_fragment(["CODEOWNERS"], "ours"))
    assert 'd0: object(expression: "HEAD:CODEOWNERS") { ...Entry }' in text
    assert 'b0: object(expression: "refs/heads/ours:CODEOWNERS") { ...Entry }' in text
    assert text.count("fragment Entry on") == 1


def test_no_path_to_watch_is_still_a_document() -> None:
    """When every rule is off."""
    parse(watched_fragment([], "ours"))


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=40))
def test_no_path_can_break_out_of_its_literal(path: str) -> None:
    """Whatever characters it has, GraphQL reads back the same path."""
    document = parse(watched_fragment([path], "ours")).to_dict()
    fields = document["definitions"][0]["selection_set"]["selections"]
    assert len(fields) == 3
    assert fields[1]["arguments"][0]["value"]["value"] == f"HEAD:{path}"


def test_data_and_errors_come_side_by_side() -> None:
    """GitHub answers what it can."""
    answer = parse_answer(
        {
            "data": {"nodes": [None]},
            "errors": [{"type": "NOT_FOUND", "message": "no", "path": ["nodes", 0]}],
        }
    )
    assert answer.data == {"nodes": [None]}
    assert answer.errors == (GraphQLError("NOT_FOUND", "no", ("nodes", 0)),)


@pytest.mark.parametrize("document", [None, [], "text", {}])
def test_an_answer_that_is_none_is_a_value_error(document: object) -> None:
    """A proxy's page, for example."""
    with pytest.raises(ValueError, match="expected an object"):
        parse_answer(document)


@pytest.mark.parametrize("document", [{"data": None}, {"errors": ["boom"]}])
def test_an_answer_that_says_nothing_is_a_value_error(document: object) -> None:
    """It must never be taken for a repository that is gone."""
    with pytest.raises(ValueError, match=r"expected (data|errors)"):
        parse_answer(document)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GraphQLError("STALE_DATA", "Expected branch to point to"), "SNAPSHOT_STALE"),
        (GraphQLError("NOT_FOUND", "Could not resolve to a node"), "GITHUB_NOT_FOUND"),
        (GraphQLError("FORBIDDEN", "no"), "GITHUB_FORBIDDEN"),
        (GraphQLError("", "Resource not accessible by integration"), "GITHUB_FORBIDDEN"),
        (GraphQLError("", "Something went wrong"), "GITHUB_REFUSED"),
    ],
)
def test_a_graphql_error_gets_a_code(error: GraphQLError, code: str) -> None:
    """By its type; GitHub leaves it out for some."""
    with pytest.raises(GitHubError) as caught:
        raise_errors("Commit", (error,), "contents: write")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (301, "Moved Permanently", "SNAPSHOT_STALE"),
        (401, "Bad credentials", "GITHUB_UNAUTHORIZED"),
        (403, "Resource not accessible by integration", "GITHUB_FORBIDDEN"),
        (403, "This installation has been suspended", "INSTALLATION_SUSPENDED"),
        (404, "Not Found", "GITHUB_NOT_FOUND"),
        (410, "Gone", "GITHUB_NOT_FOUND"),
        (422, "Validation Failed", "GITHUB_REFUSED"),
        (502, "Bad Gateway", "GITHUB_UNAVAILABLE"),
    ],
)
def test_a_status_gets_a_code(status: int, said: str, code: str) -> None:
    """One table for all REST calls."""
    assert refusal("GET /x", status, said, "contents: read").code == code


@pytest.mark.parametrize(
    ("api_url", "expected"),
    [
        ("https://api.github.com", "https://api.github.com/graphql"),
        ("https://api.github.com/", "https://api.github.com/graphql"),
        ("https://github.example.com/api/v3", "https://github.example.com/api/graphql"),
        ("https://github.example.com/api/v3/", "https://github.example.com/api/graphql"),
    ],
)
def test_the_graphql_address_follows_from_the_rest_address(api_url: str, expected: str) -> None:
    """github.com, and Enterprise Server (regression 36)."""
    assert graphql_url(api_url) == expected


@pytest.mark.parametrize("path", ["...notes/x.md", "fragment Entry on/x", '"...notes'])
def test_a_path_that_looks_like_graphql_is_only_text(path: str) -> None:
    """What stands in a string literal is no fragment."""
    text = compose("Snapshot", watched_fragment([path], "ours"))
    assert text.count("fragment Entry on Git") == 1
