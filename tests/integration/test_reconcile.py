"""The whole use case against the simulated GitHub, over HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import aiohttp
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from repo_guardian.errors import RetryLater
from repo_guardian.github.auth import AppCredentials
from repo_guardian.github.client import GitHub
from repo_guardian.github.errors import GitHubError
from repo_guardian.github.model import Target
from repo_guardian.policy.load import load_policy
from repo_guardian.policy.model import FileRule, Policy
from repo_guardian.pulls.identity import BRANCH, parse_marker
from repo_guardian.pulls.report import render
from repo_guardian.reconcile import Outcome, OutcomeKind, Reconciler
from repo_guardian.rules.model import State
from tests.support.github.pulls import PullRequest
from tests.support.github.server import SimulatedGitHub

NAME = "acme/widgets"
CODEOWNERS, DEPENDABOT = ".github/CODEOWNERS", ".github/dependabot.yml"
POLICY = load_policy(None, template_dir=None)
LICENSE = FileRule("license", ("LICENSE",), "LICENSE", "MIT\n", why="Say what is allowed.")
WIDER = replace(POLICY, rules=(*POLICY.rules, LICENSE))


@dataclass
class Stage:
    """A GitHub with the organization acme, and a guardian that looks after it."""

    github: SimulatedGitHub
    session: aiohttp.ClientSession

    def client(self, *, prefix: str = "", threshold: float = 0.0) -> GitHub:
        """The App's client; nothing of an earlier one is remembered, as after a restart."""
        return GitHub(
            self.session,
            api_url=self.github.api_url + prefix,
            credentials=AppCredentials(self.github.app_id, SecretStr(self.github.private_key_pem)),
            rate_limit_threshold=threshold,
            mutation_pace_s=0.0,
        )

    def guardian(
        self, policy: Policy = POLICY, *, dry_run: bool = False, client: GitHub | None = None
    ) -> Reconciler:
        """A reconciler as a fresh process has it."""
        return Reconciler(client or self.client(), policy, dry_run=dry_run)

    def target(self, full_name: str = NAME) -> Target:
        """What a webhook tells about the repository."""
        repository = self.github.repository(full_name)
        installation = self.github.world.installation_of(repository.owner)
        assert installation is not None
        return Target(installation.id, repository.id, repository.node_id, full_name)

    async def reconcile(self, policy: Policy = POLICY) -> Outcome:
        """One attempt by a fresh process."""
        return await self.guardian(policy).reconcile(self.target())

    @property
    def pulls(self) -> list[PullRequest]:
        """All pull requests of the repository."""
        return self.github.repository(NAME).pulls

    def operations(self) -> Counter[str]:
        """How often each GraphQL operation and REST call was made, tokens left out."""
        return Counter(
            call.operation or f"{call.method} {call.path}"
            for call in self.github.requests
            if "/app" not in call.path
        )


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """An organization that has installed the App, and no repository yet."""
    async with SimulatedGitHub.start() as github, aiohttp.ClientSession() as session:
        github.add_organization("acme")
        yield Stage(github, session)


@pytest.fixture
async def widgets(stage: Stage) -> Stage:
    """The same with the repository acme/widgets, which has a README only."""
    await stage.github.create_repository(NAME, deliver=False)
    return stage


async def test_a_new_repository_gets_one_pull_request_with_one_verified_commit(
    widgets: Stage,
) -> None:
    """The main job."""
    outcome = await widgets.reconcile()
    (pull,) = widgets.pulls
    assert (outcome.kind, outcome.pull_number) == (OutcomeKind.PULL_OPENED, pull.number)
    assert outcome.pull_url.endswith(f"/{NAME}/pull/{pull.number}")
    assert outcome.files == (CODEOWNERS, DEPENDABOT) == tuple(pull.files)
    (commit,) = pull.commits
    assert commit.signed_by_github
    assert commit.author.name == "repo-guardian[bot]"
    assert "# Code owners of acme/widgets:" in pull.files[CODEOWNERS]
    assert (pull.base, pull.head, pull.author.login) == ("main", BRANCH, "repo-guardian[bot]")
    assert "It names nobody yet" in pull.body


async def test_it_takes_four_calls_and_a_second_look_takes_one(widgets: Stage) -> None:
    """An unchanged repository costs exactly one GraphQL call (regression 14: it was rewritten)."""
    guardian = widgets.guardian()
    await guardian.reconcile(widgets.target())
    assert widgets.operations() == {
        "Snapshot": 1,
        f"POST /repos/{NAME}/git/refs": 1,
        "Commit": 1,
        f"POST /repos/{NAME}/pulls": 1,
    }
    before = len(widgets.github.requests)
    outcome = await guardian.reconcile(widgets.target())
    assert outcome.kind is OutcomeKind.PULL_UNCHANGED
    assert outcome.pull_number == 1
    assert [call.operation for call in widgets.github.requests[before:]] == ["Snapshot"]
    assert len(widgets.pulls) == 1


async def test_it_works_on_enterprise_server_paths(widgets: Stage) -> None:
    """REST under /api/v3, GraphQL at /api/graphql."""
    guardian = widgets.guardian(client=widgets.client(prefix="/api/v3"))
    assert (await guardian.reconcile(widgets.target())).kind is OutcomeKind.PULL_OPENED


async def test_a_merged_pull_request_satisfies_the_repository(widgets: Stage) -> None:
    """And the merged branch, if it stays, is not in the way when a file is deleted later."""
    await widgets.reconcile()
    await widgets.github.merge(widgets.pulls[0], deliver=False)
    assert (await widgets.reconcile()).kind is OutcomeKind.SATISFIED
    await widgets.github.push(NAME, {DEPENDABOT: None}, deliver=False)
    outcome = await widgets.reconcile()
    assert (outcome.kind, outcome.files) == (OutcomeKind.PULL_OPENED, (DEPENDABOT,))
    assert len(widgets.pulls[1].commits) == 1
    assert set(widgets.pulls[1].files) == {DEPENDABOT}


# -- crashes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["answer", "call"])
@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        pytest.param("POST", f"/repos/{NAME}/git/refs", id="branch"),
        pytest.param("graphql", "createCommitOnBranch", id="commit"),
        pytest.param("POST", f"/repos/{NAME}/pulls", id="pull request"),
    ],
)
async def test_a_crash_at_any_write_ends_in_exactly_one_pull_request(
    widgets: Stage, method: str, pattern: str, lost: str
) -> None:
    """GitHub did it and the answer was lost, or it never did it: the next attempt mends it."""
    widgets.github.faults.fail(method, pattern, status=502, after_effect=lost == "answer")
    with pytest.raises(GitHubError) as caught:
        await widgets.reconcile()
    assert caught.value.code == "GITHUB_UNAVAILABLE"
    outcome = await widgets.reconcile()
    assert outcome.kind in (OutcomeKind.PULL_OPENED, OutcomeKind.PULL_UNCHANGED)
    (pull,) = widgets.pulls
    assert len(pull.commits) == 1
    assert set(pull.files) == {CODEOWNERS, DEPENDABOT}


async def test_a_leftover_branch_is_moved_when_the_default_branch_went_on(widgets: Stage) -> None:
    """Crash after the commit, then somebody pushes: still one commit, on the new head."""
    widgets.github.faults.fail("POST", f"/repos/{NAME}/pulls", status=502)
    with pytest.raises(GitHubError):
        await widgets.reconcile()
    newest = await widgets.github.push(NAME, {"main.py": "print()"}, deliver=False)
    await widgets.reconcile()
    (pull,) = widgets.pulls
    (commit,) = pull.commits
    assert commit.parents == (newest.oid,)


async def test_a_human_commit_on_a_leftover_branch_is_never_lost(widgets: Stage) -> None:
    """The branch without a pull request is theirs from then on."""
    widgets.github.faults.fail("POST", f"/repos/{NAME}/pulls", status=502)
    with pytest.raises(GitHubError):
        await widgets.reconcile()
    theirs = await widgets.github.push(NAME, {"x": "y"}, branch=BRANCH, deliver=False)
    outcome = await widgets.reconcile()
    assert outcome.kind is OutcomeKind.LEFT_ALONE
    assert widgets.github.repository(NAME).branches[BRANCH] == theirs.oid


async def test_two_processes_at_once_make_one_pull_request(widgets: Stage) -> None:
    """Regression 7: the second to create the branch reads again instead of failing for good."""
    guardians = (widgets.guardian(), widgets.guardian())
    results = await asyncio.gather(
        *(guardian.reconcile(widgets.target()) for guardian in guardians), return_exceptions=True
    )
    problems = [r.code for r in results if isinstance(r, GitHubError)]
    assert set(problems) <= {"SNAPSHOT_STALE"}
    assert (await widgets.reconcile()).kind is OutcomeKind.PULL_UNCHANGED
    (pull,) = widgets.pulls
    assert len(pull.commits) == 1


async def test_a_commit_onto_a_branch_that_moved_is_refused_and_read_again(
    widgets: Stage,
) -> None:
    """STALE_DATA goes up as SNAPSHOT_STALE; the next attempt sees what happened."""
    await widgets.reconcile()
    on_its_way = widgets.github.faults.fail("graphql", "Commit", delay_s=0.2)
    attempt = asyncio.create_task(widgets.reconcile(WIDER))
    await on_its_way.was_hit.wait()
    theirs = await widgets.github.push(NAME, {"x": "y"}, branch=BRANCH, deliver=False)
    with pytest.raises(GitHubError) as caught:
        await attempt
    assert caught.value.code == "SNAPSHOT_STALE"
    assert widgets.github.repository(NAME).branches[BRANCH] == theirs.oid
    assert (await widgets.reconcile(WIDER)).kind is OutcomeKind.LEFT_ALONE


# -- the life of a pull request ---------------------------------------------------------------------


async def test_a_new_rule_updates_the_open_pull_request(widgets: Stage) -> None:
    """Regressions 14 and 15: files, title and body all follow, and the number stays."""
    await widgets.reconcile()
    outcome = await widgets.reconcile(WIDER)
    (pull,) = widgets.pulls
    assert (outcome.kind, outcome.pull_number) == (OutcomeKind.PULL_UPDATED, 1)
    assert set(pull.files) == {CODEOWNERS, DEPENDABOT, "LICENSE"}
    assert pull.title == f"chore: add {CODEOWNERS}, {DEPENDABOT} and LICENSE"
    assert "### `LICENSE`" in pull.body
    assert (await widgets.reconcile(WIDER)).kind is OutcomeKind.PULL_UNCHANGED


async def test_a_crash_between_commit_and_text_is_mended(widgets: Stage) -> None:
    """The text follows next time, without a second commit."""
    await widgets.reconcile()
    widgets.github.faults.fail("PATCH", f"/repos/{NAME}/pulls/1", status=500)
    with pytest.raises(GitHubError):
        await widgets.reconcile(WIDER)
    assert (await widgets.reconcile(WIDER)).kind is OutcomeKind.PULL_UPDATED
    (pull,) = widgets.pulls
    assert "LICENSE" in pull.title
    assert len(pull.commits) == 2


async def test_a_file_that_lands_another_way_leaves_the_pull_request(widgets: Stage) -> None:
    """Regression 22: nobody is asked for what is there, and nothing conflicts."""
    await widgets.reconcile()
    await widgets.github.push(NAME, {CODEOWNERS: "* @acme/core\n"}, deliver=False)
    outcome = await widgets.reconcile()
    (pull,) = widgets.pulls
    assert outcome.kind is OutcomeKind.PULL_UPDATED
    assert set(pull.files) == {DEPENDABOT}
    await widgets.github.merge(pull, deliver=False)
    assert (await widgets.reconcile()).kind is OutcomeKind.SATISFIED


async def test_the_pull_request_closes_itself_when_nothing_is_missing(widgets: Stage) -> None:
    """Regression 22; the branch goes too, and it is no decline: later it may ask again."""
    await widgets.reconcile()
    files = {CODEOWNERS: "* @acme/core\n", DEPENDABOT: "version: 2\n"}
    await widgets.github.push(NAME, files, deliver=False)
    outcome = await widgets.reconcile()
    (pull,) = widgets.pulls
    assert (outcome.kind, pull.state) == (OutcomeKind.PULL_CLOSED, "closed")
    assert BRANCH not in widgets.github.repository(NAME).branches
    assert (await widgets.reconcile()).kind is OutcomeKind.SATISFIED
    await widgets.github.push(NAME, {CODEOWNERS: None}, deliver=False)
    assert (await widgets.reconcile()).kind is OutcomeKind.PULL_OPENED


async def test_a_crash_after_closing_leaves_no_decline_behind(widgets: Stage) -> None:
    """Closing and saying that it was us is one write."""
    await widgets.reconcile()
    files = {CODEOWNERS: "* @acme/core\n", DEPENDABOT: "version: 2\n"}
    await widgets.github.push(NAME, files, deliver=False)
    pattern = f"/repos/{NAME}/pulls/1"
    widgets.github.faults.fail("PATCH", pattern, status=502, after_effect=True)
    with pytest.raises(GitHubError):
        await widgets.reconcile()
    await widgets.github.push(NAME, {CODEOWNERS: None}, deliver=False)
    assert (await widgets.reconcile()).kind is OutcomeKind.PULL_OPENED


async def test_a_closed_pull_request_is_not_opened_again(widgets: Stage) -> None:
    """Regression 20: closing is a no, whatever restarts; reopening takes it back."""
    await widgets.reconcile()
    await widgets.github.close(widgets.pulls[0], deliver=False)
    before = widgets.github.repository(NAME).branches[BRANCH]
    for _ in range(2):
        outcome = await widgets.reconcile()
        assert outcome.kind is OutcomeKind.DECLINED
        assert outcome.pull_number == 1
    assert widgets.github.repository(NAME).branches[BRANCH] == before
    await widgets.github.reopen(widgets.pulls[0], deliver=False)
    assert (await widgets.reconcile()).kind is OutcomeKind.PULL_UNCHANGED


async def test_a_decline_does_not_silence_a_new_rule(widgets: Stage) -> None:
    """The new pull request asks for the new file only."""
    await widgets.reconcile()
    await widgets.github.close(widgets.pulls[0], deliver=False)
    outcome = await widgets.reconcile(WIDER)
    assert (outcome.kind, outcome.files) == (OutcomeKind.PULL_OPENED, ("LICENSE",))
    assert set(widgets.pulls[1].files) == {"LICENSE"}


async def test_a_human_commit_on_the_pull_request_is_never_touched(widgets: Stage) -> None:
    """Even when the policy changes."""
    await widgets.reconcile()
    theirs = await widgets.github.push(NAME, {CODEOWNERS: "* @a\n"}, branch=BRANCH, deliver=False)
    outcome = await widgets.reconcile(WIDER)
    assert (outcome.kind, outcome.pull_number) == (OutcomeKind.LEFT_ALONE, 1)
    assert widgets.pulls[0].head_oid == theirs.oid


# -- who else is there ------------------------------------------------------------------------------


async def test_a_fork_pull_request_with_our_branch_name_does_not_suppress_ours(
    widgets: Stage,
) -> None:
    """Regression 19: anyone who could open a fork's pull request silenced the real one."""
    await widgets.github.fork(NAME, "mallory", deliver=False)
    await widgets.github.push("mallory/widgets", {"x": "y"}, branch=BRANCH, deliver=False)
    marker = '<!-- repo-guardian: {"rules": ["codeowners", "dependabot"], "content": "0"} -->'
    await widgets.github.open_pull(
        NAME, f"mallory:{BRANCH}", body=marker, author="mallory", deliver=False
    )
    assert (await widgets.reconcile()).kind is OutcomeKind.PULL_OPENED


async def test_a_bot_pull_request_that_only_sounds_like_it_does_not_silence_the_rule(
    widgets: Stage,
) -> None:
    """Regression 18: any `dependabot/…` branch kept dependabot.yml from being asked for."""
    head = "dependabot/npm_and_yarn/lodash-4.17.21"
    await widgets.github.push(NAME, {"package-lock.json": "{}"}, branch=head, deliver=False)
    await widgets.github.open_pull(
        NAME, head, title="Bump lodash (dependabot)", author="dependabot[bot]", deliver=False
    )
    assert DEPENDABOT in (await widgets.reconcile()).files


async def test_someone_is_on_it_when_their_pull_request_changes_the_file(widgets: Stage) -> None:
    """That file is left to them, the other one is asked for."""
    await widgets.github.push(NAME, {"CODEOWNERS": "* @a\n"}, branch="owners", deliver=False)
    await widgets.github.open_pull(NAME, "owners", deliver=False)
    outcome = await widgets.reconcile()
    assert outcome.files == (DEPENDABOT,)
    assert outcome.findings[0].state is State.SKIPPED
    assert "/pull/1" in outcome.findings[0].why


async def test_long_lists_are_read_to_their_end(widgets: Stage) -> None:
    """The 53rd pull request, and the 130th file of one, decide as well as the first."""
    github = widgets.github
    for number in range(52):
        await github.push(NAME, {f"{number}": "x"}, branch=f"topic-{number}", deliver=False)
        await github.open_pull(NAME, f"topic-{number}", deliver=False)
    many = {f"a/{number:03}": "x" for number in range(130)} | {"docs/CODEOWNERS": "* @a\n"}
    await github.push(NAME, many, branch="many", deliver=False)
    last = await github.open_pull(NAME, "many", deliver=False)
    outcome = await widgets.reconcile()
    assert outcome.files == (DEPENDABOT,)
    assert outcome.findings[0].why.endswith(f"/pull/{last.number}")
    assert widgets.operations()["OpenPulls"] == 1
    assert widgets.operations()["PullFiles"] == 1


# -- repositories that are not asked ------------------------------------------------------------------


async def test_an_empty_repository_is_skipped_until_its_first_push(stage: Stage) -> None:
    """Regressions 16 and 17: a repository that fills in later gets no needless pull request."""
    await stage.github.create_repository(NAME, empty=True, deliver=False)
    outcome = await stage.reconcile()
    assert (outcome.kind, stage.pulls) == (OutcomeKind.SKIPPED, [])
    assert "empty" in outcome.reason
    template = {"README.md": "x", "CODEOWNERS": "* @acme/core\n", DEPENDABOT: "version: 2\n"}
    await stage.github.push(NAME, template, deliver=False)
    assert (await stage.reconcile()).kind is OutcomeKind.SATISFIED
    assert stage.pulls == []


async def test_an_empty_repository_that_is_pushed_to_gets_its_pull_request(stage: Stage) -> None:
    """Regression 16: the flagship event failed and was not tried again for a week."""
    await stage.github.create_repository(NAME, empty=True, deliver=False)
    await stage.reconcile()
    await stage.github.push(NAME, {"README.md": "x"}, deliver=False)
    assert (await stage.reconcile()).kind is OutcomeKind.PULL_OPENED


@pytest.mark.parametrize("what", ["archived", "fork"])
async def test_archived_repositories_and_forks_are_skipped_with_a_reason(
    stage: Stage, what: str
) -> None:
    """Nothing is written."""
    await stage.github.create_repository(
        NAME, archived=what == "archived", fork=what == "fork", deliver=False
    )
    outcome = await stage.reconcile()
    assert outcome.kind is OutcomeKind.SKIPPED
    assert what in outcome.reason
    assert set(stage.operations()) == {"Snapshot"}


async def test_a_directory_or_an_empty_file_does_not_pass(stage: Stage) -> None:
    """Regression 23: both counted as the file."""
    files = {"CODEOWNERS/readme": "x", DEPENDABOT: ""}
    await stage.github.create_repository(NAME, files=files, deliver=False)
    outcome = await stage.reconcile()
    assert outcome.files == (CODEOWNERS, DEPENDABOT)
    (pull,) = stage.pulls
    assert pull.files[DEPENDABOT].endswith('interval: "weekly"\n')


async def test_a_renamed_repository_is_found_by_its_id(widgets: Stage) -> None:
    """The delivery still says the old name."""
    target = widgets.target()
    await widgets.github.rename(NAME, "gadgets", deliver=False)
    outcome = await widgets.guardian().reconcile(target)
    (pull,) = widgets.github.repository("acme/gadgets").pulls
    assert outcome.kind is OutcomeKind.PULL_OPENED
    assert "# Code owners of acme/gadgets:" in pull.files[CODEOWNERS]
    assert not [call for call in widgets.github.requests if call.status >= 300]


async def test_a_suspended_installation_needs_no_retry(widgets: Stage) -> None:
    """Its owner switched the App off; the event that switches it on brings the work back."""
    pattern = "/app/installations/*/access_tokens"
    said = "This installation has been suspended"
    widgets.github.faults.fail("POST", pattern, status=403, message=said)
    assert (await widgets.reconcile()).kind is OutcomeKind.GONE


@pytest.mark.parametrize("what", ["deleted", "uninstalled"])
async def test_a_repository_that_is_gone_needs_no_retry(widgets: Stage, what: str) -> None:
    """Deleted, or the App is not installed any more."""
    target = widgets.target()
    if what == "deleted":
        await widgets.github.delete_repository(NAME, deliver=False)
    else:
        await widgets.github.uninstall("acme", deliver=False)
    outcome = await widgets.guardian().reconcile(target)
    assert outcome.kind is OutcomeKind.GONE


async def test_a_delivery_from_before_a_transfer_still_leads_to_the_repository(
    widgets: Stage,
) -> None:
    """Deliveries come late and out of order: recovery reads GitHub's log from its newest entry."""
    target = widgets.target()
    widgets.github.add_organization("globex")
    await widgets.github.transfer(NAME, "globex", deliver=False)
    outcome = await widgets.guardian().reconcile(target)
    (pull,) = widgets.github.repository("globex/widgets").pulls
    assert outcome.kind is OutcomeKind.PULL_OPENED
    assert "# Code owners of globex/widgets:" in pull.files[CODEOWNERS]


async def test_a_delivery_from_before_the_app_was_installed_anew_does_too(widgets: Stage) -> None:
    """The installation has another id then."""
    target = widgets.target()
    await widgets.github.uninstall("acme", deliver=False)
    widgets.github.install("acme")
    outcome = await widgets.guardian().reconcile(target)
    assert outcome.kind is OutcomeKind.PULL_OPENED


async def test_another_repository_with_the_old_name_is_not_taken_for_it(widgets: Stage) -> None:
    """It went away, and somebody took its name."""
    target = widgets.target()
    widgets.github.add_organization("globex", installed=False)
    await widgets.github.transfer(NAME, "globex", deliver=False)
    await widgets.github.create_repository(NAME, deliver=False)
    assert (await widgets.guardian().reconcile(target)).kind is OutcomeKind.GONE
    assert [] == widgets.pulls


# -- limits and refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("method", "pattern"),
    [("graphql", "Snapshot"), ("graphql", "Commit"), ("POST", f"/repos/{NAME}/pulls")],
)
async def test_a_secondary_limit_hands_the_work_back(
    widgets: Stage, status: int, method: str, pattern: str
) -> None:
    """Regression 34: 429 was ignored and the wait was a second; and nothing is done twice."""
    widgets.github.faults.secondary_limit(method, pattern, retry_after_s=17, status=status)
    with pytest.raises(RetryLater) as caught:
        await widgets.reconcile()
    assert caught.value.retry_after_s == 17
    await widgets.reconcile()
    (pull,) = widgets.pulls
    assert len(pull.commits) == 1


@pytest.mark.parametrize("status", [403, 429])
async def test_a_secondary_limit_without_a_time_waits_a_minute(widgets: Stage, status: int) -> None:
    """As GitHub's documentation asks."""
    widgets.github.faults.fail(
        "graphql",
        "Snapshot",
        status=status,
        message="You have exceeded a secondary rate limit.",
    )
    with pytest.raises(RetryLater) as caught:
        await widgets.reconcile()
    assert caught.value.retry_after_s == 60


@pytest.mark.parametrize("resource", ["core", "graphql"])
async def test_an_exhausted_primary_limit_waits_for_its_reset(
    widgets: Stage, resource: str
) -> None:
    """The time comes from GitHub's answer."""
    widgets.github.exhaust_rate_limit("acme", resource, reset_in_s=120)  # type: ignore[arg-type]
    with pytest.raises(RetryLater) as caught:
        await widgets.reconcile()
    assert 100 < caught.value.retry_after_s <= 121


async def test_new_work_leaves_the_reserve_untouched(widgets: Stage) -> None:
    """RATE_LIMIT_THRESHOLD; work under way goes on, new work waits for the reset."""
    client = widgets.client(threshold=0.9999)
    guardian = widgets.guardian(client=client)
    await guardian.reconcile(widgets.target())
    with pytest.raises(RetryLater):
        await guardian.reconcile(widgets.target())
    assert len(widgets.pulls) == 1


@pytest.mark.parametrize(
    ("missing", "named"),
    [("contents", "contents: write"), ("pull_requests", "pull requests: write")],
)
async def test_a_missing_permission_is_named(stage: Stage, missing: str, named: str) -> None:
    """With what to do about it, and without a traceback's worth of detail."""
    given = {"contents": "write", "metadata": "read", "pull_requests": "write"} | {missing: "read"}
    await stage.github.uninstall("acme", deliver=False)
    stage.github.install("acme", permissions=given, deliver=False)
    await stage.github.create_repository(NAME, deliver=False)
    with pytest.raises(GitHubError) as caught:
        await stage.reconcile()
    assert caught.value.code == "GITHUB_FORBIDDEN"
    assert named in caught.value.hint


async def test_a_workflow_without_its_permission_is_refused_by_name(widgets: Stage) -> None:
    """Regression 25: GitHub takes no workflow from an App without `workflows: write`."""
    path = ".github/workflows/ci.yml"
    rule = FileRule("ci", (path,), path, "on: push\n")
    with pytest.raises(GitHubError) as caught:
        await widgets.reconcile(Policy(rules=(rule,)))
    assert caught.value.code == "GITHUB_FORBIDDEN"
    assert "workflows: write" in caught.value.hint


# -- looking without touching -------------------------------------------------------------------------


async def test_a_dry_run_stops_at_the_plan_and_logs_it(widgets: Stage) -> None:
    """DRY_RUN=true writes nothing."""
    with capture_logs() as logs:
        outcome = await widgets.guardian(dry_run=True).reconcile(widgets.target())
    assert (outcome.kind, outcome.files) == (OutcomeKind.PLANNED, (CODEOWNERS, DEPENDABOT))
    assert [(line["event"], line["files"]) for line in logs] == [
        ("plan.made", [CODEOWNERS, DEPENDABOT])
    ]
    assert (widgets.pulls, set(widgets.operations())) == ([], {"Snapshot"})


async def test_check_finds_a_repository_by_its_name_and_writes_nothing(widgets: Stage) -> None:
    """`repo-guardian check OWNER/REPO`, by an old name too."""
    report = await widgets.guardian().examine(NAME)
    text = render(report)
    assert text.startswith(f"{NAME} at ")
    assert f"+++ b/{CODEOWNERS}" in text
    assert widgets.pulls == []


async def test_check_of_a_repository_out_of_reach_says_so(widgets: Stage) -> None:
    """GitHub does not tell whether it exists."""
    with pytest.raises(GitHubError) as caught:
        await widgets.guardian().examine("acme/nothing")
    assert caught.value.code == "GITHUB_NOT_FOUND"
    assert "not installed" in caught.value.message


async def test_the_marker_in_the_pull_request_is_readable(widgets: Stage) -> None:
    """As GitHub stored it."""
    await widgets.reconcile()
    marker = parse_marker(widgets.pulls[0].body)
    assert marker is not None
    assert marker.rules == {"codeowners", "dependabot"}


async def test_a_retargeted_pull_request_loses_nothing(widgets: Stage) -> None:
    """It then shows other people's files too, which were deleted as no longer wanted."""
    await widgets.github.push(NAME, {"RELEASE": "1"}, branch="release-1", deliver=False)
    await widgets.github.push(NAME, {"src/app.py": "print()"}, deliver=False)
    await widgets.reconcile()
    (pull,) = widgets.pulls
    pull.base = "release-1"
    pull.base_oid = widgets.github.repository(NAME).branches["release-1"]
    head = pull.head_oid
    assert (await widgets.reconcile()).kind is OutcomeKind.LEFT_ALONE
    assert pull.head_oid == head
