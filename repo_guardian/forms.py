"""The forms of names, paths and addresses that settings and the bridge's start document share; no I/O."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from repo_guardian.errors import GuardianError

#: `sun_path` has 108 bytes on Linux, the last one is NUL (unix(7)).
MAX_SOCKET_PATH_BYTES: Final = 107

#: The ports that Funnel has (https://tailscale.com/kb/1223/funnel).
FUNNEL_PORTS: Final = (443, 8443, 10000)

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TAG: Final = re.compile(r"tag:[A-Za-z][A-Za-z0-9-]*")
_URL_PATH: Final = re.compile(r"/[A-Za-z0-9._~/-]*")


def is_dns_label(text: str) -> bool:
    """Whether it can be a node's name: one lower-case DNS label."""
    return _DNS_LABEL.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether it has the form `tag:name` (https://tailscale.com/kb/1068/tags)."""
    return _TAG.fullmatch(text) is not None


def is_url_path(text: str) -> bool:
    """Whether it is an absolute path of plain characters, such as `/webhooks/github`."""
    return _URL_PATH.fullmatch(text) is not None


def is_address_and_port(text: str) -> bool:
    """Whether it is an IP address with a port, such as `127.0.0.1:53` or `[::1]:53`."""
    host, _, port = text.rpartition(":")
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return port.isascii() and port.isdigit() and int(port) < 1 << 16


def check_socket_path(path: Path, name: str = "the socket path") -> None:
    """Refuse the path of a Unix socket that the kernel would refuse.

    Args:
        path: where the socket will be.
        name: what the error calls it.

    Raises:
        GuardianError: SOCKET_PATH_TOO_LONG.
    """
    if (length := len(os.fsencode(path))) > MAX_SOCKET_PATH_BYTES:
        raise GuardianError(
            "SOCKET_PATH_TOO_LONG",
            f"{name} {path} has {length} bytes, expected at most {MAX_SOCKET_PATH_BYTES}",
            hint="choose a shorter DATA_DIR (or TMPDIR, for a Funnel in a program of your own)",
        )
