"""`repo-guardian work …`: what it is called with; what it does is in commands/work.py."""

from __future__ import annotations

import click

from repo_guardian.store.schema import WorkState


@click.group()
def work() -> None:
    """Look at the work queue, and make repositories due.

    Asks the server that runs with the same DATA_DIR; without one, opens its database.
    """


@work.command("list")
@click.option(
    "--state",
    type=click.Choice([each.value for each in WorkState]),
    help="Only those in this state.",
)
@click.option("--dead", is_flag=True, help="The same as --state dead.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    metavar="N",
    help="How many at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_(state: str | None, dead: bool, limit: int, as_json: bool) -> None:  # noqa: FBT001 - click gives them by name
    """Show what is dead, worked on or due, and how many repositories are idle."""
    from repo_guardian.commands.work import list_work

    if dead and state not in {None, "dead"}:
        raise click.UsageError("--dead and --state exclude each other.")
    click.echo(list_work(state="dead" if dead else state, limit=limit, json=as_json))


@work.command()
@click.argument("repositories", nargs=-1, metavar="[REPO]...")
@click.option("--all-dead", is_flag=True, help="Bring every dead work item back to life.")
def retry(repositories: tuple[str, ...], all_dead: bool) -> None:  # noqa: FBT001 - click gives it by name
    """Look at repositories now; what is dead lives again. REPO is OWNER/REPO, or its number."""
    from repo_guardian.commands.work import retry, revive

    if bool(repositories) == all_dead:
        raise click.UsageError("Give either REPO... or --all-dead.")
    click.echo(revive() if all_dead else retry(repositories))
