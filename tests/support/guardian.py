"""repo-guardian as a user runs it: a process of its own, known by its log and its addresses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from tests.support.github.server import SimulatedGitHub
from tests.support.tailnet import Tailnet

LogLine = dict[str, Any]
_STOP_TIMEOUT_S: Final = 30.0


class Guardian:
    """One running `repo-guardian run`. Make it with `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        #: Every line so far; the last ones are shown when a wait fails.
        self.lines: list[LogLine] = []
        self._news = asyncio.Condition()
        self._ended = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    @asynccontextmanager
    async def start(cls, environ: Mapping[str, str]) -> AsyncIterator[Self]:
        """Start it with exactly this environment (and PATH); SIGTERM it at the end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "repo_guardian",
            "run",
            env={"PATH": os.defpath, "LOG_FORMAT": "json", **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        guardian = cls(process)
        try:
            yield guardian
        finally:
            await guardian.stop()

    async def stop(self) -> int:
        """SIGTERM, then wait; SIGKILL when it takes for ever. Returns the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                code = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            code = await self.process.wait()
        await self._reader
        return code

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        await self._reader

    async def logged(
        self, event: str, *, since: int = 0, timeout_s: float = 30.0, **fields: Any
    ) -> LogLine:
        """The first line with this event and these fields, past or future.

        Args:
            since: how many lines to pass over.

        Raises:
            AssertionError: it did not come; with the last lines that did.
        """
        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: self._ended or self._find(event, fields, since))
        except TimeoutError:
            pass
        if (line := self._find(event, fields, since)) is not None:
            return line
        last = "\n".join(json.dumps(line) for line in deque(self.lines, maxlen=30))
        raise AssertionError(f"no log line {event} {fields}; the last lines were:\n{last}")

    async def base_url(self, which: str = "listen") -> str:
        """`http://127.0.0.1:PORT` of LISTEN_ADDR, or of METRICS_ADDR."""
        line = await self.logged("app.started")
        return f"http://{line[which]}"

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and body (JSON where it is) of a GET on METRICS_ADDR."""
        url = await self.base_url("metrics")
        async with aiohttp.ClientSession() as session, session.get(f"{url}{path}") as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(text) if is_json else text

    async def all_lines(self) -> list[LogLine]:
        """Every line; waits for the end of the process."""
        await self._reader
        return self.lines

    def _find(self, event: str, fields: Mapping[str, Any], since: int) -> LogLine | None:
        for line in self.lines[since:]:
            if line["event"] == event and fields.items() <= line.items():
                return line
        return None

    async def _read(self) -> None:
        assert self.process.stderr is not None  # it is a pipe
        async for raw in self.process.stderr:
            try:
                line: LogLine = json.loads(raw)
            except ValueError:
                line = {"event": raw.decode(errors="replace").rstrip(), "level": "raw"}
            async with self._news:
                self.lines.append(line)
                self._news.notify_all()
        async with self._news:
            self._ended = True
            self._news.notify_all()


def guardian_environment(
    github: SimulatedGitHub, data_dir: Path, tailnet: Tailnet | None = None
) -> dict[str, str]:
    """The settings of a guardian that serves `github`, through `tailnet` when there is one."""
    key = data_dir / "app-key.pem"
    (data_dir / "templates").mkdir(parents=True, exist_ok=True)
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(github.private_key_pem)
    settings = {
        "GITHUB_APP_ID": str(github.app_id),
        "GITHUB_PRIVATE_KEY_FILE": str(key),
        "GITHUB_WEBHOOK_SECRET": github.webhook_secret,
        "GITHUB_API_URL": github.api_url,
        "LISTEN_ADDR": "127.0.0.1:0",
        "METRICS_ADDR": "127.0.0.1:0",
        "DATA_DIR": str(data_dir),
        "TEMPLATE_DIR": str(data_dir / "templates"),
    }
    if tailnet is None:
        return settings
    funnel = {
        "TAILSCALE_FUNNEL": "true",
        "TS_CONTROL_URL": tailnet.control_url,
        "TS_LOCAL_TAILNET": _text(tailnet.relay),
        "FUNNEL_PROBE_RESOLVER": _text(tailnet.dns),
        "TS_AUTHKEY": "tskey-auth-local",
        "TS_NO_LOGS_NO_SUPPORT": "true",
    }
    return {**settings, **funnel, **tailnet.helper_env()}


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"{host}:{port}"
