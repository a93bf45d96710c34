"""The command line, a file for each group. The app is imported inside the commands: --help is instant."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from repo_guardian.admin.columns import printable
from repo_guardian.cli_deliveries import deliveries
from repo_guardian.cli_funnel import funnel
from repo_guardian.cli_work import work
from repo_guardian.errors import GuardianError
from repo_guardian.version import __version__


def _say(text: str) -> None:
    """On standard error; an error may quote what a stranger chose, so nothing of it is for the terminal."""
    click.echo(printable(text, keep="\n"), err=True)


class _Commands(click.Group):
    """The one place where an error becomes words and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except GuardianError as error:
            _say(f"error: {error.code}: {error.message}")
            if error.hint:
                _say(f"hint: {error.hint}")
            sys.exit(error.exit_code)


@click.group(cls=_Commands)
def main() -> None:
    """A GitHub App that opens one pull request for what a repository lacks.

    Settings come from the environment, from NAME_FILE=/path, or from a .env file; README.md lists
    them.
    """


@main.command()
def run() -> None:
    """Take webhooks and keep the repositories complete, until SIGTERM or Ctrl-C."""
    from repo_guardian.commands.serve import serve

    serve()


@main.command()
@click.argument("repository", metavar="OWNER/REPO")
def check(repository: str) -> None:
    """Show what a repository lacks and the pull request that would add it; nothing is written."""
    from repo_guardian.commands.serve import examine

    click.echo(examine(repository))


@main.command()
@click.argument("selection", required=False, metavar="[OWNER[/REPO]]")
@click.option("--all", "everything", is_flag=True, help="All repositories of all installations.")
def reconcile(selection: str | None, everything: bool) -> None:  # noqa: FBT001 - click gives it by name
    """Look at repositories now: one, those of an account, or all.

    Marks them for the server that runs with the same DATA_DIR, or for the next one that does.
    """
    from repo_guardian.commands.work import reconcile

    if bool(selection) == everything:
        raise click.UsageError("Give OWNER, OWNER/REPO, or --all for every repository.")
    click.echo(reconcile(selection))


@main.command()
def version() -> None:
    """Show the versions of repo-guardian and its helper."""
    from repo_guardian.bridge.binary import helper_version

    named = os.environ.get("TSNET_BRIDGE_BIN")
    click.echo(f"repo-guardian {__version__}")
    click.echo(helper_version(Path(named) if named else None))


for _group in (deliveries, funnel, work):
    main.add_command(_group)
