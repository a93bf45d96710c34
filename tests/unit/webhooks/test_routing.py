"""Which events mean work."""

from __future__ import annotations

from typing import Any

import pytest

from repo_guardian.webhooks.routing import (
    Payload,
    event_label,
    means_work,
    route,
)
from tests.support.deliveries import payload

OTHER = {"id": 2, "node_id": "R_2", "full_name": "acme/gadgets"}


def routed(event: str, document: dict[str, Any]) -> list[str]:
    """Names of the repositories that the event marks dirty."""
    return [ref.full_name for ref in route(event, Payload.model_validate(document)).repositories]


@pytest.mark.parametrize("action", ["created", "renamed", "transferred", "unarchived", "edited"])
def test_a_repository_event_means_work_when_the_repository_may_lack_something(action: str) -> None:
    """These actions can make a finding appear."""
    assert ["acme/widgets"] == routed("repository", payload(action=action))


@pytest.mark.parametrize("action", ["deleted", "archived", "publicized", "something_new"])
def test_other_repository_actions_mean_no_work(action: str) -> None:
    """They are kept as ignored."""
    assert [] == routed("repository", payload(action=action))


def test_a_push_counts_only_on_the_default_branch() -> None:
    """Pushes to our own branch must not wake us."""
    ours = "refs/heads/repo-guardian/add-missing-files"
    assert ["acme/widgets"] == routed("push", payload(action=None, ref="refs/heads/main"))
    assert [] == routed("push", payload(action=None, ref=ours))
    assert [] == routed("push", payload(action=None, ref="refs/tags/main"))


def test_an_installation_marks_all_its_repositories() -> None:
    """Every repository that was chosen at the installation."""
    document = payload(repository=None, repositories=[OTHER, {**OTHER, "full_name": "acme/b"}])
    assert ["acme/gadgets", "acme/b"] == routed("installation", document)
    assert [] == routed("installation", {**document, "action": "deleted"})
    assert [] == routed("installation", payload(repository=None))


def test_added_repositories_are_marked_and_removed_ones_are_not() -> None:
    """`installation_repositories` comes in two actions."""
    document = payload(repository=None, action="added", repositories_added=[OTHER])
    assert ["acme/gadgets"] == routed("installation_repositories", document)
    assert [] == routed("installation_repositories", {**document, "action": "removed"})


def test_a_ping_means_no_work() -> None:
    """It only proves that GitHub reaches us."""
    assert [] == routed("ping", {"zen": "Keep it logically awesome.", "hook_id": 1})


def test_a_label_never_comes_from_the_caller() -> None:
    """Unknown events share one label value."""
    assert ("push", "other") == (event_label("push"), event_label("meteor_shower"))


@pytest.mark.parametrize(
    ("expected", "event", "action"),
    [
        (True, "push", None),
        (True, "repository", "created"),
        (True, "repository", None),
        (False, "repository", "archived"),
        (False, "installation", "deleted"),
        (False, "ping", None),
        (False, "meteor_shower", "created"),
    ],
)
def test_event_and_action_alone_tell_what_cannot_mean_work(
    expected: bool, event: str, action: str | None
) -> None:
    """GitHub's log shows no more before the payload is fetched; in doubt it is."""
    assert expected is means_work(event, action)


def test_pushes_settle_and_nothing_else_waits() -> None:
    """They come in bursts."""
    pushed = route("push", Payload.model_validate(payload(ref="refs/heads/main")))
    created = route("repository", Payload.model_validate(payload(action="created")))
    assert (2.0, 0.0) == (pushed.settle_s, created.settle_s)


@pytest.mark.parametrize("action", ["unsuspend", "new_permissions_accepted"])
def test_an_installation_that_came_back_may_have_changed_anywhere(action: str) -> None:
    """GitHub names no repository then, and told nothing of what happened meanwhile."""
    meaning = route("installation", Payload.model_validate({"action": action}))
    assert ((), True) == (meaning.repositories, meaning.all_repositories)
    installed = route("installation", Payload.model_validate({"action": "created"}))
    assert not installed.all_repositories
