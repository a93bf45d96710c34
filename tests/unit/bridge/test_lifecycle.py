"""What follows the end of a child, as a table."""

from __future__ import annotations

import errno
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from repo_guardian.bridge.binary import start_error
from repo_guardian.bridge.lifecycle import (
    Done,
    Ending,
    GiveUp,
    Restart,
    backoff_s,
    crashes_in_a_row,
    decide,
    describe_exit,
    why_restarted,
)
from repo_guardian.bridge.protocol import LogLine

REFUSAL = LogLine(
    "error",
    "bridge.refused",
    {"code": "SOCKET_IN_USE", "message": "another process listens there", "hint": "end it"},
)
PATH_DOWN = LogLine(
    "warning",
    "bridge.public_path_down",
    {"code": "PUBLIC_PATH_DOWN", "message": "no answer", "hint": "wait"},
)
CHATTER = LogLine("info", "bridge.ready", {})
STACK_TRACE = LogLine("warning", "bridge.stderr", {"text": "main.main()"})


def ending(exit_code: int | None, last_line: LogLine | None = CHATTER) -> Ending:
    """An ending whose uptime does not matter here."""
    return Ending(exit_code=exit_code, last_line=last_line, uptime_s=1.0)


@pytest.mark.parametrize(
    ("how", "wanted_stop", "expected"),
    [
        (ending(0), True, Done()),
        (ending(1), True, Done()),
        (ending(2, REFUSAL), True, Done()),
        (ending(-signal.SIGKILL), True, Done()),
        (ending(0), False, Restart(0.5)),
        (ending(1), False, Restart(0.5)),
        (ending(2), False, Restart(0.5)),
        (ending(2, None), False, Restart(0.5)),
        (ending(2, STACK_TRACE), False, Restart(0.5)),
        (ending(1, REFUSAL), False, Restart(0.5)),
        (ending(-signal.SIGKILL), False, Restart(0.5)),
        (ending(-signal.SIGSEGV, None), False, Restart(0.5)),
        (ending(None, None), False, Restart(0.5)),
    ],
)
def test_ending_decides_what_follows(
    how: Ending, wanted_stop: bool, expected: Done | Restart
) -> None:
    """A wanted stop is never undone, a crash always is, and a Go panic (exit 2) is a crash."""
    assert expected == decide(how, wanted_stop=wanted_stop, crashes=1, jitter=0.5)


def test_refusal_gives_up_in_the_words_of_the_child() -> None:
    """The child's own code and hint reach the person."""
    decision = decide(ending(2, REFUSAL), wanted_stop=False, crashes=1, jitter=0.5)

    assert isinstance(decision, GiveUp)
    assert "SOCKET_IN_USE" == decision.error.code
    assert "another process listens there" == decision.error.message
    assert "end it" == decision.error.hint


@pytest.mark.parametrize(
    ("last_line", "crashes", "expected"),
    [
        (PATH_DOWN, 1, Restart(0.0, repaired=True)),
        (PATH_DOWN, 3, Restart(2.0, repaired=True)),
        (CHATTER, 1, Restart(0.5)),
        (STACK_TRACE, 1, Restart(0.5)),
        (None, 1, Restart(0.5)),
    ],
)
def test_child_that_asks_to_be_replaced_is_replaced_at_once(
    last_line: LogLine | None, crashes: int, expected: Restart
) -> None:
    """Exit code 3 counts with the words that go with it, and not again and again without a pause."""
    assert expected == decide(ending(3, last_line), wanted_stop=False, crashes=crashes, jitter=0.5)


@pytest.mark.parametrize(
    ("was_ready", "before", "after"),
    [(False, True, True), (True, True, False), (False, False, False), (True, False, False)],
)
def test_word_of_a_repair_holds_until_a_child_was_ready(
    was_ready: bool, before: bool, after: bool
) -> None:
    """A crash on the way to the public address changes nothing about it."""
    crash = replace(ending(1), was_ready=was_ready)
    expected = Restart(0.5, repaired=after)
    assert expected == decide(crash, wanted_stop=False, crashes=1, jitter=0.5, repaired=before)


def test_a_restart_is_told_in_the_words_of_the_child_or_in_ours() -> None:
    """Who asked to be replaced said why; of a crash we know the exit code."""
    asked, crashed = why_restarted(ending(3, PATH_DOWN)), why_restarted(ending(3))
    assert ("PUBLIC_PATH_DOWN", "no answer", "wait") == (asked.code, asked.message, asked.hint)
    assert "BRIDGE_CRASHED" == crashed.code
    assert "exit code 3" in crashed.message


@pytest.mark.parametrize(
    ("crashes", "jitter", "expected"),
    [
        (1, 0.5, 0.5),
        (2, 0.5, 1.0),
        (3, 0.5, 2.0),
        (6, 0.5, 16.0),
        (7, 0.5, 30.0),
        (5000, 0.5, 30.0),
        (1, 0.0, 0.375),
        (1, 1.0, 0.625),
        (9, 1.0, 37.5),
    ],
)
def test_backoff_doubles_up_to_half_a_minute(crashes: int, jitter: float, expected: float) -> None:
    """From half a second to half a minute, a quarter to each side."""
    assert expected == backoff_s(crashes, jitter)


@pytest.mark.parametrize(
    ("before", "uptime_s", "expected"), [(0, 1.0, 1), (4, 59.9, 5), (4, 60.0, 1), (0, 9999.0, 1)]
)
def test_long_healthy_run_forgives_earlier_crashes(
    before: int, uptime_s: float, expected: int
) -> None:
    """A crash a day never waits half a minute."""
    assert expected == crashes_in_a_row(before, uptime_s)


def test_exit_is_described_for_a_person() -> None:
    """Signals are told apart from codes."""
    assert "exit code 7" == describe_exit(7)
    assert "signal 9" == describe_exit(-9)
    assert "an error of its supervision" == describe_exit(None)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "BRIDGE_BINARY_MISSING"),
        (errno.EACCES, "BRIDGE_BINARY_NOT_EXECUTABLE"),
        (errno.ENOEXEC, "BRIDGE_BINARY_WRONG_ARCH"),
    ],
)
def test_error_at_exec_has_a_code_and_a_hint(number: int, code: str) -> None:
    """What the operating system refuses for good is told with what to do."""
    error = start_error(Path("/opt/tsnet_bridge"), OSError(number, "no"))

    assert error is not None
    assert code == error.code
    assert error.hint


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.ETXTBSY])
def test_error_at_exec_that_may_pass_is_no_reason_to_give_up(number: int) -> None:
    """Too many processes now is not too many processes for ever."""
    assert None is start_error(Path("/opt/tsnet_bridge"), OSError(number, "no"))
