"""What the doctor knows when it begins to think. Pure: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from repo_guardian.bridge.protocol import BridgeStatus, ProbeStatus
from repo_guardian.errors import GuardianError


class Asked(StrEnum):
    """Whose helper told what is known of the bridge."""

    NONE = "not asked"
    RUNNING = "the server's"
    STARTED = "started for this look"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDirFacts:
    """The folder with the node's keys and certificates.

    Attributes:
        path: where it is.
        owner: user id of its owner, or of the nearest folder above that is there.
        mode: its permission bits; None when it is not there yet.
        user: user id of this process.
        free_bytes: what this user may still write to its disk.
        refused: why this user cannot use it.
    """

    path: Path
    user: int
    owner: int = 0
    mode: int | None = None
    free_bytes: int = 0
    refused: GuardianError | None = None

    @property
    def is_foreign_to_root(self) -> bool:
        """Whether what we, as root, write there would be out of reach for the user whose folder it is."""
        return self.user == 0 and self.owner != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelFacts:
    """The way from the public address to us.

    Attributes:
        hostname: the wanted name of the node.
        port: the wanted public port.
        state_dir: see there.
        helper: what the helper says of its version, or why it says nothing.
        asked: whose helper told.
        waited_s: how long we waited for it to get further.
        problem: why there is no helper that could tell, or what it refused.
        status: its last word.
        probe: a look at the public address, taken now or the last one; None when there was none.
    """

    hostname: str
    port: int
    state_dir: StateDirFacts
    helper: str = ""
    asked: Asked = Asked.NONE
    waited_s: float = 0.0
    problem: GuardianError | None = None
    status: BridgeStatus | None = None
    probe: ProbeStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFacts:
    """How the App's hook is set at GitHub.

    Attributes:
        url: where GitHub delivers to; may be empty.
        has_secret: whether it signs deliveries.
        differs: by the name of the setting, GitHub's value and the one that deliveries to us need.
    """

    url: str
    has_secret: bool
    differs: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubFacts:
    """What GitHub says of our hook, and of the time.

    Attributes:
        hook: how the App's hook is set.
        problem: why GitHub did not tell.
        skew_s: seconds that GitHub's clock is ahead of ours.
    """

    hook: HookFacts | None = None
    problem: GuardianError | None = None
    skew_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything.

    Attributes:
        now: when it was found out; aware.
        settings: what is wrong in the settings.
        wants_funnel: whether TAILSCALE_FUNNEL is on.
        funnel: None when its settings are wrong, or when no Funnel is wanted.
        github: None when its settings are wrong.
    """

    now: datetime
    settings: GuardianError | None = None
    wants_funnel: bool = True
    funnel: FunnelFacts | None = None
    github: GitHubFacts | None = None
