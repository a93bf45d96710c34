"""Structured logs: one event a line, JSON for machines and colours for a terminal."""

from __future__ import annotations

import functools
import json
import logging
import sys
from typing import Literal, TextIO

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, Processor, WrappedLogger

#: Fields that could carry a credential are never written, whoever logs them.
_SECRET_NAMES = (
    "secret",
    "token",
    "private_key",
    "auth_key",
    "authkey",
    "authorization",
    "password",
)


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the value of every field whose name says that it holds a credential."""
    for name in event:
        if name != "event" and _is_secret(name):
            event[name] = "[hidden]"
    return event


@functools.lru_cache(1024)
def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_NAMES)


def configure_logging(
    level: str,
    log_format: Literal["auto", "json", "console"],
    stream: TextIO | None = None,
    *,
    for_good: bool = False,
) -> None:
    """Send structlog's lines, and those of the standard library's loggers, to one stream in one form.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        log_format: `auto` chooses the console on a terminal and JSON elsewhere.
        stream: where to write; standard error when None, standard output stays free for results.
        for_good: nothing is configured again in this process, so that loggers need not look each time.
    """
    target = stream or sys.stderr
    as_console = log_format == "console" or (log_format == "auto" and target.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    # Ours need not go through the standard library: that would be a third of what a delivery costs.
    structlog.configure(
        processors=[*shared, *_renderers(as_console=as_console, colors=target.isatty())],
        logger_factory=structlog.WriteLoggerFactory(target),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=for_good,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(as_console=as_console, colors=target.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiohttp's access log would halve the ceiling of the receiver and repeat what deliveries log.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(calm_malformed_requests)


def calm_malformed_requests(record: logging.LogRecord) -> bool:
    """Make one warning of the traceback that aiohttp logs when a stranger speaks broken HTTP."""
    broken = record.exc_info[1] if record.exc_info else None
    if isinstance(broken, HttpProcessingError):
        record.msg, record.args, record.exc_info = "request.malformed", (), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _renderers(*, as_console: bool, colors: bool) -> list[Processor]:
    if as_console:
        return [structlog.dev.ConsoleRenderer(colors=colors)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_as_json)]


#: Made once: json.dumps makes one for every line.
_ENCODER = json.JSONEncoder(default=repr)


def _as_json(event: EventDict, **_: object) -> str:
    return _ENCODER.encode(event)
