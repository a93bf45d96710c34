"""The commands that end by themselves, as processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from repo_guardian.version import __version__
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import guardian_environment


async def command(
    environ: Mapping[str, str], *words: str, cwd: Path
) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error of `repo-guardian WORDS`."""
    process = await start_command(environ, *words, cwd=cwd)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def start_command(
    environ: Mapping[str, str], *words: str, cwd: Path | None = None
) -> asyncio.subprocess.Process:
    """`repo-guardian WORDS` as a process, with exactly this environment (and PATH)."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "repo_guardian",
        *words,
        env={"PATH": os.defpath, "PYTHONPATH": str(Path.cwd()), **environ},
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_check_shows_findings_plan_and_files_and_writes_nothing(tmp_path: Path) -> None:
    """Without a webhook secret, from a `.env` file, with nothing but the App's id and key."""
    async with SimulatedGitHub.start() as github:
        github.add_organization("acme")
        await github.create_repository("acme/widgets", files={"CODEOWNERS": "* @acme/team\n"})
        settings = guardian_environment(github, tmp_path)
        wanted = ("GITHUB_APP_ID", "GITHUB_PRIVATE_KEY_FILE", "GITHUB_API_URL")
        (tmp_path / ".env").write_text("".join(f"{name}={settings[name]}\n" for name in wanted))
        code, out, err = await command({}, "check", "acme/widgets", cwd=tmp_path)
        assert (0, "") == (code, err)
        assert "pass     codeowners  CODEOWNERS exists" in out
        assert "fail     dependabot" in out
        assert "+++ b/.github/dependabot.yml" in out
        assert "plan: open a pull request" in out
        operations = {call.operation or f"{call.method} {call.path}" for call in github.requests}
        assert not [each for each in operations if "Commit" in each or "pulls" in each]
        assert [] == github.repository("acme/widgets").pulls

        code, out, err = await command({}, "check", "acme/nowhere", cwd=tmp_path)
        assert (1, "") == (code, out)
        assert err.startswith("error: GITHUB_NOT_FOUND: ")
        assert "\nhint: " in err


async def test_check_refuses_what_is_no_repository_name(tmp_path: Path) -> None:
    """Before any setting is looked at."""
    code, out, err = await command({}, "check", "https://github.com/acme/widgets", cwd=tmp_path)
    assert (1, "") == (code, out)
    assert err.startswith("error: REPOSITORY_NAME_INVALID: ")


async def test_version_names_the_helper_or_says_why_there_is_none(tmp_path: Path) -> None:
    """Both halves of what is installed."""
    code, out, _ = await command({"TSNET_BRIDGE_BIN": "/nowhere"}, "version", cwd=tmp_path)
    assert 0 == code
    assert out.startswith(f"repo-guardian {__version__}\n")
    assert "/nowhere" in out
