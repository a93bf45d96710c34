"""`repo-guardian deliveries …`, `work …` and `reconcile` as processes, beside a server and without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from repo_guardian.admin.server import admin_routes
from repo_guardian.cli import main
from repo_guardian.store.history import History
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.postgres import PostgresEngine
from repo_guardian.store.schema import Priority, RepositoryRef, WorkState
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.store.work import WorkQueue
from repo_guardian.worker.pool import LEASE
from tests.integration.test_commands import command
from tests.support.deliveries import body_of, delivery, payload, repository
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment
from tests.support.operators import listening, operator_of
from tests.support.postgres import Databases

WIDGETS = repository()
ERROR = "Traceback (most recent call last):\nZeroDivisionError: \x1b[31mno"
NO_SERVER = "no server runs with this DATA_DIR: the next `repo-guardian run` looks at them\n"


@pytest.fixture
async def github() -> AsyncIterator[SimulatedGitHub]:
    """The organization acme with the App and one repository."""
    async with SimulatedGitHub.start() as simulated:
        simulated.add_organization("acme")
        await simulated.create_repository("acme/widgets", deliver=False)
        yield simulated


@pytest.fixture
async def data_dir(tmp_path: Path) -> Path:
    """What a server left: `guid-dead`, whose work died, and `guid-ping`, which means none."""
    async with SqliteEngine(tmp_path, room=10) as engine:
        await record(engine, "guid-ping")
        await record(engine, "guid-dead", WIDGETS)
        queue = WorkQueue(engine, "worker", lease=LEASE)
        [item] = (await queue.claim(1, max_attempts=8)).items
        await queue.bury(item, ERROR)
    return tmp_path


@pytest.fixture
async def served(data_dir: Path, github: SimulatedGitHub) -> AsyncIterator[Path]:
    """The same folder while a server has it: here only its admin socket and its store."""
    async with (
        SqliteEngine(data_dir, room=10) as engine,
        operator_of(engine, github, asyncio.Event()) as operator,
        listening(data_dir, *admin_routes(operator)),
    ):
        yield data_dir


async def record(engine: SqliteEngine, guid: str, *repositories: RepositoryRef) -> None:
    """Record a delivery with a payload that fits."""
    body = body_of(payload()) if repositories else b"{}"
    event = "repository" if repositories else "ping"
    made = delivery(guid, *repositories)
    changed = replace(made, event=event, payload=body, received_at=datetime.now(UTC))
    await Inbox(engine).record(changed)


async def run(data_dir: Path, *words: str, **environ: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a command, with no setting but DATA_DIR."""
    return await command({"DATA_DIR": str(data_dir), **environ}, *words, cwd=data_dir.parent)


async def run_all(data_dir: Path, *commands: str) -> list[tuple[int | None, str, str]]:
    """The same for several at once."""
    return await asyncio.gather(*(run(data_dir, *words.split()) for words in commands))


async def state_of(data_dir: Path, number: int = 1) -> tuple[WorkState, int]:
    """State and priority of a repository's work item, as the store has it."""
    async with SqliteEngine(data_dir, room=10) as engine:
        row = await History(engine).find_work(str(number))
    assert row is not None
    return row.state, row.priority


# ── without a server ──────────────────────────────────────────────────────────────────────────────


async def test_the_store_is_opened_when_no_server_has_it(data_dir: Path) -> None:
    """To look, and to make repositories due for the next server; wrong settings of others do not matter."""
    code, out, err = await run(data_dir, "work", "list", WORKER_COUNT="many")
    assert (0, "") == (code, err)
    assert ["dead", "acme/widgets", "1"] == out.splitlines()[1].split()[:3]
    assert "1 shown; 1 dead, 0 leased, 0 due, 0 idle" == out.splitlines()[-1]
    due = f"1 repository is due now: acme/widgets\n{NO_SERVER}"
    assert (0, due, "") == await run(data_dir, "work", "retry", "ACME/widgets")
    assert (WorkState.DUE, Priority.MANUAL) == await state_of(data_dir)
    assert (0, "nothing is dead\n", "") == await run(data_dir, "deliveries", "replay", "--dead")


async def test_a_replay_since_a_time_goes_through_all_pages(tmp_path: Path) -> None:
    """Also with more deliveries than one question takes."""
    async with SqliteEngine(tmp_path, room=1000) as engine:
        for number in range(250):
            await record(engine, f"guid-{number:04}", *([WIDGETS] if number % 10 == 0 else []))
    code, out, err = await run(tmp_path, "deliveries", "replay", "--since", "1h")
    assert (0, "") == (code, err)
    assert 25 == out.count("acme/widgets\n")
    assert "25 deliveries replayed: 1 repository is due now; 225 deliveries mean no work" in out


async def test_a_store_in_postgresql_is_opened_beside_its_servers(
    tmp_path: Path, postgres: Databases
) -> None:
    """By DATABASE_URL: there is nothing in DATA_DIR, and nothing is put there."""
    async with postgres.fresh() as url, PostgresEngine(url, room=10) as server:
        await Inbox(server).record(delivery("guid-0001", WIDGETS))
        code, out, err = await run(tmp_path, "deliveries", "list", DATABASE_URL=url)
        assert (0, "") == (code, err)
        assert "guid-0001" in out
        code, out, err = await run(tmp_path, "work", "retry", "1", DATABASE_URL=url)
        assert (0, "") == (code, err)
        row = await History(server).find_work("1")
    assert row is not None
    assert 2 == row.generation
    assert [] == list(tmp_path.iterdir())


async def test_a_folder_without_a_database_is_told_and_stays_empty(tmp_path: Path) -> None:
    """DATA_DIR is mistyped, more often than not."""
    code, out, err = await run(tmp_path / "typo", "work", "list")
    assert (1, "") == (code, out)
    assert err.startswith("error: STORE_NOT_FOUND: there is no database in DATA_DIR ")
    assert not (tmp_path / "typo").exists()


async def test_a_locked_store_without_a_socket_says_what_it_may_be(data_dir: Path) -> None:
    """A server that starts, or an older one: never a second writer."""
    async with SqliteEngine(data_dir, room=10):
        code, out, err = await run(data_dir, "work", "list")
    assert (2, "") == (code, out)
    assert err.startswith("error: STORE_LOCKED: another process uses the data folder ")
    assert "is starting or stopping, or of a version without an admin socket" in err


async def test_github_s_commands_work_without_a_server(
    data_dir: Path, github: SimulatedGitHub
) -> None:
    """With the App's settings, which `verify` and `reconcile` ask for and nobody else."""
    code, out, err = await run(data_dir, "deliveries", "verify")
    assert (2, "") == (code, out)
    assert "GITHUB_APP_ID is missing" in err

    environ = guardian_environment(github, data_dir)
    lost = github.log_missed("push", {"ref": "refs/heads/main"})
    code, out, err = await command(environ, "deliveries", "verify", cwd=data_dir)
    assert (1, "") == (code, err)
    assert lost.guid in out
    assert "GitHub's log has 1 delivery (1 attempt); the inbox lacks 1\n" in out

    number = github.repository("acme/widgets").id
    code, out, err = await command(environ, "reconcile", "acme", cwd=data_dir)
    assert (0, f"1 repository is due now: acme/widgets\n{NO_SERVER}", "") == (code, out, err)
    assert (WorkState.DUE, Priority.MANUAL) == await state_of(data_dir, number)
    code, out, err = await command(environ, "reconcile", "acme/nowhere", cwd=data_dir)
    assert (1, "") == (code, out)
    assert err.startswith("error: GITHUB_NOT_FOUND: ")


# ── beside a server ───────────────────────────────────────────────────────────────────────────────


async def test_deliveries_are_shown_as_tables_and_as_json(served: Path) -> None:
    """A list, one of them, its payload."""
    table, listed, first, shown, detail, sent = await run_all(
        served,
        "deliveries list",
        "deliveries list --status dead --json",
        "deliveries list --since 2000d --limit 1",
        "deliveries show guid-dead",
        "deliveries show guid-dead --json",
        "deliveries show guid-dead --payload",
    )
    assert {(0, "")} == {
        (code, err) for code, _, err in (table, listed, first, shown, detail, sent)
    }
    header, dead, ping = table[1].splitlines()
    assert ["RECEIVED", "STATUS", "SOURCE", "GUID", "EVENT", "REPOSITORY"] == header.split()
    assert ["dead", "local", "guid-dead", "repository.created", "acme/widgets"] == dead.split()[2:]
    assert ["ignored", "local", "guid-ping", "ping.created"] == ping.split()[2:]
    told = json.loads(listed[1])
    assert ["guid-dead"] == [each["guid"] for each in told["deliveries"]]
    assert not told["more"]
    assert first[1].endswith("the newest 1; --limit shows more\n")
    assert "status       dead\n" in shown[1]
    assert r"ZeroDivisionError: \x1b[31mno" in shown[1]
    assert ERROR == json.loads(detail[1])["repositories"][0]["work"]["last_error"]
    assert payload() == json.loads(sent[1])


async def test_a_replay_of_several_says_what_each_did(served: Path) -> None:
    """And is done as far as it can be."""
    code, out, err = await run(served, "deliveries", "replay", "guid-dead", "guid-ping", "nowhere")
    assert (1, "") == (code, err)
    told = out.splitlines()
    assert told[:-1] == [
        "GUID       EVENT               RESULT",
        "guid-dead  repository.created  acme/widgets",
        "guid-ping  ping.created        means no work",
        "nowhere                        DELIVERY_NOT_FOUND: the inbox has no delivery 'nowhere'",
        "",
    ]
    expected = "1 delivery replayed: 1 repository is due now; 1 delivery means no work"
    assert f"{expected}; 1 could not be replayed" == told[-1]


async def test_what_does_not_exist_is_one_sentence_and_a_hint(served: Path) -> None:
    """Exit code 1, and nothing on standard output."""
    refused = await run_all(
        served,
        "deliveries show nowhere",
        "deliveries replay nowhere",
        "deliveries list --since yesterday",
        "work retry acme/widgets acme/nowhere",
        "reconcile acme/nowhere",
        "deliveries show \udcff\x1b",
        "work retry acme/\udcff",
    )
    assert {(1, "")} == {(code, out) for code, out, _ in refused}
    codes = [err.split(": ")[1] for _, _, err in refused]
    expected = ["DELIVERY_NOT_FOUND", "DELIVERY_NOT_FOUND", "TIME_INVALID", "WORK_NOT_FOUND"]
    assert [*expected, "GITHUB_NOT_FOUND", "DELIVERY_NOT_FOUND", "WORK_NOT_FOUND"] == codes
    assert all(err.replace("\n", "").isprintable() for _, _, err in refused)


async def test_a_running_server_does_what_is_asked_at_once(
    tmp_path: Path, github: SimulatedGitHub
) -> None:
    """The commands know nothing but DATA_DIR: the server has the database and the App."""
    async with Guardian.start(guardian_environment(github, tmp_path)) as guardian:
        await guardian.logged("repository.reconciled", repository="acme/widgets")
        github.deliver_to(f"{await guardian.base_url()}/webhooks/github")
        sent = await github.send("ping", {"zen": "Keep it logically awesome."})
        code, out, err = await run(tmp_path, "deliveries", "list")
        assert (0, "") == (code, err)
        assert ["ignored", "local", sent.guid, "ping"] == out.splitlines()[1].split()[2:]

        seen = len(guardian.lines)
        expected = (0, "1 repository is due now: acme/widgets\n", "")
        assert expected == await run(tmp_path, "reconcile", "acme/widgets")
        await guardian.logged("repository.reconciled", repository="acme/widgets", since=seen)
        seen = len(guardian.lines)
        assert expected == await run(tmp_path, "work", "retry", "acme/widgets")
        await guardian.logged("repository.reconciled", repository="acme/widgets", since=seen)

        code, out, err = await run(tmp_path, "work", "list", "--state", "idle", "--json")
        assert (0, "") == (code, err)
        [row] = json.loads(out)["items"]
        assert "acme/widgets" == row["repository"]["full_name"]

        expected = (0, "GitHub's log has 1 delivery (1 attempt); the inbox lacks none\n", "")
        assert expected == await run(tmp_path, "deliveries", "verify")


# ── usage ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("reconcile", "--all for every repository"),
        ("reconcile acme --all", "--all for every repository"),
        ("deliveries replay", "Give one of GUID..., --dead and --since TIME."),
        ("deliveries replay guid-1 --dead", "Give one of GUID..., --dead and --since TIME."),
        ("deliveries replay --dead --since 3d", "Give one of GUID..., --dead and --since TIME."),
        ("deliveries show guid-1 --json --payload", "exclude each other"),
        ("work retry", "Give either REPO... or --all-dead."),
        ("work retry acme/widgets --all-dead", "Give either REPO... or --all-dead."),
        ("work list --dead --state idle", "exclude each other"),
        ("work list --state odd", "'odd' is not one of"),
        ("deliveries list --limit 0", "0 is not in the range"),
    ],
)
def test_a_command_that_is_used_wrongly_says_how_to(words: str, expected: str) -> None:
    """Before anything is asked or opened."""
    result = CliRunner().invoke(main, words.split(), env={"DATA_DIR": "/nowhere"})
    assert 2 == result.exit_code
    assert expected in result.output
