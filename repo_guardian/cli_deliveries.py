"""`repo-guardian deliveries …`: what it is called with; what it does is in commands/deliveries.py."""

from __future__ import annotations

import click

from repo_guardian.store.schema import DeliveryStatus

_GUIDS = click.argument("guids", nargs=-1, metavar="[GUID]...")
_SINCE = "An age such as 90m, 36h or 3d, or a time such as 2026-11-24T14:05Z."


@click.group()
def deliveries() -> None:
    """See what GitHub has sent, replay it, find what is missing.

    Asks the server that runs with the same DATA_DIR; without one, opens its database.
    """


@deliveries.command("list")
@click.option(
    "--status",
    type=click.Choice([each.value for each in DeliveryStatus]),
    help="Only those of which this has become.",
)
@click.option("--since", metavar="TIME", help=f"Only those that came since then. {_SINCE}")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    metavar="N",
    help="How many at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_(status: str | None, since: str | None, limit: int, as_json: bool) -> None:  # noqa: FBT001 - click gives it by name
    """Show the newest deliveries.

    A delivery is pending until each of its repositories has been looked at since, then done; dead when
    the work on one of them was given up; ignored when it means no work; unreadable when its payload
    is not what GitHub documents.
    """
    from repo_guardian.commands.deliveries import list_deliveries

    click.echo(list_deliveries(status=status, since=since, limit=limit, json=as_json))


@deliveries.command()
@click.argument("guid")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, without its payload.")
@click.option("--payload", is_flag=True, help="Print the payload alone, with indents.")
def show(guid: str, as_json: bool, payload: bool) -> None:  # noqa: FBT001 - click gives them by name
    """Show one delivery and what has become of its repositories."""
    from repo_guardian.commands.deliveries import show_delivery

    if as_json and payload:
        raise click.UsageError("--json and --payload exclude each other.")
    click.echo(show_delivery(guid, json=as_json, payload=payload))


@deliveries.command()
@_GUIDS
@click.option("--dead", is_flag=True, help="Bring every dead work item back to life.")
@click.option("--since", metavar="TIME", help=f"Every delivery that came since then. {_SINCE}")
@click.pass_context
def replay(ctx: click.Context, guids: tuple[str, ...], dead: bool, since: str | None) -> None:  # noqa: FBT001 - click gives them by name
    """Do again what deliveries mean: look at their repositories, now.

    What a delivery means is decided anew from its payload. Exit code 1 when one cannot be replayed.
    """
    from repo_guardian.commands.deliveries import replay_since, replay_these
    from repo_guardian.commands.work import revive

    if [bool(guids), dead, since is not None].count(True) != 1:
        raise click.UsageError("Give one of GUID..., --dead and --since TIME.")
    if dead:
        click.echo(revive())
        return
    text, all_well = replay_these(guids) if since is None else replay_since(since)
    click.echo(text)
    ctx.exit(0 if all_well else 1)


@deliveries.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click gives it by name
    """Hold GitHub's log of the last days against the inbox; exit code 1 when one is missing."""
    from repo_guardian.commands.deliveries import verify_deliveries

    text, all_well = verify_deliveries(json=as_json)
    click.echo(text)
    ctx.exit(0 if all_well else 1)
