"""Which events mean work."""

from __future__ import annotations

from typing import Any

import pytest

from repo_guardian.webhooks.routing import Payload, event_label, route
from tests.support.deliveries import payload

OTHER = {"id": 2, "node_id": "R_2", "full_name": "acme/gadgets"}


def routed(event: str, document: dict[str, Any]) -> list[str]:
    """Names of the repositories that the event marks dirty."""
    return [ref.full_name for ref in route(event, Payload.model_validate(document))]


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
