"""What a setting can hold beside text and numbers, read from the text that the environment has (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from repo_guardian.forms import is_address_and_port

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_S = 8760 * 3600.0
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d+)?)(?:ms|s|m|h))+")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: `host` is empty for all interfaces, `port` 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: object) -> object:
    """Turn Go's `:8080`, `host:8080` or `[::1]:8080` into an `Address`; raise ValueError otherwise."""
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("expected HOST:PORT or :PORT, such as :8080")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def check_endpoint(value: str) -> str:
    """Return `address:port` as it is, or an empty text; raise ValueError for a name or for anything else."""
    if value and not is_address_and_port(value):
        raise ValueError("expected ADDRESS:PORT in numbers, such as 127.0.0.1:53")
    return value


def parse_duration(value: object) -> object:
    """Turn a Go duration such as `1h30m` or `25s` into a timedelta; raise ValueError otherwise."""
    if not isinstance(value, str):
        return value
    if not _DURATION.fullmatch(value):
        raise ValueError("expected a duration with units, such as 25s, 10m or 168h")
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value)
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if seconds > _LONGEST_S:
        raise ValueError("expected at most a year, 8760h")
    return timedelta(seconds=seconds)


def split_commas(value: object) -> object:
    """Turn `a, b` into a tuple of its parts, without the empty ones."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


ListenAddress = Annotated[Address, BeforeValidator(parse_address)]
#: `address:port` in numbers, or empty.
NumericAddress = Annotated[str, AfterValidator(check_endpoint)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Names = Annotated[tuple[str, ...], BeforeValidator(split_commas)]
