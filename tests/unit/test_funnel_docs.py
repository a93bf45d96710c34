"""docs/funnel.md says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from repo_guardian.cli import main
from repo_guardian.doctor.rows import Check

ROOT = Path(__file__).resolve().parents[2]
FUNNEL = (ROOT / "docs" / "funnel.md").read_text()


def test_every_help_text_is_current() -> None:
    """Each block that begins with `$ repo-guardian ... --help`."""
    blocks = re.findall(r"\$ repo-guardian ([a-z ]+) --help\n(.*?)```", FUNNEL, flags=re.DOTALL)
    assert ["funnel", "funnel doctor"] == [command for command, _ in blocks]
    for command, shown in blocks:
        arguments = [*command.split(), "--help"]
        assert shown == CliRunner().invoke(main, arguments, prog_name="repo-guardian").output


def test_the_example_is_the_file_that_a_test_runs() -> None:
    """To the letter, and short enough to be read."""
    example = (ROOT / "docs" / "examples" / "funnel_receiver.py").read_text()
    assert f"```python\n{example}```" in FUNNEL
    assert len(example.splitlines()) <= 30


def test_every_check_of_the_doctor_is_explained() -> None:
    """One row of the table for each, in their order."""
    table = FUNNEL.split("| row | failed when | warning when |")[1].split("\n\n")[0]
    expected = [check.value for check in Check]
    assert expected == re.findall(r"^\| ([\w' ]+?) \|", table, flags=re.MULTILINE)
