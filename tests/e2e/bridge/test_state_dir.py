"""The state folder: unwritable, locked or full is told, and goes on when it is mended."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

from repo_guardian.bridge.binary import find_binary
from repo_guardian.bridge.protocol import BridgeState
from tests.e2e.bridge.conftest import Place

STARTING = BridgeState.STARTING


async def test_a_folder_that_cannot_be_made_is_told(place: Place) -> None:
    """STATE_DIR_UNWRITABLE; not even root can make a folder in a file."""
    (place.folder / "file").touch()
    async with place.bridge(state_dir=place.folder / "file" / "state") as bridge:
        status = await bridge.says(STARTING, "STATE_DIR_UNWRITABLE")
        assert "TS_STATE_DIR" in status.hint
        (place.folder / "file").unlink()
        assert status.pid == (await bridge.ready()).pid


async def test_a_folder_that_another_process_holds_is_waited_for(place: Place) -> None:
    """STATE_LOCKED once a predecessor had its time to end."""
    state = place.folder / "state"
    state.mkdir(mode=0o700)
    with (state / "bridge.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with place.bridge(shutdown_grace_s=0.0) as bridge:
            status = await bridge.says(STARTING, "STATE_LOCKED")
            assert "its own TS_STATE_DIR" in status.hint
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert status.pid == (await bridge.ready()).pid


async def test_a_full_disk_is_told_before_a_certificate_is_lost_to_it(place: Place) -> None:
    """STATE_DIR_UNWRITABLE on a tmpfs of 2 MiB with a file in it; room is noticed."""
    small = place.folder / "small"
    small.mkdir()
    wrapper = place.folder / "in_small_disk"
    wrapper.write_text(
        f"#!/bin/sh\nexec /usr/bin/unshare --user --map-root-user --mount /bin/sh -c '"
        f"/bin/mount -t tmpfs -o size=2m small {small} && "
        f"/bin/dd if=/dev/zero of={small}/filler bs=1024 count=1500 2>/dev/null && "
        f"exec {find_binary()}'\n"
    )
    wrapper.chmod(0o755)
    async with place.bridge(binary=wrapper, state_dir=small / "state") as bridge:
        status = await bridge.says(STARTING, "STATE_DIR_UNWRITABLE")
        assert "1 MiB" in status.message
        inside = Path(f"/proc/{status.pid}/root") / small.relative_to("/")
        (inside / "filler").unlink()
        assert status.pid == (await bridge.ready()).pid
        await asyncio.to_thread(os.stat, inside / "state" / "tailscaled.state")
