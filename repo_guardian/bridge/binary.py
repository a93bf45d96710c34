"""Where the bridge's binary is, and what it means when it does not start."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Final

from repo_guardian.errors import GuardianError

BINARY_NAME: Final = "tsnet_bridge"

_MISSING_HINT: Final = (
    "This is a wheel without the bridge, or a source tree where it was not built: run `make build`, "
    "install a platform wheel, or name the file in TSNET_BRIDGE_BIN."
)


def find_binary(override: Path | None = None) -> Path:
    """Find the bridge: the override, else the one in this package, else the one on PATH.

    Raises:
        GuardianError: `BRIDGE_BINARY_MISSING` or `BRIDGE_BINARY_NOT_EXECUTABLE`.
    """
    if override is not None:
        return _checked(override, "Correct TSNET_BRIDGE_BIN.")
    packaged = Path(str(resources.files("repo_guardian"))) / "_bin" / BINARY_NAME
    if packaged.exists():
        return _checked(packaged, _MISSING_HINT)
    if on_path := shutil.which(BINARY_NAME):
        return Path(on_path).absolute()
    raise GuardianError(
        "BRIDGE_BINARY_MISSING",
        f"{BINARY_NAME} is neither at {packaged} nor on PATH",
        hint=_MISSING_HINT,
    )


def _checked(path: Path, missing_hint: str) -> Path:
    path = path.absolute()
    if not path.is_file():
        raise GuardianError(
            "BRIDGE_BINARY_MISSING", f"{path}: expected the bridge there", hint=missing_hint
        )
    if not os.access(path, os.X_OK):
        raise _not_executable(path)
    return path


def helper_version(override: Path | None = None) -> str:
    """The bridge's own line about its version, or in a sentence why there is none."""
    try:
        binary = find_binary(override)
    except GuardianError as missing:
        return f"{BINARY_NAME}: {missing.message}"
    try:
        done = subprocess.run(  # noqa: S603 - our own binary, or the one that the operator named
            [str(binary), "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as broken:
        return f"{BINARY_NAME}: {binary} does not run: {broken}"
    return done.stdout.strip()


def start_error(path: Path, error: OSError) -> GuardianError | None:
    """What an error at exec means for a person; None when it may pass by itself (no memory, no process)."""
    match error.errno:
        case errno.ENOENT:
            return GuardianError(
                "BRIDGE_BINARY_MISSING",
                f"{path} or the interpreter that it names is gone",
                hint=_MISSING_HINT,
            )
        case errno.EACCES | errno.EPERM:
            return _not_executable(path)
        case errno.ENOEXEC:
            return GuardianError(
                "BRIDGE_BINARY_WRONG_ARCH",
                f"{path} is no program for this machine ({os.uname().machine})",
                hint="Run `make build` here, install the wheel of this platform, "
                "or name another file in TSNET_BRIDGE_BIN.",
            )
        case _:
            return None


def _not_executable(path: Path) -> GuardianError:
    return GuardianError(
        "BRIDGE_BINARY_NOT_EXECUTABLE",
        f"{path} may not be executed by user {os.getuid()}",
        hint=f"Run `chmod 755 {path}`; a file system mounted noexec refuses it as well.",
    )
