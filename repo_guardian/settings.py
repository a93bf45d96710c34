"""Environment, `NAME_FILE` and `.env` to `Settings`; every mistake in one report, never a secret's value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from repo_guardian.errors import GuardianError

#: Other names for a setting: the Go program's, containerboot's and tsnet's.
ALIASES: Mapping[str, str] = {"TS_AUTH_KEY": "TS_AUTHKEY", "TS_LOGIN_SERVER": "TS_CONTROL_URL"}
#: A setting that always named a file, from the Go program.
FILE_ALIASES: Mapping[str, str] = {"GITHUB_PRIVATE_KEY_PATH": "GITHUB_PRIVATE_KEY"}
GITHUB_ACTION_REFUSED = (
    "the mode github-action cannot work: a workflow's GITHUB_TOKEN has no permission to write custom"
    " properties; unset CUSTOM_PROPERTIES_MODE"
)

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_S = 8760 * 3600.0
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d+)?)(?:ms|s|m|h))+")
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TAG = re.compile(r"tag:[a-zA-Z][a-zA-Z0-9-]*")


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


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


_Address = Annotated[Address, BeforeValidator(parse_address)]
_Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
_Names = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]


class Settings(BaseModel):
    """All settings, checked. The name of a setting is the field's name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    github_app_id: int = Field(gt=0)
    """The App's id, on its settings page."""
    github_private_key: SecretStr
    """The App's private key in PEM form; usually given as GITHUB_PRIVATE_KEY_FILE."""
    github_webhook_secret: SecretStr | None = None
    """The secret of the App's webhook; needed by `run`."""
    github_webhook_secret_previous: SecretStr | None = None
    """The secret before the last rotation, accepted as well while it is set."""
    github_api_url: str = "https://api.github.com"
    """REST base address; for GitHub Enterprise Server `https://HOST/api/v3`."""
    listen_addr: _Address = Address("", 8080)
    """Local address that takes webhooks too, beside the Funnel; also /healthz and /readyz."""
    metrics_addr: _Address = Address("", 9090)
    """Local address of /metrics, /healthz and /readyz; never on the Funnel."""
    webhook_path: str = "/webhooks/github"
    """The one path that takes webhooks."""
    data_dir: Path = Path("/var/lib/repo-guardian")
    """The one writable folder: database, sockets, Tailscale state."""
    policy_file: Path | None = None
    """YAML file with the rules; without it the built-in policy holds."""
    template_dir: Path = Path("/etc/repo-guardian/templates")
    """Folder whose `*.tmpl` files replace the built-in templates; may be absent."""
    worker_count: int = Field(5, ge=1, le=64)
    """How many repositories are worked on at once."""
    queue_size: int = Field(1000, ge=1, le=1_000_000)
    """How many deliveries may wait for the disk; one more is answered 503."""
    schedule_interval: _Duration = Field(timedelta(hours=168), ge=timedelta(minutes=1))
    """How often all repositories are looked at, webhook or not; also at every start."""
    skip_forks: bool = True
    """Leave forks alone."""
    skip_archived: bool = True
    """Leave archived repositories alone (GitHub refuses writes to them)."""
    dry_run: bool = False
    """Stop at the plan and log it; nothing is written to GitHub."""
    rate_limit_threshold: float = Field(0.10, ge=0.0, lt=1.0)
    """Share of GitHub's hourly budget that is left untouched."""
    custom_properties_mode: Literal[""] = ""
    """Not in this version; `github-action` is refused because it cannot work."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: console on a terminal, JSON elsewhere."""
    shutdown_grace: _Duration = Field(timedelta(seconds=25), ge=timedelta(seconds=10))
    """Time for what is in flight at a stop; at least 10s."""
    tailscale_funnel: bool = False
    """Be reachable from the internet through the embedded Tailscale node."""
    ts_authkey: SecretStr | None = None
    """Auth key for the first start, or `file:/path`; without it the log shows a login address."""
    ts_hostname: str = "repo-guardian"
    """The node's name: the public address begins with it."""
    ts_state_dir: Path | None = None
    """The node's keys and certificates; DATA_DIR/tailscale when unset."""
    ts_control_url: str = ""
    """Another control server; only Tailscale's own has Funnel."""
    ts_tags: _Names = ()
    """Tags the node asks for, such as `tag:guardian`."""
    ts_funnel_port: Literal[443, 8443, 10000] = 443
    """The public port: 443, 8443 or 10000."""
    ts_no_logs_no_support: bool = False
    """Send no client logs to Tailscale; a tailnet with network flow logs refuses such a node."""
    ts_local_tailnet: bool = False
    """Only for the local tailnet of the demo and the tests, which lives on 127.0.0.1."""
    tsnet_bridge_bin: Path | None = None
    """Another helper binary than the bundled one."""

    @field_validator("custom_properties_mode", mode="before")
    @classmethod
    def _no_properties(cls, value: object) -> object:
        if value == "github-action":
            raise ValueError(GITHUB_ACTION_REFUSED)
        if value:
            raise ValueError("custom properties are not in this version yet: unset it")
        return value

    @field_validator("github_webhook_secret", "github_webhook_secret_previous")
    @classmethod
    def _not_blank(cls, value: SecretStr | None) -> SecretStr | None:
        # An empty secret would let everybody sign: HMAC takes any key.
        if value is not None and not value.get_secret_value().strip():
            raise ValueError("it is empty; expected a secret, or the setting unset")
        return value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        lowered = value.lower() if isinstance(value, str) else value
        return "warning" if lowered == "warn" else lowered

    @field_validator("ts_funnel_port", mode="before")
    @classmethod
    def _port(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdigit() else value

    @field_validator("github_api_url", "ts_control_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/]+(/[^\s]*)?", value):
            raise ValueError("expected an address that begins with https://")
        return value.rstrip("/")

    @field_validator("webhook_path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not re.fullmatch(r"/[A-Za-z0-9._~/-]+", value) or value in {"/healthz", "/readyz"}:
            raise ValueError("expected a path such as /webhooks/github")
        return value

    @field_validator("ts_hostname")
    @classmethod
    def _label(cls, value: str) -> str:
        if not _DNS_LABEL.fullmatch(value):
            raise ValueError("expected one DNS label: a-z, 0-9 and '-', at most 63 characters")
        return value

    @field_validator("ts_tags")
    @classmethod
    def _tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if bad := [tag for tag in value if not _TAG.fullmatch(tag)]:
            raise ValueError(f"expected names such as tag:guardian, got {bad[0]!r}")
        return value

    @model_validator(mode="after")
    def _different_ports(self) -> Self:
        if self.listen_addr == self.metrics_addr and self.listen_addr.port:
            raise ValueError("LISTEN_ADDR and METRICS_ADDR are the same; expected two addresses")
        return self

    @property
    def webhook_secrets(self) -> tuple[bytes, ...]:
        """The secrets a signature may be made with, the present one first."""
        both = (self.github_webhook_secret, self.github_webhook_secret_previous)
        # What the environment held that is not UTF-8 comes as surrogates: back to its bytes.
        return tuple(
            secret.get_secret_value().encode("utf-8", "surrogateescape")
            for secret in both
            if secret is not None
        )

    @property
    def state_dir(self) -> Path:
        """Where the Tailscale node keeps its keys and certificates."""
        return self.ts_state_dir or self.data_dir / "tailscale"


def load_settings(environ: Mapping[str, str], *, serving: bool) -> Settings:
    """Read `Settings` from an environment.

    Args:
        environ: names to values; unknown names are left alone.
        serving: whether webhooks are to be taken, which needs GITHUB_WEBHOOK_SECRET.

    Raises:
        GuardianError: SETTINGS_INVALID with every mistake, a line each.
    """
    values, problems = _read(environ)
    if serving and "github_webhook_secret" not in values:
        missing = "is missing; expected the secret of the App's webhook"
        problems.setdefault("GITHUB_WEBHOOK_SECRET", missing)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as invalid:
        problems = {**_describe(invalid), **problems}
    else:
        if not problems:
            return settings
    lines = "".join(f"\n  {name} {text}" for name, text in sorted(problems.items()))
    raise GuardianError(
        "SETTINGS_INVALID",
        f"{len(problems)} setting{'s' if len(problems) > 1 else ''} must be mended:{lines}",
        hint="each NAME can also be given as NAME_FILE=/path; the table of settings is in README.md",
    )


def without_given(lower: Mapping[str, str], upper: Mapping[str, str]) -> dict[str, str]:
    """Of `lower` what `upper` does not give by any name of the same setting."""
    given = {
        name
        for field in Settings.model_fields
        for name in _names(field.upper())
        if any(upper.get(other) for other in _names(field.upper()))
    }
    return {name: value for name, value in lower.items() if name not in given}


def _read(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The raw values by field, and the problems found on the way by setting."""
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in Settings.model_fields:
        name = field.upper()
        sources = {given: environ[given] for given in _names(name) if environ.get(given)}
        if len(sources) > 1:
            problems[name] = f"is given twice, by {' and '.join(sources)}; expected one of them"
        for given, text in sources.items():
            try:
                values[field] = _value(name, given, text)
            except (OSError, UnicodeDecodeError) as unreadable:
                why = getattr(unreadable, "strerror", None) or "not UTF-8 text"
                problems.setdefault(
                    name, f"cannot be read from the file that {given} names ({why})"
                )
    return values, problems


def _names(name: str) -> list[str]:
    others = [alias for alias, target in ALIASES.items() if target == name]
    files = [alias for alias, target in FILE_ALIASES.items() if target == name]
    return [name, *others, *(f"{given}_FILE" for given in (name, *others)), *files]


def _value(name: str, given: str, text: str) -> str:
    """The value itself, read from a file where the setting names one; one newline at the end is dropped."""
    if name == "TS_AUTHKEY" and text.startswith("file:"):  # containerboot's way to name a file
        return Path(text.removeprefix("file:")).read_text().strip()
    if given in FILE_ALIASES or (given.endswith("_FILE") and given != name):
        return Path(text).read_text().removesuffix("\n")
    return text


def _describe(invalid: ValidationError) -> dict[str, str]:
    """One sentence per setting, without the value that was given: it may be a secret."""
    problems: dict[str, str] = {}
    for error in invalid.errors(include_url=False, include_input=False, include_context=False):
        name = str(error["loc"][0]).upper() if error["loc"] else "LISTEN_ADDR"
        text = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
        problems[name] = "is missing" if error["type"] == "missing" else f"is wrong: {text}"
    return problems
