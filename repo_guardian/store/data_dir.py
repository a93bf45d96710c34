"""The data folder: made when absent, and owned by exactly one process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repo_guardian.errors import GuardianError


class DataDirLock:
    """A lock on the data folder, which goes with the process, whatever ends it."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / "guardian.lock"
        self._descriptor: int | None = None

    def is_held(self) -> bool:
        """Whether we have it, and its file is still there for others to see that we do."""
        return self._descriptor is not None and is_same_file(self._path, self._descriptor)

    def take(self) -> None:
        """Make the folder and lock it; again after it was removed under us.

        Raises:
            GuardianError: DATA_DIR_UNWRITABLE, or STORE_LOCKED when another process has it.
        """
        if self.is_held():
            return
        self.release()
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as refused:
            raise GuardianError(
                "DATA_DIR_UNWRITABLE",
                f"the data folder {self._data_dir} cannot be written: {refused.strerror}",
                hint=f"chown {os.getuid()} {self._data_dir}, or set DATA_DIR to a folder that"
                f" uid {os.getuid()} may write",
            ) from refused
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            os.close(descriptor)
            raise GuardianError(
                "STORE_LOCKED",
                f"another process uses the data folder {self._data_dir}",
                hint="stop it first, or give this one a DATA_DIR of its own; in Kubernetes use the"
                " Recreate strategy",
            ) from taken
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the folder back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Own the data folder for the time of the `with`.

    Raises:
        GuardianError: DATA_DIR_UNWRITABLE or STORE_LOCKED.
    """
    lock = DataDirLock(data_dir)
    lock.take()
    try:
        yield
    finally:
        lock.release()


def is_same_file(path: Path, descriptor: int) -> bool:
    """Whether `path` still names the file that was opened."""
    try:
        present = path.stat()
    except OSError:
        return False
    opened = os.fstat(descriptor)
    return (present.st_dev, present.st_ino) == (opened.st_dev, opened.st_ino)
