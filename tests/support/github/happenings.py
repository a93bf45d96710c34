"""What people do on GitHub, as a test orders it: create, push, rename, fork, merge, …"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Final

from tests.support.github.accounts import Account, Installation
from tests.support.github.delivery_log import Delivery
from tests.support.github.objects import Commit
from tests.support.github.pulls import PullRequest
from tests.support.github.repository import Repository
from tests.support.github.world import World

#: path -> content; None removes a file.
Files = Mapping[str, str | bytes | None]
_README: Final = {"README.md": "# Hello\n"}


class Happenings(ABC):
    """Every change from Python; each sends its webhooks and waits for the answers."""

    def __init__(self, world: World) -> None:
        #: All state, for what has no method here.
        self.world = world

    @abstractmethod
    async def _tell(self, deliver: bool) -> list[Delivery]:
        """Send what is in the outbox and wait, or, without `deliver`, drop it."""

    @abstractmethod
    def _flush(self) -> None:
        """Send what is in the outbox without waiting."""

    # -- accounts -------------------------------------------------------------------------------

    def add_organization(self, login: str, *, installed: bool = True) -> Account:
        """An organization, by default with the app on all its repositories (nobody is told)."""
        account = self.world.account(login, "Organization")
        if installed:
            self.install(account)
        return account

    def install(
        self,
        account: Account | str,
        *,
        permissions: Mapping[str, str] | None = None,
        repositories: list[str] | None = None,
        deliver: bool = False,
    ) -> Installation:
        """Install the app; with `deliver`, `installation.created` is on its way when this returns.

        Args:
            permissions: what the account grants, by default what repo-guardian asks for.
            repositories: full names, for an installation on selected repositories only.
        """
        owner = self.world.account(account) if isinstance(account, str) else account
        chosen = None if repositories is None else [self.repository(r) for r in repositories]
        installation = self.world.install(owner, permissions=permissions, repositories=chosen)
        if deliver:
            self._flush()
        self.world.outbox.clear()
        return installation

    async def uninstall(self, login: str, *, deliver: bool = True) -> None:
        """Remove the app from an account; its tokens are worth nothing from now on."""
        self.world.uninstall(self.world.accounts[login.lower()])
        await self._tell(deliver)

    async def suspend(self, login: str, *, deliver: bool = True) -> None:
        """The owner suspends the app: its tokens are refused, its webhooks stop."""
        installation = self.installation(login)
        self.world.suspend(installation, installation.account)
        await self._tell(deliver)

    async def unsuspend(self, login: str, *, deliver: bool = True) -> None:
        """The owner ends the suspension; what happened meanwhile is not told."""
        self.world.unsuspend(self.installation(login))
        await self._tell(deliver)

    def refuse_address(self, login: str, *, refuse: bool = True) -> None:
        """Let an organization's IP allow list refuse the app: 403 for all that is its own."""
        self.world.accounts[login.lower()].refuses_address = refuse

    def installation(self, login: str) -> Installation:
        """The app's installation on this account; raises KeyError."""
        found = self.world.installation_of(self.world.accounts[login.lower()])
        if found is None:
            raise KeyError(login)
        return found

    async def select_repositories(
        self,
        login: str,
        *,
        add: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        deliver: bool = True,
    ) -> None:
        """Add repositories to, or remove them from, an installation on selected repositories."""
        installation = self.installation(login)
        added, removed = ([self.repository(name) for name in names] for names in (add, remove))
        self.world.select(installation, add=added, drop=removed)
        await self._tell(deliver)

    # -- repositories ---------------------------------------------------------------------------

    def repository(self, full_name: str) -> Repository:
        """The repository that has this name now; raises KeyError."""
        return self.world.repository(full_name)

    async def create_repository(
        self,
        full_name: str,
        *,
        files: Files | None = None,
        empty: bool = False,
        archived: bool = False,
        fork: bool = False,
        private: bool = True,
        template: bool = False,
        default_branch: str = "main",
        deliver: bool = True,
    ) -> Repository:
        """Create a repository with one human commit, and send `repository.created`.

        Args:
            files: what the commit holds, by default a README.md.
            empty: no commit at all.
            fork: a fork of a repository of somebody else, which is made for it.
        """
        parent = self._upstream(full_name) if fork else None
        repository = self.world.create_repository(full_name, parent=parent)
        repository.default_branch, repository.private = default_branch, private
        repository.template = template
        if not empty:
            content = files if files is not None else {"README.md": f"# {repository.name}\n"}
            self._commit(repository, default_branch, content, repository.owner, "Initial commit")
        # the first commit is part of the creation: no push event
        self.world.outbox.clear()
        repository.archived = archived
        self.world.tell_repository(repository, "created")
        await self._tell(deliver)
        return repository

    def add_repositories(
        self, owner: str, names: int | Iterable[str], *, files: Files = _README
    ) -> list[Repository]:
        """Many repositories that are simply there, 10,000 in half a second; nobody is told.

        Args:
            owner: login of the account.
            names: without owner; or how many.
            files: of the one commit that each has.
        """
        account = self.world.account(owner)
        wanted = [f"repository-{n:05}" for n in range(names)] if isinstance(names, int) else names
        made = []
        for name in wanted:
            repository = self.world.create_repository(f"{owner}/{name}")
            self._commit(repository, repository.default_branch, files, account, "Initial commit")
            made.append(repository)
        self.world.outbox.clear()
        return made

    def _upstream(self, full_name: str) -> Repository:
        name = f"upstream-of-{full_name.replace('/', '-')}/{full_name.partition('/')[2]}"
        return self.world.create_repository(name)

    async def fork(self, full_name: str, owner: str, *, deliver: bool = True) -> Repository:
        """Somebody forks a repository; the fork shares its objects and has the same name."""
        parent = self.repository(full_name)
        fork = self.world.create_repository(f"{owner}/{parent.name}", parent=parent)
        self.world.tell_repository(fork, "created")
        await self._tell(deliver)
        return fork

    async def rename(self, full_name: str, name: str, *, deliver: bool = True) -> Repository:
        """Give a repository another name (without owner); the old one redirects."""
        repository = self.repository(full_name)
        self.world.rename(repository, name)
        await self._tell(deliver)
        return repository

    async def transfer(self, full_name: str, owner: str, *, deliver: bool = True) -> Repository:
        """Give a repository to another account."""
        repository = self.repository(full_name)
        self.world.transfer(repository, self.world.account(owner))
        await self._tell(deliver)
        return repository

    async def archive(self, full_name: str, *, deliver: bool = True) -> None:
        """Make a repository read-only."""
        await self._set_archived(full_name, True, deliver)

    async def unarchive(self, full_name: str, *, deliver: bool = True) -> None:
        """Make an archived repository writable again."""
        await self._set_archived(full_name, False, deliver)

    async def _set_archived(self, full_name: str, archived: bool, deliver: bool) -> None:
        repository = self.repository(full_name)
        repository.archived = archived
        self.world.tell_repository(repository, "archived" if archived else "unarchived")
        await self._tell(deliver)

    async def change_default_branch(
        self, full_name: str, branch: str, *, deliver: bool = True
    ) -> None:
        """Make another existing branch the default one (`repository.edited`)."""
        repository = self.repository(full_name)
        before, repository.default_branch = repository.default_branch, branch
        changes: dict[str, object] = {"default_branch": {"from": before}}
        self.world.tell_repository(repository, "edited", changes)
        await self._tell(deliver)

    async def delete_repository(self, full_name: str, *, deliver: bool = True) -> None:
        """Remove a repository for good."""
        self.world.delete_repository(self.repository(full_name))
        await self._tell(deliver)

    # -- content --------------------------------------------------------------------------------

    async def push(
        self,
        full_name: str,
        files: Files,
        *,
        author: str = "alice",
        branch: str | None = None,
        message: str = "Change files",
        deliver: bool = True,
    ) -> Commit:
        """A person commits to a branch (by default the default branch; a new one starts there)."""
        repository = self.repository(full_name)
        name = branch or repository.default_branch
        person = self.world.account(author)
        if name not in repository.branches and repository.head_oid is not None:
            # one push that makes the branch and brings the commit: `created`, with one commit
            start = repository.head_oid
            commit = self._commit(repository, name, files, person, message, start=start)
        else:
            commit = self._commit(repository, name, files, person, message)
        await self._tell(deliver)
        return commit

    async def delete_branch(
        self, full_name: str, branch: str, *, author: str = "alice", deliver: bool = True
    ) -> None:
        """A person deletes a branch, which closes its pull requests."""
        self.world.move_branch(self.repository(full_name), branch, None, self.world.account(author))
        await self._tell(deliver)

    def _commit(
        self,
        repository: Repository,
        branch: str,
        files: Files,
        person: Account,
        message: str,
        *,
        start: str | None = None,
    ) -> Commit:
        changes = {
            path: text.encode() if isinstance(text, str) else text for path, text in files.items()
        }
        commit = repository.write_commit(
            branch,
            changes,
            author=person.person,
            message=message,
            at=self.world.now(),
            start=start,
        )
        self.world.move_branch(repository, branch, commit.oid, person)
        return commit

    # -- pull requests --------------------------------------------------------------------------

    async def open_pull(
        self,
        full_name: str,
        head: str,
        *,
        title: str = "A change",
        body: str = "",
        author: str = "alice",
        base: str | None = None,
        deliver: bool = True,
    ) -> PullRequest:
        """A person opens a pull request; `head` is `branch`, or `owner:branch` for a fork."""
        repository = self.repository(full_name)
        owner, _, branch = head.rpartition(":")
        head_repository = self.repository(f"{owner}/{repository.name}") if owner else repository
        pull = self.world.open_pull(
            repository,
            head_repository=head_repository,
            head=branch,
            base=base or repository.default_branch,
            title=title,
            body=body,
            author=self.world.account(author),
        )
        await self._tell(deliver)
        return pull

    async def merge(
        self, pull: PullRequest, *, author: str = "alice", deliver: bool = True
    ) -> None:
        """A person merges a pull request (merge commit, push to the base branch)."""
        message = f"Merge pull request #{pull.number} from {pull.head}\n\n{pull.title}"
        self.world.merge(pull, self.world.account(author), message=message)
        await self._tell(deliver)

    async def close(
        self, pull: PullRequest, *, author: str = "alice", deliver: bool = True
    ) -> None:
        """A person closes a pull request without merging it."""
        self.world.close(pull, self.world.account(author))
        await self._tell(deliver)

    async def reopen(
        self, pull: PullRequest, *, author: str = "alice", deliver: bool = True
    ) -> None:
        """A person opens a closed pull request again."""
        self.world.reopen(pull, self.world.account(author))
        await self._tell(deliver)
