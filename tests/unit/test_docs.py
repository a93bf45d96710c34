"""The documents say what the program does."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from repo_guardian.cli import main
from repo_guardian.errors import HTTP_STATUS, SETTINGS_CODES
from repo_guardian.metrics import Metrics
from repo_guardian.settings.model import Settings
from repo_guardian.version import __version__

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def shown_default(value: object) -> str:
    """A default as the table shows it."""
    match value:
        case None | "" | ():
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case timedelta():
            seconds = int(value.total_seconds())
            return f"`{seconds // 3600}h`" if seconds % 3600 == 0 else f"`{seconds}s`"
        case _:
            return f"`{value}`"


def settings_table() -> str:
    """The table of settings, from the model itself."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "**required**" if field.is_required() else shown_default(field.default)
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_table_of_settings_is_the_one_of_the_program() -> None:
    """Every setting, its default and its meaning; paste the expected table when this fails."""
    assert settings_table() in README


@pytest.mark.parametrize("document", [README, OPERATIONS], ids=["README", "operations"])
def test_every_help_text_is_current(document: str) -> None:
    """Each block that begins with `$ repo-guardian ... --help`, of a group or of a command in it."""
    blocks = re.findall(
        r"\$ repo-guardian((?: [a-z]+)*) --help\n(.*?)```", document, flags=re.DOTALL
    )
    assert blocks
    for command, shown in blocks:
        arguments = [*command.split(), "--help"]
        assert shown == CliRunner().invoke(main, arguments, prog_name="repo-guardian").output


def test_every_metric_is_documented() -> None:
    """By its full name."""
    registry: CollectorRegistry = Metrics().registry
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in OPERATIONS, name


def test_every_error_code_of_python_is_documented() -> None:
    """Whoever meets a code can look it up."""
    source = "".join(path.read_text() for path in (ROOT / "repo_guardian").rglob("*.py"))
    raised = set(re.findall(r'GuardianError\(\s*"([A-Z][A-Z_0-9]+)"', source))
    for code in sorted(raised | set(HTTP_STATUS) | SETTINGS_CODES):
        assert f"`{code}`" in OPERATIONS, code


def test_the_changelog_and_the_version_fit() -> None:
    """A released version has its entry; what is not released yet stands above."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog or f"## [{__version__}]" in changelog


def test_the_first_screen_of_the_readme_is_one_screen() -> None:
    """Thirty lines until the first section."""
    assert README.splitlines().index("## Run it on your organization") <= 40
