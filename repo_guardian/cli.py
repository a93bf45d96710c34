"""The command line. The app is imported inside the commands, so that --help stays instant."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from repo_guardian.errors import GuardianError
from repo_guardian.version import __version__


class _Commands(click.Group):
    """The one place where an error becomes words and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except GuardianError as error:
            click.echo(f"error: {error.code}: {error.message}", err=True)
            if error.hint:
                click.echo(f"hint: {error.hint}", err=True)
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
    from repo_guardian.serve import serve

    serve()


@main.command()
@click.argument("repository", metavar="OWNER/REPO")
def check(repository: str) -> None:
    """Show what a repository lacks and the pull request that would add it; nothing is written."""
    from repo_guardian.serve import examine

    click.echo(examine(repository))


@main.command()
def version() -> None:
    """Show the versions of repo-guardian and its helper."""
    from repo_guardian.bridge.binary import helper_version

    named = os.environ.get("TSNET_BRIDGE_BIN")
    click.echo(f"repo-guardian {__version__}")
    click.echo(helper_version(Path(named) if named else None))
