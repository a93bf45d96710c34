"""Environment, `NAME_FILE` and `.env` to `Settings`; every mistake in one report, never a secret's value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from repo_guardian.errors import GuardianError
from repo_guardian.forms import is_dns_label, is_tag, is_url_path
from repo_guardian.settings.environment import names_of, read_texts
from repo_guardian.settings.login import OAUTH_PREFIX, login_problems
from repo_guardian.settings.types import Address, Duration, ListenAddress, Names, NumericAddress

__all__ = ["Address", "Settings", "load_settings", "without_given"]

GITHUB_ACTION_REFUSED = (
    "the mode github-action cannot work: a workflow's GITHUB_TOKEN has no permission to write custom"
    " properties; unset CUSTOM_PROPERTIES_MODE"
)

#: Paths that have a meaning of their own beside the webhooks'.
_TAKEN_PATHS = ("/", "/healthz", "/readyz", "/status")
_MIB = 1024 * 1024
_SHORTEST, _HOUR = timedelta(milliseconds=100), timedelta(hours=1)


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
    listen_addr: ListenAddress = Address("", 8080)
    """Local address that takes webhooks too, beside the Funnel; also /healthz and /readyz."""
    metrics_addr: ListenAddress = Address("", 9090)
    """Local address of /metrics, /healthz and /readyz; never on the Funnel."""
    webhook_path: str = "/webhooks/github"
    """The one path that takes webhooks."""
    data_dir: Path = Path("/var/lib/repo-guardian")
    """The one writable folder: database, sockets, Tailscale state."""
    database_url: SecretStr | None = None
    """PostgreSQL instead of SQLite in DATA_DIR, for several replicas: `postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full`."""
    delivery_retention: Duration = Field(
        timedelta(hours=720), ge=timedelta(hours=192), le=timedelta(hours=8760)
    )
    """How long deliveries are kept; at least 192h, longer than GitHub's own log."""
    store_max_bytes: int = Field(1024 * _MIB, ge=16 * _MIB)
    """What the database may take in bytes; beyond it the oldest payloads are dropped."""
    recovery_interval: Duration = Field(
        timedelta(minutes=5), ge=timedelta(seconds=1), le=timedelta(hours=24)
    )
    """How often GitHub's log is read for deliveries that did not arrive; also at every start."""
    policy_file: Path | None = None
    """YAML file with the rules; without it the built-in policy holds."""
    template_dir: Path = Path("/etc/repo-guardian/templates")
    """Folder whose `*.tmpl` files replace the built-in templates; may be absent."""
    worker_count: int = Field(5, ge=1, le=64)
    """How many repositories are worked on at once."""
    queue_size: int = Field(1000, ge=1, le=1_000_000)
    """How many deliveries may wait for the disk; one more is answered 503."""
    schedule_interval: Duration = Field(timedelta(hours=168), ge=timedelta(minutes=1))
    """How often all repositories are looked at, webhook or not; also at every start."""
    skip_forks: bool = True
    """Leave forks alone."""
    skip_archived: bool = True
    """Leave archived repositories alone (GitHub refuses writes to them)."""
    dry_run: bool = False
    """Stop at the plan and log it; nothing is written to GitHub."""
    rate_limit_threshold: float = Field(0.10, ge=0.0, lt=1.0)
    """Share of GitHub's hourly budget that is left untouched."""
    hook_source_check: Literal["off", "report", "enforce"] = "off"
    """`off`, `report` or `enforce`: what to do with deliveries through the Funnel that do not come from GitHub's published addresses."""
    webhook_autoconfig: bool = False
    """With the Funnel: enter the public address as the App's webhook URL, and prove it by a redelivery."""
    custom_properties_mode: Literal[""] = ""
    """Not in this version; `github-action` is refused because it cannot work."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: console on a terminal, JSON elsewhere."""
    shutdown_grace: Duration = Field(timedelta(seconds=25), ge=timedelta(seconds=10))
    """Time for what is in flight at a stop; at least 10s."""
    tailscale_funnel: bool = False
    """Be reachable from the internet through the embedded Tailscale node."""
    tailscale_tailnet: bool = True
    """Members of the tailnet may read /status at the same address."""
    ts_authkey: SecretStr | None = None
    """Auth key for the first start, or `file:/path`; without any key the log shows a login address."""
    ts_client_secret: SecretStr | None = None
    """OAuth client secret instead of an auth key, or `file:/path`; needs TS_TAGS."""
    ts_client_id: str = ""
    """Client id of a workload identity, instead of a key; needs TS_TAGS, and TS_ID_TOKEN or TS_AUDIENCE."""
    ts_id_token: SecretStr | None = None
    """The workload's token, or `file:/path`, which is read again at each login."""
    ts_audience: str = ""
    """Audience to ask the workload's own cloud for a token with; the helper must be built with REPO_GUARDIAN_WIF=1."""
    ts_hostname: str = "repo-guardian"
    """The node's name: the public address begins with it."""
    ts_accept_name: bool = False
    """Serve under the name that the tailnet gives when TS_HOSTNAME is taken, such as `repo-guardian-1`."""
    ts_state_dir: Path | None = None
    """The node's keys and certificates; DATA_DIR/tailscale when unset."""
    ts_control_url: str = ""
    """Another control server; only Tailscale's own has Funnel."""
    ts_tags: Names = ()
    """Tags the node asks for, such as `tag:guardian`."""
    ts_funnel_port: Literal[443, 8443, 10000] = 443
    """The public port: 443, 8443 or 10000."""
    ts_no_logs_no_support: bool = False
    """Send no client logs to Tailscale; a tailnet with network flow logs refuses such a node."""
    ts_local_tailnet: NumericAddress = ""
    """Only for the local tailnet of the demo and the tests: where its public side is, `127.0.0.1:PORT`."""
    funnel_probe: bool = True
    """Look at the own public address from outside, and mend the path when it does not answer."""
    funnel_probe_interval: Duration = Field(
        timedelta(seconds=60), ge=timedelta(seconds=1), le=timedelta(hours=24)
    )
    """Time between two looks, 1s to 24h."""
    funnel_probe_resolver: NumericAddress = ""
    """DNS server that the look asks, `address:port`; the system's when unset."""
    funnel_max_connections: int = Field(256, ge=1, le=100_000)
    """Public connections at a time; one more is answered 503."""
    funnel_max_connections_per_source: int = Field(64, ge=1, le=100_000)
    """Of them from one address."""
    funnel_requests_per_source: float = Field(100, ge=0.01, le=1_000_000)
    """Requests a second from one address."""
    funnel_max_body: int = Field(25 * _MIB, ge=1, le=25 * _MIB)
    """Largest body in bytes; never more than GitHub's own cap, 25 MiB."""
    funnel_max_header: int = Field(65_536, ge=1024, le=_MIB)
    """Largest header in bytes."""
    funnel_header_timeout: Duration = Field(timedelta(seconds=5), ge=_SHORTEST, le=_HOUR)
    """Time for the TLS handshake, and for the header."""
    funnel_read_timeout: Duration = Field(timedelta(seconds=30), ge=_SHORTEST, le=_HOUR)
    """Time for a whole request, of which Python gives the body at most 30s."""
    funnel_write_timeout: Duration = Field(timedelta(seconds=30), ge=_SHORTEST, le=_HOUR)
    """Time until the answer is out."""
    funnel_idle_timeout: Duration = Field(timedelta(seconds=60), ge=_SHORTEST, le=_HOUR)
    """Time that a connection may wait for its next request."""
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

    @field_validator(
        "github_webhook_secret",
        "github_webhook_secret_previous",
        "ts_authkey",
        "ts_client_secret",
        "ts_id_token",
    )
    @classmethod
    def _not_blank(cls, value: SecretStr | None) -> SecretStr | None:
        # An empty webhook secret would let everybody sign: HMAC takes any key.
        if value is not None and not value.get_secret_value().strip():
            raise ValueError("it is empty; expected a secret, or the setting unset")
        return value

    @field_validator("hook_source_check", "log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        lowered = value.lower() if isinstance(value, str) else value
        return "warning" if lowered == "warn" else lowered

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"postgres(ql)?://.", value.get_secret_value()):
            raise ValueError("expected postgresql://USER:PASSWORD@HOST:5432/DATABASE")
        return value

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
        if not is_url_path(value) or value in _TAKEN_PATHS:
            raise ValueError("expected a path such as /webhooks/github")
        return value

    @field_validator("ts_hostname")
    @classmethod
    def _label(cls, value: str) -> str:
        if not is_dns_label(value):
            raise ValueError("expected one DNS label: a-z, 0-9 and '-', at most 63 characters")
        return value

    @field_validator("ts_client_secret")
    @classmethod
    def _oauth_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(OAUTH_PREFIX):
            raise ValueError(f"expected an OAuth client secret, which begins with {OAUTH_PREFIX}")
        return value

    @field_validator("ts_tags")
    @classmethod
    def _tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if bad := [tag for tag in value if not is_tag(tag)]:
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
    texts, problems = read_texts((field.upper() for field in Settings.model_fields), environ)
    if serving and "GITHUB_WEBHOOK_SECRET" not in texts:
        missing = "is missing; expected the secret of the App's webhook"
        problems.setdefault("GITHUB_WEBHOOK_SECRET", missing)
    problems = {**login_problems(texts), **problems}
    values = {name.lower(): text for name, text in texts.items()}
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
        for name in names_of(field.upper())
        if any(upper.get(other) for other in names_of(field.upper()))
    }
    return {name: value for name, value in lower.items() if name not in given}


def _describe(invalid: ValidationError) -> dict[str, str]:
    """One sentence per setting, without the value that was given: it may be a secret."""
    problems: dict[str, str] = {}
    for error in invalid.errors(include_url=False, include_input=False, include_context=False):
        name = str(error["loc"][0]).upper() if error["loc"] else "LISTEN_ADDR"
        text = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
        problems[name] = "is missing" if error["type"] == "missing" else f"is wrong: {text}"
    return problems
