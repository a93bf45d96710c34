"""What must be true at the end; every check returns what is wrong, a sentence each (pure)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from tests.chaos.ledger import Item, Ledger, Row
from tests.chaos.plan import Has, Story
from tests.chaos.traffic import OWNERS_PATH, UPDATES_PATH
from tests.support.github.accounts import Account
from tests.support.github.delivery_log import Delivery
from tests.support.github.pulls import PullRequest
from tests.support.github.repository import Repository

#: Where the app proposes its files.
BRANCH: Final = "repo-guardian/add-missing-files"
#: What the app's templates are in a run, and what must come of them.
OWNERS_TEMPLATE: Final = "# {{full_name}}\n* @{{owner}}/everybody\n"
UPDATES_TEMPLATE: Final = "version: 2\n# of {{repository}}, branch {{default_branch}}\n"
#: How far the clock of a delivery may be ahead of the store's.
_CLOCKS_S: Final = 0.05
#: Examples in one sentence.
_NAMED: Final = 5


def accounted(log: Collection[Delivery], inbox: Mapping[str, Row]) -> Iterator[str]:
    """Every GUID of GitHub's log is in the inbox, and nothing else is."""
    logged = {each.guid: each for each in log}
    lost = logged.keys() - inbox.keys()
    if lost:
        shown = (f"{logged[guid].event} {guid} ({logged[guid].status})" for guid in sorted(lost))
        yield f"{len(lost)} deliveries of GitHub's log are not in the inbox: {_some(shown)}"
    if invented := inbox.keys() - logged.keys():
        yield f"{len(invented)} deliveries in the inbox were never sent: {_some(sorted(invented))}"


def durable(log: Iterable[Delivery], inbox: Mapping[str, Row]) -> Iterator[str]:
    """What was acknowledged was on disk.

    GitHub's log could have brought it back afterwards. But recovery knows a delivery only once its
    first attempt has ended: when that was answered 202, it must have come in by itself.
    """
    first: dict[str, Delivery] = {}
    for each in sorted(log, key=lambda each: each.id):
        first.setdefault(each.guid, each)
    acknowledged = {each.guid for each in log if each.status_code == 202}
    if gone := acknowledged - inbox.keys():
        yield f"{len(gone)} deliveries were answered 202 and are lost: {_some(sorted(gone))}"
    brought_back = sorted(
        guid
        for guid, attempt in first.items()
        if attempt.status_code == 202 and guid in inbox and inbox[guid].source == "recovered"
    )
    if brought_back:
        yield (
            f"{len(brought_back)} deliveries were answered 202 before they were durable, and only"
            f" GitHub's log brought them back: {_some(brought_back)}"
        )


def faithful(log: Iterable[Delivery], inbox: Mapping[str, Row]) -> Iterator[str]:
    """Payloads are what was sent: byte for byte, or the same JSON when GitHub's log told it."""
    sent = {each.guid: each for each in log}
    changed = sorted(
        guid for guid, row in inbox.items() if guid in sent and not _same(row, sent[guid])
    )
    if changed:
        yield f"{len(changed)} payloads are not what was sent: {_some(changed)}"


def _same(row: Row, sent: Delivery) -> bool:
    payload = row.payload
    if row.event != sent.event:
        return False
    if payload is None:
        return row.source == "recovered"  # it means no work, so it was not fetched
    if row.source == "recovered":
        return bool(json.loads(payload) == sent.payload)
    return payload == sent.body


def at_rest(items: Iterable[Item]) -> Iterator[str]:
    """No work is left and none was given up."""
    for item in items:
        if item.dead:
            yield f"the work on {item.full_name} is dead: {item.last_error}"
        elif item.due_at is not None or item.lease_owner is not None:
            yield f"the work on {item.full_name} has not ended: {item}"


def looked_after(inbox: Iterable[Row], items: Iterable[Item]) -> Iterator[str]:
    """After every delivery that means work its repository was looked at: no dirty mark is lost."""
    newest: dict[int, Row] = {}
    for row in sorted(inbox, key=lambda row: row.received_at):
        if row.disposition == "work" and row.repository_id is not None:
            newest[row.repository_id] = row
    done_at = {item.repository_id: item.done_at or 0.0 for item in items}
    for repository_id, row in newest.items():
        done = done_at.get(repository_id, 0.0)
        if done + _CLOCKS_S < row.received_at:
            when = f"{row.received_at - done:.1f} s before" if done else "never, in spite of"
            yield f"repository {repository_id} was last looked at {when} {row.event} {row.guid}"


def whole(ledger: Ledger) -> Iterator[str]:
    """The database is not damaged."""
    if ledger.integrity != "ok":
        yield f"the database is damaged: {ledger.integrity}"


def served(story: Story, repository: Repository, bot: Account) -> Iterator[str]:
    """One open pull request with the right content, when anything is missing; nothing else."""
    expected = expected_files(story, repository)
    name, pulls = repository.full_name, repository.pulls
    if len(pulls) != (1 if expected else 0):
        yield f"{name} ({story.has.value} there) has {len(pulls)} pull requests: {_shown(pulls)}"
    for pull in pulls:
        if pull.state != "open" or pull.author is not bot or pull.head != BRANCH:
            yield f"{name} has a wrong pull request: {_shown([pull])}"
        elif pull.files != expected:
            yield f"{name}#{pull.number} proposes {pull.files}; expected {expected}"
        elif not all(commit.signed_by_github for commit in pull.commits):
            yield f"{name}#{pull.number} has a commit that GitHub did not sign"
    branches = {repository.default_branch, *([BRANCH] if expected else [])}
    if repository.branches.keys() != branches:
        yield f"{name} has the branches {sorted(repository.branches)}; expected {sorted(branches)}"


def expected_files(story: Story, repository: Repository) -> dict[str, str]:
    """What the pull request must propose; by the name that the repository has now."""
    owner, name = repository.owner.login, repository.name
    files = {
        OWNERS_PATH: f"# {owner}/{name}\n* @{owner}/everybody\n",
        UPDATES_PATH: f"version: 2\n# of {name}, branch {repository.default_branch}\n",
    }
    there = {Has.NOTHING: set(), Has.OWNERS: {OWNERS_PATH}, Has.ALL: set(files)}[story.has]
    return {path: text for path, text in files.items() if path not in there}


def _shown(pulls: Iterable[PullRequest]) -> str:
    return ", ".join(f"#{each.number} {each.state} of {each.author.login}" for each in pulls)


def _some(shown: Iterable[str]) -> str:
    listed = list(shown)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(islice(listed, _NAMED)) + more
