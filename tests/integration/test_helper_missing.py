"""A helper that cannot serve takes nothing down but the public address, and /readyz says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fake_bridge import Script, install_fake_bridge
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment

Settings = dict[str, str]


def nowhere(folder: Path) -> Settings:
    """A name that leads nowhere."""
    return {"TSNET_BRIDGE_BIN": str(folder / "nowhere")}


def not_executable(folder: Path) -> Settings:
    """A helper without its exec bit."""
    binary = install_fake_bridge(folder)
    binary.chmod(0o644)
    return {"TSNET_BRIDGE_BIN": str(binary)}


def of_another_machine(folder: Path) -> Settings:
    """An ELF program for an architecture that no machine has."""
    binary = folder / "tsnet_bridge"
    binary.write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\0\xff\xff" + b"\0" * 44)
    binary.chmod(0o755)
    return {"TSNET_BRIDGE_BIN": str(binary)}


def refusing(code: str) -> Callable[[Path], Settings]:
    """A helper that ends as the real one does when it refuses to start."""

    def install(folder: Path) -> Settings:
        said = {"level": "error", "msg": "bridge.refused", "code": code}
        words = json.dumps({**said, "message": "one sentence", "hint": "what to do"})
        script = Script(stderr=[words], states=[], then="exit", exit_code=2)
        return {"TSNET_BRIDGE_BIN": str(install_fake_bridge(folder, script))}

    return install


def crashing(folder: Path) -> Settings:
    """A helper that ends at once, again and again."""
    script = Script(states=[], then="exit", exit_code=1)
    return {"TSNET_BRIDGE_BIN": str(install_fake_bridge(folder, script))}


def too_deep(folder: Path) -> Settings:
    """So long that only the helper's socket, which has the longer name, is too long."""
    return {"DATA_DIR": (f"{folder}/" + "x" * 100)[: 107 - len("/run/admin.sock")]}


def unwritable_state(folder: Path) -> Settings:
    """A file where a folder should be made."""
    (folder / "file").touch()
    return {"TS_STATE_DIR": str(folder / "file" / "tailscale")}


@pytest.mark.parametrize(
    ("code", "event", "obstacle"),
    [
        ("BRIDGE_BINARY_MISSING", "bridge.not_started", nowhere),
        ("BRIDGE_BINARY_NOT_EXECUTABLE", "bridge.not_started", not_executable),
        ("BRIDGE_BINARY_WRONG_ARCH", "bridge.given_up", of_another_machine),
        ("PROTOCOL_MISMATCH", "bridge.given_up", refusing("PROTOCOL_MISMATCH")),
        ("BRIDGE_CONFIG_INVALID", "bridge.given_up", refusing("BRIDGE_CONFIG_INVALID")),
        ("SOCKET_IN_USE", "bridge.given_up", refusing("SOCKET_IN_USE")),
        ("BRIDGE_CRASHED", "bridge.restarting", crashing),
        ("SOCKET_PATH_TOO_LONG", "bridge.not_started", too_deep),
        ("STATE_DIR_UNWRITABLE", "bridge.not_started", unwritable_state),
    ],
)
async def test_deliveries_are_taken_locally_and_the_reason_is_told(
    tmp_path: Path, code: str, event: str, obstacle: Callable[[Path], Settings]
) -> None:
    """One sentence with a code and a hint; and the end is a clean one."""
    async with SimulatedGitHub.start() as github:
        github.add_organization("acme")
        environment = {**guardian_environment(github, tmp_path / "data"), **obstacle(tmp_path)}
        async with Guardian.start({**environment, "TAILSCALE_FUNNEL": "true"}) as guardian:
            github.deliver_to(await guardian.base_url() + "/webhooks/github")
            await guardian.logged(event)
            status, told = await guardian.get("/readyz")
            [reason] = told["reasons"]
            assert (503, code) == (status, reason["code"])
            assert reason["message"]
            assert reason["hint"]
            assert 202 == (await github.ping()).status_code
            assert 200 == (await guardian.get("/healthz"))[0]
            assert 0 == await guardian.stop()
            assert not [line for line in guardian.lines if "Traceback" in str(line)]
