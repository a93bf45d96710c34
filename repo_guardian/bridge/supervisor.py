"""Keeps one bridge running: starts it, follows it, restarts it, stops it.

    run ──► start child ──► follow its events ──► it ended ──► decide (lifecycle.py)
                 ▲          (silent too long: kill)              │
                 └───────────── wait for the backoff ◄── Restart ┼─► GiveUp: state `failed`
                                                                 └─► Done: state `stopped`

Whatever the child does, the parent goes on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import structlog

from repo_guardian.bridge.binary import start_error
from repo_guardian.bridge.board import StatusBoard
from repo_guardian.bridge.child import Child
from repo_guardian.bridge.control import ControlClient
from repo_guardian.bridge.lifecycle import (
    FIRST_BACKOFF_S,
    Done,
    Ending,
    GiveUp,
    Restart,
    crashes_in_a_row,
    decide,
    describe_exit,
    why_restarted,
)
from repo_guardian.bridge.protocol import BridgeConfig, BridgeState, BridgeStatus, Heartbeat
from repo_guardian.bridge.silence import Silence
from repo_guardian.errors import GuardianError

log = structlog.get_logger()

#: Seconds to the next try when the control socket is not there yet, and when it talks nonsense.
_CONNECT_AGAIN_S: Final = 0.05
_LISTEN_AGAIN_S: Final = 1.0

#: What the child may need beyond `shutdown_grace_s`: closing its node is limited to 2 s.
_STOP_MARGIN_S: Final = 5.0

_NEVER_RAN: Final = Ending(exit_code=None, last_line=None, uptime_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorTimes:
    """How patient the supervisor is, in seconds."""

    silence_s: float = 20.0
    """Without a status or a heartbeat for so long the child is killed."""
    stop_s: float | None = None
    """From the end of stdin to SIGTERM; the child's own grace and a margin when None."""
    terminate_s: float = 3.0
    """From SIGTERM to SIGKILL."""
    first_backoff_s: float = FIRST_BACKOFF_S
    """After the first crash in a row; doubles with each further one."""


class Supervisor:
    """Runs the bridge beside the program; `async with` starts and stops it.

    Args:
        binary: what `find_binary` found.
        config: the start document; `restarts` and `repaired` in it are ours to fill in.
        env_passthrough: variables for the child; only those of `CHILD_ENVIRONMENT` reach it.
        on_status: called with each new status, on the event loop; must not raise.
        times: how patient it is.
        clock: monotonic seconds.
        jitter: random numbers from 0 to 1 for the backoff.

    Entering returns at once: the bridge becomes ready later, or never, and `status` says which.
    """

    def __init__(
        self,
        binary: Path,
        config: BridgeConfig,
        *,
        env_passthrough: Mapping[str, str],
        on_status: Callable[[BridgeStatus], None] | None = None,
        times: SupervisorTimes = SupervisorTimes(),
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._binary = binary
        self._config = config
        self._env = env_passthrough
        self._times = times
        self._clock = clock
        self._jitter = jitter
        self._board = StatusBoard(_own_status(BridgeState.STARTING), on_status)
        self._restarts = 0
        self._crashes = 0
        self._repaired = False
        self._was_ready = False
        self._stop_wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name="bridge-supervisor")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def status(self) -> BridgeStatus:
        """What is known of the bridge now; never raises, never blocks."""
        return self._board.current

    @property
    def restarts(self) -> int:
        """How often the child was started again."""
        return self._restarts

    def changes(self) -> AsyncGenerator[BridgeStatus, None]:
        """The status now, then each change; has no end."""
        return self._board.changes()

    async def wait_for(self, *states: BridgeState) -> BridgeStatus:
        """Wait for one of these states.

        Raises:
            GuardianError: the bridge failed or stopped instead; with its own code and hint.
        """
        return await self._board.wait_for(*states)

    async def stop(self) -> None:
        """Stop the child and wait until it is gone; asks first, kills last. May be called again."""
        self._stop_wanted.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def run(self) -> None:
        """Keep the child running until it is to stop or a person must act; never raises for the child."""
        self._task = asyncio.current_task()
        while not self._stop_wanted.is_set():
            try:
                ending = await self._run_once()
            except GuardianError as error:
                self._give_up(error)
                return
            # One of the three broad catches of this program: a mistake of ours in here must cost a
            # restart of the child and not the program.
            except Exception:
                log.exception("bridge.supervision_failed")
                ending = _NEVER_RAN
            if not await self._goes_on_after(ending):
                return
        self._finish()

    async def _goes_on_after(self, ending: Ending) -> bool:
        """Carry out what lifecycle.py decides; False when the child's story is over."""
        self._crashes = crashes_in_a_row(self._crashes, ending.uptime_s)
        match decide(
            ending,
            wanted_stop=self._stop_wanted.is_set(),
            crashes=self._crashes,
            jitter=self._jitter(),
            repaired=self._repaired,
            first_backoff_s=self._times.first_backoff_s,
        ):
            case Restart(after_s, repaired):
                self._repaired = repaired
                self._announce_restart(ending, after_s)
                await self._sleep_unless_stopped(after_s)
                return True
            case GiveUp(error):
                self._give_up(error)
                return False
            case Done():
                self._finish()
                return False

    async def _run_once(self) -> Ending:
        """One child from its start to its end.

        Raises:
            GuardianError: it cannot be started and no waiting helps.
        """
        began = self._clock()
        self._was_ready = False
        document = replace(
            self._config, restarts=self._restarts, repaired=self._repaired
        ).to_stdin()
        try:
            child = await Child.start(self._binary, document, self._env)
        except OSError as error:
            if lasting := start_error(self._binary, error):
                raise lasting from error
            log.warning("bridge.start_failed", error=str(error))
            return _NEVER_RAN
        log.info("bridge.child_started", pid=child.pid, restarts=self._restarts)
        exit_code = await self._attend(child)
        uptime_s = self._clock() - began
        log.info(
            "bridge.child_ended", pid=child.pid, exit_code=exit_code, uptime_s=round(uptime_s, 3)
        )
        return Ending(
            exit_code=exit_code,
            last_line=child.last_line,
            uptime_s=uptime_s,
            was_ready=self._was_ready,
        )

    async def _attend(self, child: Child) -> int:
        """Follow the child and be ready to stop or to kill it, until it has ended."""
        silence = Silence(self._times.silence_s, self._clock())
        try:
            async with asyncio.TaskGroup() as group:
                company = [
                    group.create_task(self._follow(silence)),
                    group.create_task(self._kill_when_silent(child, silence)),
                    group.create_task(self._stop_when_wanted(child)),
                ]
                exit_code = await child.wait()
                for task in company:
                    task.cancel()
            return exit_code
        finally:
            await child.reap()

    async def _stop_when_wanted(self, child: Child) -> None:
        await self._stop_wanted.wait()
        own = self._config.shutdown_grace_s + _STOP_MARGIN_S
        grace_s = own if self._times.stop_s is None else self._times.stop_s
        await child.stop(grace_s=grace_s, terminate_s=self._times.terminate_s)

    async def _kill_when_silent(self, child: Child, silence: Silence) -> None:
        while not silence.is_over(self._clock()):  # noqa: ASYNC110 - silence has no event
            await asyncio.sleep(silence.look_every_s)
        if self._stop_wanted.is_set():
            return  # it drains; _stop_when_wanted has its own patience
        log.error("bridge.killed", pid=child.pid, reason="silent", after_s=silence.limit_s)
        child.kill()

    async def _follow(self, silence: Silence) -> None:
        """Put up what the child says, for as long as somebody wants to hear it."""
        while True:  # noqa: ASYNC110 - no event tells that a socket has appeared
            await asyncio.sleep(await self._listen(silence))

    async def _listen(self, silence: Silence) -> float:
        """Follow one event stream to its end; return the seconds after which to try again."""
        try:
            async with (
                ControlClient(self._config.control_socket) as control,
                aclosing(control.events()) as events,
            ):
                async for event in events:
                    self._heard(event, silence)
        except GuardianError as error:
            if error.code != "BRIDGE_UNREACHABLE":
                log.warning("bridge.event_refused", code=error.code, reason=error.message)
                return _LISTEN_AGAIN_S
        return _CONNECT_AGAIN_S

    def _heard(self, event: BridgeStatus | Heartbeat, silence: Silence) -> None:
        silence.heard(self._clock())
        if isinstance(event, BridgeStatus):
            self._was_ready = self._was_ready or event.state is BridgeState.READY
            self._publish(event)

    async def _sleep_unless_stopped(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_wanted.wait()

    def _announce_restart(self, ending: Ending, after_s: float) -> None:
        self._restarts += 1
        how = describe_exit(ending.exit_code)
        why = why_restarted(ending)
        log.warning(
            "bridge.restarting",
            ended=how,
            code=why.code,
            after_s=round(after_s, 3),
            restarts=self._restarts,
        )
        self._publish(_own_status(BridgeState.STARTING, self._restarts, why))

    def _finish(self) -> None:
        self._publish(_own_status(BridgeState.STOPPED, self._restarts))

    def _give_up(self, error: GuardianError) -> None:
        log.error("bridge.given_up", code=error.code, reason=error.message, hint=error.hint)
        self._publish(_own_status(BridgeState.FAILED, self._restarts, error))

    def _publish(self, status: BridgeStatus) -> None:
        if self._board.publish(status):
            log.debug("bridge.state_changed", state=status.state.value, code=status.code)


def _own_status(
    state: BridgeState, restarts: int = 0, why: GuardianError | None = None
) -> BridgeStatus:
    """A status of ours, for the times without a child that could tell."""
    said = why.as_json() if why is not None else {}
    return BridgeStatus(state=state, since=datetime.now(UTC), restarts=restarts, **said)
