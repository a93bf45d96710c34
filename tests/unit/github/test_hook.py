"""The App's hook: what is not as it should be, and what proves that it works."""

from __future__ import annotations

import pytest

from repo_guardian.github.hook import HookConfig, differences
from repo_guardian.github.proof import LoggedDelivery, choose_delivery, why_not_proved

URL = "https://repo-guardian.tail-box.ts.net/webhooks/github"


def hook(
    url: str = URL, content_type: str = "json", insecure_ssl: str = "0", *, has_secret: bool = True
) -> HookConfig:
    """A hook that is as it should be, or not."""
    return HookConfig(url, content_type, insecure_ssl, has_secret)


def logged(number: int, event: str = "push", code: int = 202, guid: str = "") -> LoggedDelivery:
    """One attempt in GitHub's log."""
    return LoggedDelivery(number, guid or f"guid-{number}", event, "some words", code)


@pytest.mark.parametrize(
    ("expected", "config"),
    [
        ({}, hook()),
        ({}, hook(has_secret=False)),
        ({"url": URL}, hook(url="")),
        ({"url": URL}, hook(url=URL + "/")),
        ({"content_type": "json"}, hook(content_type="form")),
        ({"insecure_ssl": "0"}, hook(insecure_ssl="1")),
        ({"url": URL, "content_type": "json", "insecure_ssl": "0"}, hook("http://x", "form", "1")),
    ],
)
def test_only_what_differs_is_to_be_changed(expected: dict[str, str], config: HookConfig) -> None:
    """Never the secret, which GitHub does not tell."""
    assert expected == differences(config, URL)


def test_a_ping_is_sent_again_before_anything_that_may_mean_work() -> None:
    """Else the newest; nothing when GitHub has nothing."""
    ping = logged(1, "ping")
    assert ping == choose_delivery([logged(3), logged(2), ping])
    assert logged(3) == choose_delivery([logged(3), logged(2)])
    assert choose_delivery([]) is None


@pytest.mark.parametrize(
    ("hint", "code"),
    [
        ("another program answers", 200),
        ("another program answers", 202),
        ("GITHUB_WEBHOOK_SECRET", 401),
        ("WEBHOOK_PATH", 404),
        ("public DNS", 502),
        ("slow or stuck", 504),
        ("Recent Deliveries", 418),
    ],
)
def test_a_redelivery_that_went_elsewhere_says_where_to_look(hint: str, code: int) -> None:
    """From what GitHub got; the first attempt with the same GUID is not the answer."""
    sent = logged(1, code=202)
    found = why_not_proved(sent, [logged(3), logged(2, "push", code, sent.guid), sent], waited_s=30)
    assert ("HOOK_UNPROVED", True) == (found.code, str(code) in found.message)
    assert hint in found.hint


def test_a_redelivery_that_github_has_not_made_is_told_apart() -> None:
    """Its log has the old attempt only."""
    found = why_not_proved(logged(1), [logged(2), logged(1)], waited_s=30)
    assert "has not sent the delivery again within 30 s" in found.message
