"""Small disks for tests: full ones, read-only ones, ones that go away. Needs the right to mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repo_guardian.errors import GuardianError


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A disk of so many bytes at `folder`, in memory; gone afterwards, whatever is open on it.

    Raises:
        GuardianError: MOUNT_REFUSED.
    """
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "small-disk", folder)
    try:
        yield folder
    finally:
        _run("umount", "--lazy", folder)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A file or folder that nobody can write for the time of the `with`, not even root.

    Raises:
        GuardianError: MOUNT_REFUSED.
    """
    _run("mount", "--bind", path, path)
    try:
        _run("mount", "-o", "remount,bind,ro", path)
        yield
    finally:
        _run("umount", "--lazy", path)


def fill(folder: Path) -> Path:
    """Take what is free on the disk; returns the file to remove to give it back."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return ballast
    raise AssertionError("a file takes more than 0 bytes")


def _run(*command: str | Path) -> None:
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        raise GuardianError(
            "MOUNT_REFUSED",
            f"this test needs a disk of its own, and mount says: {told.stderr.strip()}",
            hint="run the tests as root, in a container with the capability SYS_ADMIN",
        )
