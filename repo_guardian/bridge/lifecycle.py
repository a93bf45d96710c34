"""What to do when the child ends: start it again, give up, or be done. Pure: tables and numbers, no clock.

    the child ended                                    →
    ───────────────────────────────────────────────────────────────────────────
    after we asked it to stop, however                 Done
    with 2, and its last line carries a code           GiveUp, in its own words
    with 3, and its last line carries a code           Restart at once: it asked to be replaced
    anyhow else: a crash, a signal, our watchdog,
    or a stop that we did not ask for                  Restart, later each time

A service manager that stops the whole process group may reach the child first: our own stop then comes
within the backoff and ends the wait, so nothing is started in vain.

Go ends a panic with exit code 2 as well, which is why the code alone is not believed: a panic's last line is
a stack trace and carries no code.

A child that follows on one that asked to be replaced is told so (`repaired`), and does not ask again until
its public address has answered. That holds on for its own successors, until one of them was ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from repo_guardian.bridge.protocol import LogLine
from repo_guardian.errors import GuardianError

EXIT_REFUSED: Final = 2
EXIT_REPLACE_ME: Final = 3

FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 30.0

#: After a run of this many seconds the next crash counts as the first again.
HEALTHY_RUN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again.

    Attributes:
        after_s: seconds to wait before.
        repaired: what the next start document says.
    """

    after_s: float
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not start it again: a person must change something first."""

    error: GuardianError


@dataclass(frozen=True, slots=True)
class Done:
    """It was to stop and it stopped."""


Decision = Restart | GiveUp | Done


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one run of the child ended."""

    exit_code: int | None
    """A signal is its negative number; None when it never ran, or when our supervision broke."""
    last_line: LogLine | None
    """What it wrote on stderr last."""
    uptime_s: float
    was_ready: bool = False
    """Whether its public address was served."""


def decide(
    ending: Ending,
    *,
    wanted_stop: bool,
    crashes: int,
    jitter: float,
    repaired: bool = False,
    first_backoff_s: float = FIRST_BACKOFF_S,
) -> Decision:
    """Decide what follows an ending.

    Args:
        ending: how this run ended.
        wanted_stop: whether we had asked the child to stop.
        crashes: crashes in a row, this one included (see `crashes_in_a_row`).
        jitter: a random number from 0 to 1, so that many parents do not restart at once.
        repaired: what the start document of this run said.
        first_backoff_s: seconds to wait after the first crash.
    """
    if wanted_stop:
        return Done()
    if ending.exit_code == EXIT_REFUSED and (refusal := _own_words(ending)):
        return GiveUp(refusal)
    wait_s = backoff_s(crashes, jitter, first_backoff_s)
    if ending.exit_code == EXIT_REPLACE_ME and _own_words(ending):
        # Only the first in a row is at once: a child that always asks must not keep a core busy.
        return Restart(0.0 if crashes == 1 else wait_s, repaired=True)
    return Restart(wait_s, repaired=repaired and not ending.was_ready)


def crashes_in_a_row(before: int, uptime_s: float) -> int:
    """Count this crash; a long healthy run before it forgives the earlier ones."""
    return 1 if uptime_s >= HEALTHY_RUN_S else before + 1


def backoff_s(crashes: int, jitter: float, first_s: float = FIRST_BACKOFF_S) -> float:
    """Seconds to wait after so many crashes in a row: 0.5, 1, 2 … 30, a quarter less to a quarter more."""
    # The exponent is bounded because 2.0**1024 does not exist.
    base = min(first_s * 2.0 ** min(crashes - 1, 16), LONGEST_BACKOFF_S)
    return base * (0.75 + jitter / 2)


def why_restarted(ending: Ending) -> GuardianError:
    """What a person is told between two children."""
    if ending.exit_code == EXIT_REPLACE_ME and (asked := _own_words(ending)):
        return asked
    return GuardianError(
        "BRIDGE_CRASHED",
        f"the bridge ended with {describe_exit(ending.exit_code)} and is started again",
        hint="Its last log lines tell why.",
    )


def describe_exit(exit_code: int | None) -> str:
    """`exit code 7` or `signal 9`, for a person."""
    if exit_code is None:
        return "an error of its supervision"
    return f"exit code {exit_code}" if exit_code >= 0 else f"signal {-exit_code}"


def _own_words(ending: Ending) -> GuardianError | None:
    """What the child's last line says, when it carries a code."""
    line = ending.last_line
    if line is None or not line.code:
        return None
    message = line.fields.get("message") or line.fields.get("error") or line.event
    return GuardianError(line.code, str(message), hint=str(line.fields.get("hint", "")))
