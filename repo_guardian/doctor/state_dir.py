"""Whether the state directory is fit to hold the node's identity. Pure."""

from __future__ import annotations

from typing import Final

from repo_guardian.doctor.facts import Asked, FunnelFacts
from repo_guardian.doctor.rows import Check, Result, Row

_MIB: Final = 1 << 20
#: The helper does not start with less than 1 MiB; state and certificates need a hundredth of this.
_ROOMY: Final = 50 * _MIB


def state_dir_row(funnel: FunnelFacts) -> Row:
    """Judge the folder by what was found in the file system."""
    found = funnel.state_dir
    if (refused := found.refused) is not None:
        return Row(Check.STATE_DIR, Result.FAILED, refused.message, refused.hint, refused.code)
    if found.is_foreign_to_root and funnel.asked is not Asked.RUNNING:
        message = f"{found.path} is user {found.owner}'s: what root writes there locks them out"
        fix = f"look again as that user: setpriv --reuid {found.owner} --clear-groups repo-guardian funnel doctor"
        return Row(Check.STATE_DIR, Result.FAILED, message, fix)
    if found.mode is not None and found.mode & 0o077:
        message = f"{found.path} has mode {found.mode:04o}: others can reach the node's keys"
        return Row(Check.STATE_DIR, Result.WARNING, message, f"chmod 700 {found.path}")
    room = f"{found.path}, {_size(found.free_bytes)} free"
    if found.free_bytes < _ROOMY:
        return Row(Check.STATE_DIR, Result.WARNING, room, f"make room: df -h {found.path}")
    return Row(Check.STATE_DIR, Result.OK, room)


def _size(count: int) -> str:
    if count >= 1024 * _MIB:
        return f"{count / (1024 * _MIB):.0f} GiB"
    return f"{count / _MIB:.0f} MiB"
