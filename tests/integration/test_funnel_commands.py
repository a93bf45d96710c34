"""`repo-guardian funnel …` as a process, beside a server whose helper speaks the protocol."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from repo_guardian.bridge.protocol import BridgeConfig, BridgeState
from repo_guardian.bridge.supervisor import Supervisor
from repo_guardian.commands.funnel import running_helper
from repo_guardian.doctor.diagnose import diagnose
from repo_guardian.doctor.gather import gather
from repo_guardian.doctor.rows import Check, Result, Row
from repo_guardian.errors import GuardianError
from repo_guardian.store.sqlite import SqliteEngine
from tests.integration.test_commands import command, start_command
from tests.support.fake_bridge import Script, install_fake_bridge
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import guardian_environment

URL = "https://repo-guardian.tail-box.ts.net/webhooks/github"
READY = {
    "state": "ready",
    "url": URL,
    "cert": {"not_after": "2099-02-21T06:00:00Z", "issued_in_week": 1},
    "node": {"dns_name": "repo-guardian.tail-box.ts.net", "ips": ["100.64.0.2"]},
}
LOGIN = {
    "state": "authenticating",
    "code": "NEEDS_LOGIN",
    "message": "a person must open the login address",
    "hint": "open https://login/a in a browser",
    "auth_url": "https://login/a",
}
ANSWERED = {"ok": True, "latency_ms": 41.5, "addresses": ["198.51.100.10"]}


@asynccontextmanager
async def server(data_dir: Path, script: Script) -> AsyncIterator[None]:
    """What of a running server the commands see: its helper's socket, after the script's last state."""
    (data_dir / "run").mkdir(parents=True, exist_ok=True, mode=0o700)
    config = BridgeConfig(
        hostname="repo-guardian",
        state_dir=data_dir / "tailscale",
        control_socket=data_dir / "run" / "bridge.sock",
        app_socket=data_dir / "run" / "app.sock",
        webhook_path="/webhooks/github",
    )
    binary = install_fake_bridge(data_dir, script)
    async with Supervisor(binary, config, env_passthrough={}) as supervisor:
        await supervisor.wait_for(BridgeState(script.states[-1]["state"]))
        yield


async def funnel(data_dir: Path, *words: str, **environ: str) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error of `repo-guardian funnel WORDS`."""
    settings = {"DATA_DIR": str(data_dir), **environ}
    return await command(settings, "funnel", *words, cwd=data_dir)


# ── status, url, logs ─────────────────────────────────────────────────────────────────────────────


async def test_status_needs_no_setting_but_the_data_folder(tmp_path: Path) -> None:
    """A table for people, the document for programs; wrong settings of others do not matter."""
    async with server(tmp_path, Script(states=[READY])):
        code, out, err = await funnel(tmp_path, "status", WORKER_COUNT="many", TS_TAGS="nonsense")
        assert (0, "") == (code, err)
        assert out.startswith("state        ready, since ")
        assert URL in out
        code, out, _ = await funnel(tmp_path, "status", "--json")
        assert (0, "ready", URL) == (code, json.loads(out)["state"], json.loads(out)["url"])


async def test_url_prints_the_address_alone_or_says_why_there_is_none(tmp_path: Path) -> None:
    """For a script: nothing else on standard output."""
    async with server(tmp_path / "a", Script(states=[READY])):
        assert (0, f"{URL}\n", "") == await funnel(tmp_path / "a", "url")
    async with server(tmp_path / "b", Script(states=[LOGIN])):
        expected = "error: NEEDS_LOGIN: a person must open the login address\nhint: open "
        code, out, err = await funnel(tmp_path / "b", "url")
        assert (1, "", expected) == (code, out, err[: len(expected)])
    async with server(tmp_path / "c", Script(states=[{"state": "issuing_certificate"}])):
        code, out, err = await funnel(tmp_path / "c", "url")
        assert (1, "") == (code, out)
        assert err.startswith("error: BRIDGE_NOT_READY: ")


async def test_logs_show_what_matters_and_follow_until_the_helper_ends(tmp_path: Path) -> None:
    """By level; debug lines are kept even when the server does not log them."""
    said = [
        '{"time":"2026-11-23T06:00:00Z","level":"debug","msg":"backend.said","text":"much"}',
        '{"time":"2026-11-23T06:00:01Z","level":"warning","msg":"probe.failed","error":"no answer"}',
    ]
    async with server(tmp_path, Script(states=[READY], stderr=said)):
        _, out, _ = await funnel(tmp_path, "logs", "--level", "warning")
        assert "2026-11-23T06:00:01Z warning probe.failed error='no answer'\n" == out
        _, out, _ = await funnel(tmp_path, "logs", "--level", "debug")
        assert "backend.said text=much" in out
        following = await start_command({"DATA_DIR": str(tmp_path)}, "funnel", "logs", "--follow")
        assert following.stdout is not None  # it is a pipe
        first = await following.stdout.readline()
    rest, _ = await following.communicate()
    assert b"fake.started" in first
    assert rest.endswith(b"fake.stopping\n")
    assert 0 == following.returncode


@pytest.mark.parametrize("words", [["status"], ["logs", "--follow"]])
async def test_without_a_server_it_is_one_sentence_and_a_hint(
    tmp_path: Path, words: list[str]
) -> None:
    """Nobody was there ever."""
    code, out, err = await funnel(tmp_path, *words)
    assert (1, "") == (code, out)
    assert err.startswith("error: BRIDGE_NOT_RUNNING: no repo-guardian with a Funnel runs here")
    assert "\nhint: start `TAILSCALE_FUNNEL=true repo-guardian run`" in err


async def test_socket_of_a_killed_server_is_no_server(tmp_path: Path) -> None:
    """It is left behind, and nobody listens."""
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "run" / "bridge.sock"))
    code, out, err = await funnel(tmp_path, "url")
    assert (1, "") == (code, out)
    assert err.startswith("error: BRIDGE_NOT_RUNNING: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_socket_of_another_user_is_told_with_who_may(tmp_path: Path) -> None:
    """The folder of the sockets is its owner's alone."""
    async with server(tmp_path, Script(states=[READY])):
        os.seteuid(65534)
        try:
            with pytest.raises(GuardianError) as caught:
                async with running_helper(tmp_path) as control:
                    await control.status()
        finally:
            os.seteuid(0)
    assert "BRIDGE_UNREACHABLE" == caught.value.code
    assert "as the user of the server" in caught.value.hint


# ── doctor ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def github() -> AsyncIterator[SimulatedGitHub]:
    """A GitHub that delivers to the address of our helper."""
    async with SimulatedGitHub.start() as started:
        started.deliver_to(URL)
        yield started


Report = dict[Check, Row]


def doctor_settings(github: SimulatedGitHub, data_dir: Path, **changes: str) -> dict[str, str]:
    """The environment of the doctor, and of the server; an empty setting is none."""
    settings = {
        **guardian_environment(github, data_dir),
        "TAILSCALE_FUNNEL": "true",
        **changes,
    }
    return {name: value for name, value in settings.items() if value}


async def doctor(
    github: SimulatedGitHub, data_dir: Path, *, timeout_s: float = 60.0, **changes: str
) -> Report:
    """What the doctor says of each check."""
    environ = doctor_settings(github, data_dir, **changes)
    rows = diagnose(await gather(environ, timeout_s=timeout_s))
    return {row.check: row for row in rows}


def results(report: Report) -> set[Result]:
    """Which results there are."""
    return {row.result for row in report.values()}


async def test_doctor_asks_the_running_server_and_finds_everything_well(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """Status and a fresh look from the helper that runs; no other one is started."""
    script = Script(states=[{"state": "issuing_certificate"}, READY], probe=ANSWERED)
    async with server(tmp_path, script):
        report = await doctor(github, tmp_path, TSNET_BRIDGE_BIN=str(tmp_path / "nowhere"))
    assert {Result.OK} == results(report)
    assert "held by the server's helper, process " in report[Check.LOCK].message
    assert "answered in 42 ms" == report[Check.PUBLIC_PATH].message
    assert f"GitHub delivers to {URL}" == report[Check.HOOK].message


async def test_doctor_s_exit_code_tells_whether_all_is_well(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """0 with JSON for programs; 1 with a table for people, and the fix below what failed."""
    settings = doctor_settings(github, tmp_path)
    async with server(tmp_path, Script(states=[READY], probe=ANSWERED)):
        code, out, err = await command(settings, "funnel", "doctor", "--json", cwd=tmp_path)
    assert (0, "", True) == (code, err, json.loads(out)["ok"])

    async with server(tmp_path, Script(states=[LOGIN])):
        code, out, err = await command(settings, "funnel", "doctor", cwd=tmp_path)
    assert (1, "") == (code, err)
    lines = out.splitlines()
    assert "ok           control server    it answers" in lines
    [failed] = [number for number, line in enumerate(lines) if line.startswith("failed")]
    assert "login             NEEDS_LOGIN: a person must open" in lines[failed]
    assert "fix: open https://login/a in a browser" == lines[failed + 1].strip()
    assert "not reached  approval          login is in the way" in lines
    assert lines[-1].endswith("6 ok, 1 failed, 10 not reached")


async def test_doctor_starts_the_helper_when_no_server_runs_and_leaves_nothing_behind(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """As `run` would, in the same state directory; until it is ready."""
    script = Script(states=[{"state": "authenticating"}, READY], probe=ANSWERED)
    binary = install_fake_bridge(tmp_path, script)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = children.read_text()
    report = await doctor(github, tmp_path, TSNET_BRIDGE_BIN=str(binary))
    assert {Result.OK} == results(report)
    assert "(started for this look)" in report[Check.HELPER].message
    assert "protocol 1" in report[Check.HELPER].message
    assert 0o700 == (tmp_path / "tailscale").stat().st_mode & 0o777
    assert not (tmp_path / "run").exists()
    assert before == children.read_text()


@pytest.mark.parametrize(
    ("script", "check", "code"),
    [
        (Script(states=[LOGIN]), Check.LOGIN, "NEEDS_LOGIN"),
        (Script(protocol=2), Check.HELPER, "PROTOCOL_MISMATCH"),
        (
            Script(states=[{"state": "starting", "code": "STATE_LOCKED"}]),
            Check.LOCK,
            "STATE_LOCKED",
        ),
    ],
    ids=["person", "refused", "locked"],
)
async def test_doctor_does_not_wait_for_what_needs_a_person(
    github: SimulatedGitHub, tmp_path: Path, script: Script, check: Check, code: str
) -> None:
    """The row of the obstacle is the failed one, long before the minute is over."""
    binary = install_fake_bridge(tmp_path, script)
    async with asyncio.timeout(50):
        report = await doctor(github, tmp_path, TSNET_BRIDGE_BIN=str(binary))
    assert [(check, code)] == failures(report)


@pytest.mark.parametrize(
    ("script", "check", "code"),
    [
        (Script(states=[{"state": "issuing_certificate"}]), Check.CERTIFICATE, ""),
        (Script(states=[], then="exit"), Check.HELPER, "BRIDGE_CRASHED"),
    ],
    ids=["slow", "crashing"],
)
async def test_doctor_waits_for_what_may_pass_until_its_timeout(
    github: SimulatedGitHub, tmp_path: Path, script: Script, check: Check, code: str
) -> None:
    """And says then what it was at."""
    binary = install_fake_bridge(tmp_path, script)
    report = await doctor(github, tmp_path, timeout_s=3.0, TSNET_BRIDGE_BIN=str(binary))
    assert [(check, code)] == failures(report)


def failures(report: Report) -> list[tuple[Check, str]]:
    """The checks that failed, with their codes."""
    return [(row.check, row.code) for row in report.values() if row.result is Result.FAILED]


async def test_doctor_does_not_disturb_a_server_whose_helper_is_away(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """The lock on the data folder tells; a second helper would be in the way of the first one."""
    binary = install_fake_bridge(tmp_path)
    async with SqliteEngine(tmp_path, room=1):
        helper = (await doctor(github, tmp_path, TSNET_BRIDGE_BIN=str(binary)))[Check.HELPER]
    assert (Result.FAILED, "BRIDGE_UNREACHABLE") == (helper.result, helper.code)
    assert "see its log" in helper.fix


async def test_doctor_tells_a_missing_helper_and_an_unwritable_folder(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """Before anything is started, and each with its own fix."""
    report = await doctor(github, tmp_path, TSNET_BRIDGE_BIN=str(tmp_path / "nowhere"))
    assert "BRIDGE_BINARY_MISSING" == report[Check.HELPER].code
    (tmp_path / "file").touch()
    report = await doctor(github, tmp_path, TS_STATE_DIR=str(tmp_path / "file" / "tailscale"))
    assert "STATE_DIR_UNWRITABLE" == report[Check.STATE_DIR].code
    assert Result.NOT_REACHED is report[Check.LOCK].result


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lock another user out")
async def test_doctor_as_root_does_not_write_into_another_user_s_state(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """`docker exec -u 0`: the server could not read what root's helper leaves there."""
    state_dir = tmp_path / "tailscale"
    state_dir.mkdir(0o700)
    os.chown(state_dir, 65532, 65532)
    binary = install_fake_bridge(tmp_path)
    report = await doctor(github, tmp_path, TSNET_BRIDGE_BIN=str(binary))
    assert Result.FAILED is report[Check.STATE_DIR].result
    assert "setpriv --reuid 65532" in report[Check.STATE_DIR].fix
    assert "not asked" in report[Check.HELPER].message
    assert [] == list(state_dir.iterdir())


async def test_doctor_shows_both_addresses_when_the_hook_points_elsewhere(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """And a clock that GitHub would not believe."""
    github.deliver_to("https://old.example.com/hook")
    github.set_clock_skew(timedelta(seconds=-45))
    async with server(tmp_path, Script(states=[READY], probe=ANSWERED)):
        report = await doctor(github, tmp_path)
    hook, clock = report[Check.HOOK], report[Check.CLOCK]
    assert (Result.FAILED, Result.FAILED) == (hook.result, clock.result)
    assert f"url is https://old.example.com/hook, ours is {URL}" == hook.message
    assert "ahead of GitHub's" in clock.message
    assert "timedatectl set-ntp true" == clock.fix


async def test_doctor_tells_the_clock_also_when_github_refuses_for_it(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """A refused App JWT has its cause two lines below."""
    github.set_clock_skew(timedelta(hours=1))
    async with server(tmp_path, Script(states=[READY], probe=ANSWERED)):
        report = await doctor(github, tmp_path)
    assert "GITHUB_UNAUTHORIZED" == report[Check.HOOK].code
    assert "s behind GitHub's" in report[Check.CLOCK].message


async def test_doctor_goes_on_with_wrong_settings_as_far_as_it_gets(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """Those of GitHub keep the Funnel from nothing, and the other way round."""
    async with server(tmp_path, Script(states=[READY], probe=ANSWERED)):
        report = await doctor(github, tmp_path, GITHUB_APP_ID="", WORKER_COUNT="many")
    assert "GITHUB_APP_ID is missing" in report[Check.SETTINGS].message
    assert "WORKER_COUNT is wrong" in report[Check.SETTINGS].message
    assert Result.OK is report[Check.PUBLIC_PATH].result
    assert {Result.NOT_REACHED} == {report[each].result for each in (Check.HOOK, Check.CLOCK)}
    report = await doctor(github, tmp_path, TS_TAGS="nonsense")
    assert "TS_TAGS is wrong" in report[Check.SETTINGS].message
    assert Result.NOT_REACHED is report[Check.LOGIN].result
    assert Result.OK is report[Check.CLOCK].result


async def test_doctor_without_a_funnel_still_looks_at_github(
    github: SimulatedGitHub, tmp_path: Path
) -> None:
    """The way in is somebody else's; a key that is none is told as well."""
    report = await doctor(github, tmp_path, TAILSCALE_FUNNEL="")
    assert {Result.OK, Result.SKIPPED} == results(report)
    report = await doctor(
        github,
        tmp_path,
        TAILSCALE_FUNNEL="",
        GITHUB_PRIVATE_KEY_FILE="",
        GITHUB_PRIVATE_KEY="no",
    )
    assert "PRIVATE_KEY_INVALID" == report[Check.HOOK].code
