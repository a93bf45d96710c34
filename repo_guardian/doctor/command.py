"""`repo-guardian funnel doctor`: gather, then judge."""

from __future__ import annotations

import asyncio
import os

from repo_guardian.doctor.diagnose import diagnose
from repo_guardian.doctor.gather import gather
from repo_guardian.doctor.rows import Row
from repo_guardian.log import configure_logging
from repo_guardian.settings.invocation import read_environment


def examine(*, timeout_s: float, verbose: bool) -> list[Row]:
    """Look at everything.

    Args:
        timeout_s: how long the bridge may take to get as far as it gets.
        verbose: whether the log of a helper that is started goes to standard error.
    """
    configure_logging("debug" if verbose else "critical", "auto")
    os.umask(0o077)  # as `run` does: what the helper writes is for this user alone
    return diagnose(asyncio.run(gather(read_environment(), timeout_s=timeout_s)))
