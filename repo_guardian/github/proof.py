"""What proves that GitHub's deliveries reach us, and what to look at when they do not (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from repo_guardian.errors import GuardianError

_HINTS: Final = {
    200: "another program answers at this address: is a second repo-guardian running under this name?",
    401: "GITHUB_WEBHOOK_SECRET must equal the webhook secret on the App's settings page",
    404: "WEBHOOK_PATH must be the path of the App's webhook URL",
    502: "a new name takes up to 10 minutes to be in public DNS; then try the address from another network",
    504: "the public path is slow or stuck: look at the log events that begin with `bridge.`",
}
_OTHER_HINT: Final = "open Advanced, Recent Deliveries on the App's settings page"


@dataclass(frozen=True, slots=True)
class LoggedDelivery:
    """One attempt of a delivery in GitHub's log.

    Attributes:
        id: of this attempt, which a redelivery is asked with.
        guid: of the delivery, the same for all its attempts.
        event: such as `push`.
        status: how it ended in GitHub's words, such as `OK` or `timed out`.
        status_code: what was answered; 0 when GitHub tells none.
    """

    id: int
    guid: str
    event: str
    status: str
    status_code: int


def choose_delivery(log: Sequence[LoggedDelivery]) -> LoggedDelivery | None:
    """Choose what to send again: a ping, which means no work, else the newest; None of an empty log."""
    pings = (each for each in log if each.event == "ping")
    return next(pings, log[0] if log else None)


def why_not_proved(
    sent: LoggedDelivery, log: Sequence[LoggedDelivery], *, waited_s: float
) -> GuardianError:
    """Say why a redelivery has not come.

    Args:
        sent: what was to be sent again.
        log: GitHub's, read after the wait, the newest first.
        waited_s: how long we have waited.
    """
    again = next((each for each in log if each.guid == sent.guid and each.id != sent.id), None)
    if again is None:
        why = f"GitHub has not sent the delivery again within {waited_s:.0f} s"
        return GuardianError("HOOK_UNPROVED", why, hint="GitHub may be slow: www.githubstatus.com")
    why = f"GitHub sent the delivery and got {again.status_code} ({again.status}), but not from us"
    kind = 200 if 200 <= again.status_code < 300 else again.status_code
    return GuardianError("HOOK_UNPROVED", why, hint=_HINTS.get(kind, _OTHER_HINT))
