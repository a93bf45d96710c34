"""What GitHub tells everybody about itself: where it sends hooks from."""

from __future__ import annotations

from repo_guardian.github.client import GitHub


async def read_hook_ranges(github: GitHub) -> tuple[str, ...]:
    """Return the address ranges that GitHub sends hooks from, such as `192.30.252.0/22`.

    None at all on an Enterprise Server, whose answer has no `hooks`
    (https://docs.github.com/enterprise-server/rest/meta/meta).

    Raises:
        GuardianError: GitHub's refusals.
    """
    told = await github.meta()
    ranges = told.get("hooks") if isinstance(told, dict) else None
    return tuple(str(each) for each in ranges) if isinstance(ranges, list) else ()
