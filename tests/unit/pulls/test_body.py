"""What people read."""

from __future__ import annotations

from repo_guardian.policy.load import load_policy
from repo_guardian.policy.model import Policy
from repo_guardian.pulls.body import (
    WantedFile,
    is_generated_title,
    marker_for,
    render_body,
    render_closed_body,
    render_title,
)
from repo_guardian.pulls.identity import BRANCH, Marker, parse_marker
from repo_guardian.pulls.plan import OpenPull, make_plan
from repo_guardian.pulls.report import Report, render
from repo_guardian.rules.evaluate import evaluate
from tests.unit.pulls.snapshots import POLICY, file, our_pull, snapshot


def wanted(path: str, content: bytes = b"x\n", rule: str = "rule") -> WantedFile:
    """A file that we propose."""
    return WantedFile(rule, path, content, why="Because.", gap=f"{path} does not exist")


def body_of(*files: WantedFile) -> str:
    """The body for these files under the built-in policy's name."""
    return render_body(Policy(rules=()), snapshot(), files)


def test_the_title_names_the_files_as_long_as_they_are_few() -> None:
    """One, three, many."""
    files = [wanted(path) for path in "abcd"]
    assert render_title(files[:1]) == "chore: add a"
    assert render_title(files[:3]) == "chore: add a, b and c"
    assert render_title(files) == "chore: add 4 missing files"
    assert is_generated_title(render_title(files))


def test_the_body_says_for_each_file_why_and_which_rule() -> None:
    """With what was found instead of it."""
    body = body_of(wanted("LICENSE", rule="license"))
    assert "lacks a file that the built-in policy asks for" in body
    assert "### `LICENSE`\n\nBecause.\n\nRule `license`: LICENSE does not exist." in body


def test_the_body_says_how_to_decline_and_how_to_take_over() -> None:
    """In words that hold."""
    body = body_of(wanted("LICENSE"))
    assert "close this pull request without merging" in body
    assert f"commit to the branch `{BRANCH}`" in body


def test_the_codeowners_note_comes_only_with_a_codeowners_that_names_nobody() -> None:
    """Regression 21: a note about a placeholder was always there, whatever the files."""
    note = "It names nobody yet"
    assert note in body_of(wanted(".github/CODEOWNERS", b"# nobody\n\n"))
    assert note not in body_of(wanted(".github/CODEOWNERS", b"* @acme/core\n"))
    assert note not in body_of(wanted(".github/dependabot.yml", b"# only a comment\n"))


def test_the_built_in_codeowners_is_valid_and_names_no_invented_team() -> None:
    """Regression 21: `* @org/CHANGEME` merged as it is makes an invalid file."""
    policy = load_policy(None, template_dir=None)
    plan = make_plan(policy, snapshot(), evaluate(policy, snapshot()))
    assert isinstance(plan, OpenPull)
    lines = plan.files[0].content.decode().splitlines()
    assert all(line.startswith("#") for line in lines)
    assert "@acme/your-team" in plan.files[0].content.decode()
    assert "CHANGEME" not in plan.body + plan.files[0].content.decode()


def test_the_marker_changes_with_the_files_and_with_the_reasons() -> None:
    """And with nothing else."""
    first = marker_for([wanted("a", b"1")])
    assert first == marker_for([wanted("a", b"1")])
    assert first != marker_for([wanted("a", b"2")])
    assert first != marker_for([wanted("b", b"1")])


def test_a_body_carries_its_marker() -> None:
    """So that the next look knows this pull request."""
    files = (wanted("a", rule="one"), wanted("b", rule="two"))
    assert parse_marker(body_of(*files)) == marker_for(files)


def test_a_closed_body_says_why_and_that_it_was_us() -> None:
    """A decline looks different."""
    body = render_closed_body("nothing is missing", Marker(frozenset({"one"}), "0", True))
    assert "nothing is missing" in body
    assert parse_marker(body) == Marker(frozenset({"one"}), "0", closed_by_us=True)


def test_the_report_shows_findings_plan_and_diffs() -> None:
    """What `repo-guardian check` prints, whole."""
    seen = snapshot(file("CODEOWNERS"))
    findings = evaluate(POLICY, seen)
    text = render(Report(seen, tuple(findings), make_plan(POLICY, seen, findings)))
    assert text == (
        "acme/widgets at dddddddddddd\n\n"
        "pass     codeowners  CODEOWNERS exists\n"
        "fail     dependabot  none of .github/dependabot.yml, .github/dependabot.yaml exists\n\n"
        "plan: open a pull request: chore: add .github/dependabot.yml\n\n"
        "--- /dev/null\n+++ b/.github/dependabot.yml\n@@ -0,0 +1,1 @@\n+version: 2\n"
    )


def test_the_report_of_a_right_pull_request_names_it() -> None:
    """Without files there is no diff."""
    ours = our_pull(1, "codeowners", "dependabot")
    seen = snapshot(file("CODEOWNERS"), file(".github/dependabot.yml"), branch_pulls=(ours,))
    findings = tuple(evaluate(POLICY, seen))
    plan = make_plan(POLICY, seen, findings)
    assert "plan: leave alone" in render(Report(seen, findings, plan))
