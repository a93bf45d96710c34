"""What happens to branches and pull requests, and all that GitHub lets follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.github import history, problems, webhooks
from tests.support.github.accounts import GITHUB, Account
from tests.support.github.pulls import PullRequest
from tests.support.github.repository import Repository
from tests.support.github.state import State


@dataclass(slots=True)
class World(State):
    """The whole state with its rules."""

    # -- branches -------------------------------------------------------------------------------

    def move_branch(
        self, repository: Repository, branch: str, oid: str | None, pusher: Account
    ) -> None:
        """Create, move or delete (oid None) a branch, with all that GitHub lets follow from it."""
        before = repository.branches.pop(branch, None)
        if oid is not None:
            repository.branches[branch] = oid
        repository.pushed_at = repository.updated_at = self.now()
        push = webhooks.Push(branch, before, oid, pusher)
        self.tell(
            "push", repository.owner, lambda: webhooks.push(self, repository, push), repository.id
        )
        for pull in repository.pulls_from.get(branch, ()):
            self._follow_head(pull, oid)
        for pull in repository.pulls_into.get(branch, ()):
            self._follow_base(pull, oid)

    def _follow_head(self, pull: PullRequest, oid: str | None) -> None:
        if pull.state != "open":
            return
        if oid is None:
            self.close(pull, pull.head_repository.owner)
            return
        pull.head_oid, pull.updated_at = oid, self.now()
        # GitHub closes a pull request that a force push left without commits
        if not pull.commits:
            self.close(pull, pull.head_repository.owner)

    def _follow_base(self, pull: PullRequest, oid: str | None) -> None:
        if pull.state != "open" or oid is None:
            return
        if history.is_ancestor(pull.repository.store, pull.head_oid, oid):
            self._end(pull, merged_as=oid)
            self._tell_pull(pull, "closed", pull.repository.owner)
        else:
            pull.base_oid = oid

    # -- pull requests --------------------------------------------------------------------------

    def open_pull(
        self,
        repository: Repository,
        *,
        head_repository: Repository,
        head: str,
        base: str,
        title: str,
        body: str,
        author: Account,
        draft: bool = False,
    ) -> PullRequest:
        """Open a pull request; raises ApiProblem 422 as GitHub's REST interface does."""
        repository.require_writable()
        self._check_new_pull(repository, head_repository, head, base)
        now = self.now()
        pull = PullRequest(
            id=next(self._ids),
            number=len(repository.pulls) + 1,
            repository=repository,
            head_repository=head_repository,
            head=head,
            base=base,
            title=title,
            body=body,
            author=author,
            created_at=now,
            updated_at=now,
            head_oid=head_repository.branches[head],
            base_oid=repository.branches[base],
            draft=draft,
        )
        repository.pulls.append(pull)
        head_repository.pulls_from.setdefault(head, []).append(pull)
        repository.pulls_into.setdefault(base, []).append(pull)
        self._tell_pull(pull, "opened", author)
        return pull

    def _check_new_pull(
        self, repository: Repository, head_repository: Repository, head: str, base: str
    ) -> None:
        if base not in repository.branches:
            raise problems.invalid_field("PullRequest", "base")
        if head not in head_repository.branches:
            raise problems.invalid_field("PullRequest", "head")
        if any(
            p.state == "open" and p.base == base and p.repository is repository
            for p in head_repository.pulls_from.get(head, ())
        ):
            label = f"{head_repository.owner.login}:{head}"
            message = f"A pull request already exists for {label}."
            raise problems.validation_failed("PullRequest", message)
        oids = repository.branches[base], head_repository.branches[head]
        if not history.commits_between(repository.store, *oids):
            raise problems.validation_failed("PullRequest", f"No commits between {base} and {head}")

    def close(self, pull: PullRequest, sender: Account) -> None:
        """Close without merging; closing a closed one changes nothing."""
        if pull.state == "open":
            self._end(pull)
            self._tell_pull(pull, "closed", sender)

    def reopen(self, pull: PullRequest, sender: Account) -> None:
        """Open again; raises ApiProblem 422 when merged or when its branch is gone."""
        if pull.state == "open":
            return
        head = pull.head_repository.branches.get(pull.head)
        if pull.merged or head is None:
            raise problems.validation_failed("PullRequest", "state cannot be changed.")
        pull.state, pull.closed_at, pull.head_oid = "open", None, head
        pull.base_oid = pull.repository.branches[pull.base]
        self._tell_pull(pull, "reopened", sender)

    def merge(self, pull: PullRequest, sender: Account, *, message: str) -> None:
        """Merge with a merge commit signed by GitHub, which moves the base branch."""
        store = pull.repository.store
        changes = {change.path: change.after for change in pull.changes}
        base_tree = store.commit(pull.base_oid).tree_oid
        commit = store.add_commit(
            tree_oid=store.add_files(base_tree, changes),
            parents=(pull.base_oid, pull.head_oid),
            author=sender.person,
            committer=GITHUB,
            at=self.now(),
            message=message,
            signed_by_github=True,
        )
        self.move_branch(pull.repository, pull.base, commit.oid, sender)

    def _end(self, pull: PullRequest, merged_as: str | None = None) -> None:
        pull.state, pull.closed_at = "closed", self.now()
        pull.updated_at = pull.closed_at
        if merged_as is not None:
            pull.merged_at, pull.merge_commit_oid = pull.closed_at, merged_as

    def _tell_pull(self, pull: PullRequest, action: str, sender: Account) -> None:
        self.tell(
            "pull_request",
            pull.repository.owner,
            lambda: webhooks.pull_request(self, pull, action, sender),
            pull.repository.id,
        )
