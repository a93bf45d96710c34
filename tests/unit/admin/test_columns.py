from __future__ import annotations

import json

import pytest

from repo_guardian.admin.columns import age, json_printable, plural, printable, table


def test_columns_are_as_wide_as_their_longest_cell_and_lines_have_no_tail() -> None:
    """Plain text that `awk` can read."""
    expected = "STATE   REPOSITORY\ndead    acme/a\nleased  acme/bcd"
    assert expected == table(("STATE", "REPOSITORY"), [("dead", "acme/a"), ("leased", "acme/bcd")])


def test_the_elastic_column_alone_is_shortened_to_the_terminal() -> None:
    """What is copied from a table (a GUID) stays whole."""
    rows = [("guid-0001", "a very long error that nobody reads to its end")]
    shown = table(("GUID", "ERROR"), rows, width=30).splitlines()
    assert ["GUID       ERROR", "guid-0001  a very long error …"] == shown
    assert 30 == len(shown[1])


def test_a_terminal_that_is_too_narrow_still_shows_something() -> None:
    """The elastic column keeps a dozen characters."""
    assert (
        "guid-0001  an error th…"
        == table(("GUID", "ERROR"), [("guid-0001", "an error that is long")], width=5).splitlines()[
            1
        ]
    )


def test_what_a_terminal_would_obey_is_written_out() -> None:
    """Escapes, carriage returns, and the marks that turn text around."""
    told = table(("ERROR",), [("\x1b[2J\r\u202egnp.exe\u009b1m é",)])
    assert r"\x1b[2J\r\u202egnp.exe\x9b1m é" == told.splitlines()[1]
    assert "a\n\\tb" == printable("a\n\tb", keep="\n")


@pytest.mark.parametrize("text", ["\x7f\u009b", "\u202e", "\U000e0001", "\ud800", "plain é"])
def test_json_stays_the_same_document_when_it_is_made_printable(text: str) -> None:
    """With JSON's own escapes."""
    shown = json_printable(json.dumps({"text": text}, indent=1, ensure_ascii=False))
    assert {"text": text} == json.loads(shown)
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0s"), (9.9, "9s"), (119, "119s"), (180, "3m"), (36 * 3600, "36h"), (4 * 86400, "4d")],
)
def test_an_age_has_one_unit(seconds: float, expected: str) -> None:
    """The largest that still says something."""
    assert expected == age(seconds)


def test_a_number_has_its_noun() -> None:
    """With commas where it is long."""
    assert "1 repository" == plural(1, "repository", "repositories")
    assert "2,048 repositories" == plural(2048, "repository", "repositories")
