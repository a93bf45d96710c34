"""The doctor's report as people and programs read it."""

from __future__ import annotations

import json

from repo_guardian.doctor.report import as_json, as_table, has_failed
from repo_guardian.doctor.rows import Check, Result, Row

ROWS = [
    Row(Check.SETTINGS, Result.OK, "nothing is wrong"),
    Row(Check.LOGIN, Result.FAILED, "a person must log in", "open https://login/a", "NEEDS_LOGIN"),
    Row(Check.APPROVAL, Result.NOT_REACHED, "login is in the way"),
]


def test_table_has_a_line_for_each_row_its_fix_below_and_the_sum() -> None:
    """Columns are as wide as they can get; a fix stands alone on its line, to be copied."""
    expected = (
        "ok           settings          nothing is wrong\n"
        "failed       login             NEEDS_LOGIN: a person must log in\n"
        "                               fix: open https://login/a\n"
        "not reached  approval          login is in the way\n"
        "\n"
        "1 ok, 1 failed, 1 not reached"
    )
    assert expected == as_table(ROWS)


def test_json_has_every_field_and_whether_all_is_well() -> None:
    """For a script: `ok` is what the exit code says."""
    told = json.loads(as_json(ROWS))
    assert False is told["ok"]
    expected = {
        "check": "login",
        "result": "failed",
        "message": "a person must log in",
        "fix": "open https://login/a",
        "code": "NEEDS_LOGIN",
    }
    assert expected == told["rows"][1]


def test_only_a_failure_is_a_failure() -> None:
    """Warnings and what was not reached are for people."""
    assert has_failed(ROWS)
    warning = Row(Check.CERTIFICATE, Result.WARNING, "13 days left")
    assert not has_failed([ROWS[0], warning, ROWS[2]])
