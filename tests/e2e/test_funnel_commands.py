"""`repo-guardian funnel …` with the real helper on the local tailnet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import World
from tests.e2e.test_public_path import helper_pids
from tests.integration.test_commands import command
from tests.support.guardian import Guardian

Report = dict[str, dict[str, str]]


async def funnel(world: World, *words: str) -> str:
    """What `repo-guardian funnel WORDS` prints, with no more settings than it needs."""
    environ = {"DATA_DIR": str(world.data_dir)}
    code, out, err = await command(environ, "funnel", *words, cwd=Path("/"))
    assert (0, "") == (code, err)
    return out


async def doctor(world: World, *words: str) -> Report:
    """The doctor's rows by check, with the settings of the server."""
    arguments = ("funnel", "doctor", "--json", *words)
    code, out, err = await command(world.environment(), *arguments, cwd=Path("/"))
    assert "" == err
    report = json.loads(out)
    assert report["ok"] == (code == 0)
    return {row["check"]: row for row in report["rows"]}


def not_ok(report: Report) -> dict[str, str]:
    """The checks that did not come out ok, and how they did."""
    return {check: row["result"] for check, row in report.items() if row["result"] != "ok"}


async def test_a_running_server_is_found_by_its_data_folder(world: World) -> None:
    """status, url and logs need no other setting."""
    async with world.serving() as (guardian, url):
        assert f"{url}\n" == await funnel(world, "url")
        told = json.loads(await funnel(world, "status", "--json"))
        assert ("ready", url) == (told["state"], told["url"])
        assert helper_pids(guardian.process.pid) == [told["pid"]]
        assert f"url          {url}\n" in await funnel(world, "status")
        assert "bridge.ready" in await funnel(world, "logs")
        assert "backend.said" in await funnel(world, "logs", "--level", "debug")


async def test_the_doctor_finds_a_running_server_well(world: World) -> None:
    """Seventeen checks, all ok, by the helper that runs."""
    async with world.serving() as (guardian, url):
        report = await doctor(world)
        assert {} == not_ok(report)
        assert 17 == len(report)
        assert url in report["GitHub's hook"]["message"]
        [helper] = helper_pids(guardian.process.pid)
        assert str(helper) in report["lock"]["message"]


async def test_the_doctor_before_the_first_start_takes_the_node_to_its_address(
    world: World,
) -> None:
    """The server that starts afterwards is the same node with the same certificate."""
    url = f"https://repo-guardian.{world.tailnet.domain}/webhooks/github"
    world.github.deliver_to(url)
    report = await doctor(world)
    assert {} == not_ok(report)
    assert "started for this look" in report["helper"]["message"]
    async with Guardian.start(world.environment(TS_AUTHKEY="")) as guardian:
        assert url == (await guardian.logged("bridge.ready"))["url"]
        assert 1 == (await guardian.logged("cert.loaded"))["issued_in_week"]


@pytest.mark.parametrize("running", [True, False], ids=["running", "started"])
async def test_the_doctor_names_the_obstacle_and_what_lies_behind_it(
    world: World, running: bool
) -> None:
    """The policy gives no funnel attribute: HTTPS is well, the port was not reached."""
    await world.tailnet.caps("https", "ports=443")
    if running:
        async with Guardian.start(world.environment()) as guardian:
            await guardian.logged("bridge.funnel_attr_missing")
            report = await doctor(world)
    else:
        report = await doctor(world)
    failed = report["funnel attribute"]
    assert ("failed", "FUNNEL_ATTR_MISSING") == (failed["result"], failed["code"])
    assert '"nodeAttrs"' in failed["fix"]
    assert ("ok", "ok") == (report["HTTPS"]["result"], report["node name"]["result"])
    behind = {report[check]["result"] for check in ("port", "certificate", "public path")}
    assert {"not reached"} == behind


async def test_the_doctor_tells_a_resolver_that_answers_for_the_tailnet(world: World) -> None:
    """An address inside the tailnet proves nothing about the public one."""
    async with world.serving():
        await world.tailnet.set(a_answer="100.64.0.9")
        report = await doctor(world)
        assert {"public DNS": "failed", "public path": "not reached"} == not_ok(report)
        assert "100.64.0.9" in report["public DNS"]["message"]
