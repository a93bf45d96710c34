"""`repo-guardian funnel …`: what it is called with; what it does is in commands/funnel.py and doctor/."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from repo_guardian.bridge.protocol import Level


@click.group()
def funnel() -> None:
    """Look at the public address: how it is, and what is in its way.

    status, url and logs ask the server that runs on this machine with the same DATA_DIR.
    """


@funnel.command()
@click.option("--json", "as_json", is_flag=True, help="Print the helper's status document.")
def status(as_json: bool) -> None:  # noqa: FBT001 - click gives it by name
    """Show how the public address is."""
    from repo_guardian.commands.funnel import show_status

    click.echo(show_status(as_json=as_json))


@funnel.command()
def url() -> None:
    """Print the public address and nothing else; exit code 1 when there is none."""
    from repo_guardian.commands.funnel import show_url

    click.echo(show_url())


@funnel.command()
@click.option("--follow", is_flag=True, help="Go on with the lines to come, until the helper ends.")
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least level that is shown; the helper keeps all, whatever LOG_LEVEL is.",
)
def logs(follow: bool, level: Level) -> None:  # noqa: FBT001 - click gives it by name
    """Show the last 1,000 lines of the helper's log."""
    from repo_guardian.commands.funnel import show_logs

    show_logs(click.echo, follow=follow, level=level)


@funnel.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long the public address may take to come up.",
)
@click.option("--verbose", is_flag=True, help="Show the log of a helper that is started.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, timeout_s: float, verbose: bool) -> None:  # noqa: FBT001 - click gives them by name
    """Find what keeps GitHub from reaching us, with the fix; exit code 1 when something does.

    Asks the helper of the running server. Without one it starts the helper for a moment, exactly as
    `run` would and in the same state directory: the node logs in, and a certificate is made when there
    is none. Nobody serves webhooks meanwhile.
    """
    from repo_guardian.doctor.command import examine
    from repo_guardian.doctor.report import as_json as to_json
    from repo_guardian.doctor.report import as_table, has_failed

    rows = examine(timeout_s=timeout_s, verbose=verbose)
    click.echo(to_json(rows) if as_json else as_table(rows))
    ctx.exit(1 if has_failed(rows) else 0)
