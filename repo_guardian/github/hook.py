"""The App's own hook at GitHub: how it is set, what it sent, and sending one of that again.

Source: https://docs.github.com/rest/apps/webhooks. GitHub has no call that sends an App's hook a ping, and
it sends none when the hook is changed (https://github.com/octokit/webhooks/issues/3), so a hook is proved
by a redelivery.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from repo_guardian.github import errors
from repo_guardian.github.client import GitHub
from repo_guardian.github.deliveries import DELIVERIES, read_page
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.proof import LoggedDelivery

_CONFIG: Final = "/app/hook/config"


@dataclass(frozen=True, slots=True)
class HookConfig:
    """How the App's hook is set at GitHub.

    Attributes:
        url: where deliveries go; empty when the App has no hook address.
        content_type: `json` or `form`.
        insecure_ssl: `0`, or `1` when GitHub does not check our certificate.
        has_secret: whether deliveries are signed; GitHub never tells the secret.
    """

    url: str
    content_type: str
    insecure_ssl: str
    has_secret: bool


def differences(config: HookConfig, url: str) -> dict[str, str]:
    """What of the hook's settings is not as deliveries to `url` need it, with the values that it needs."""
    wanted = {"url": url, "content_type": "json", "insecure_ssl": "0"}
    return {name: value for name, value in wanted.items() if getattr(config, name) != value}


def server_time_skew_s(github: GitHub) -> float | None:
    """Seconds that GitHub's clock is ahead of ours, to about a second, as its newest answer told.

    A refusal tells it as well, which explains a refused App JWT. None before the first answer.
    """
    return github.clock_skew_s


async def read_hook_config(github: GitHub) -> HookConfig:
    """Read how the App's hook is set.

    Raises:
        GuardianError: GitHub's refusals; GITHUB_NOT_FOUND when the App has no hook.
    """
    return _parse_config(await github.call("GET", _CONFIG))


async def change_hook_config(github: GitHub, changes: Mapping[str, str]) -> None:
    """Set these settings of the App's hook and leave the others, the secret too, as they are.

    Args:
        changes: from `differences`.

    Raises:
        GuardianError: GitHub's refusals.
    """
    await github.call("PATCH", _CONFIG, data=dict(changes))


async def newest_deliveries(github: GitHub) -> tuple[LoggedDelivery, ...]:
    """Read the newest attempts in GitHub's log, the newest first; GitHub keeps three days.

    Raises:
        GuardianError: GitHub's refusals.
    """
    return (await read_page(github)).entries


async def redeliver(github: GitHub, delivery: LoggedDelivery) -> None:
    """Ask GitHub to send a delivery again, with its GUID, to where the hook points now.

    Raises:
        GuardianError: GitHub's refusals.
    """
    await github.call("POST", f"{DELIVERIES}/{delivery.id}/attempts")


def _parse_config(answer: Any) -> HookConfig:
    if not isinstance(answer, dict):
        raise GitHubError(errors.UNAVAILABLE, f"GET {_CONFIG} got no usable answer")
    return HookConfig(
        url=str(answer.get("url") or ""),
        content_type=str(answer.get("content_type") or "form"),
        # GitHub's schema allows the number as well.
        insecure_ssl=str(answer.get("insecure_ssl", "0")),
        has_secret=bool(answer.get("secret")),
    )
