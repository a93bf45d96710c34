"""The state behind the interfaces: accounts, installations, repositories and their names.

All look-ups are by dictionary. A change puts an `Event` in the outbox; the server sends it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tests.support.github import webhooks
from tests.support.github.accounts import (
    DEFAULT_PERMISSIONS,
    Account,
    AccountKind,
    Installation,
)
from tests.support.github.objects import ObjectStore
from tests.support.github.render import Json
from tests.support.github.repository import Repository

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that GitHub tells by webhook; `build` makes the payload when it is sent."""

    name: str
    build: Callable[[], Json]


@dataclass(slots=True)
class State:
    """Accounts, installations and repositories; `world.World` adds branches and pull requests."""

    now: Clock
    bot: Account
    app_id: int
    web_url: str = ""
    api_url: str = ""
    accounts: dict[str, Account] = field(default_factory=dict)
    repositories: dict[int, Repository] = field(default_factory=dict)
    installations: dict[int, Installation] = field(default_factory=dict)
    outbox: list[Event] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)
    #: Names a repository had before: GitHub redirects them until somebody takes the name.
    _old_names: dict[str, int] = field(default_factory=dict)
    _installation_of: dict[int, Installation] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1_000_001))

    # -- accounts -------------------------------------------------------------------------------

    def account(self, login: str, kind: AccountKind = "User") -> Account:
        """The account with this login, made when it is new."""
        found = self.accounts.get(login.lower())
        if found is None:
            found = self.accounts[login.lower()] = Account(next(self._ids), login, kind)
        return found

    def install(
        self,
        account: Account,
        *,
        permissions: Mapping[str, str] | None = None,
        repositories: list[Repository] | None = None,
    ) -> Installation:
        """Install the app; `repositories` None means all."""
        installation = Installation(
            next(self._ids),
            account,
            dict(DEFAULT_PERMISSIONS if permissions is None else permissions),
            self.now(),
            None if repositories is None else {each.id for each in repositories},
        )
        self.installations[installation.id] = installation
        self._installation_of[account.id] = installation
        self._tell_installation(installation, "created")
        return installation

    def uninstall(self, account: Account) -> None:
        """Remove the app from an account."""
        installation = self._installation_of.pop(account.id)
        del self.installations[installation.id]
        installation.deleted = True
        self._tell_installation(installation, "deleted")

    def suspend(self, installation: Installation, by: Account) -> None:
        """Suspend: it keeps its repositories, but reaches none and is told nothing about them."""
        installation.suspended_at, installation.suspended_by = self.now(), by
        self._tell_installation(installation, "suspend")

    def unsuspend(self, installation: Installation) -> None:
        """End a suspension."""
        installation.suspended_at = installation.suspended_by = None
        self._tell_installation(installation, "unsuspend")

    def select(
        self, installation: Installation, *, add: list[Repository], drop: list[Repository]
    ) -> None:
        """Change which repositories an installation with a selection covers."""
        selected = installation.selected if installation.selected is not None else set()
        installation.selected = (selected | {r.id for r in add}) - {r.id for r in drop}
        for action, changed in (("added", add), ("removed", drop)):
            if changed:
                self._tell_selection(installation, action, changed)

    def installation_of(self, account: Account) -> Installation | None:
        """The app's installation on this account."""
        return self._installation_of.get(account.id)

    # -- repositories ---------------------------------------------------------------------------

    def find(self, full_name: str) -> tuple[Repository | None, bool]:
        """The repository with this name, and whether the name is an old one."""
        key = full_name.lower()
        if key in self._names:
            return self.repositories[self._names[key]], False
        if key in self._old_names:
            return self.repositories.get(self._old_names[key]), True
        return None, False

    def repository(self, full_name: str) -> Repository:
        """The repository that has this name now; raises KeyError."""
        return self.repositories[self._names[full_name.lower()]]

    def create_repository(self, full_name: str, *, parent: Repository | None = None) -> Repository:
        """Make an empty repository, or a fork with its parent's objects; tells nobody yet."""
        login, _, name = full_name.partition("/")
        if full_name.lower() in self._names:
            raise ValueError(f"{full_name} exists")
        owner = self.account(login)
        repository = Repository(next(self._ids), owner, name, self.now())
        repository.store = parent.store if parent else ObjectStore()
        repository.updated_at = repository.created_at
        if parent:
            repository.parent = parent
            repository.branches = dict(parent.branches)
            repository.default_branch = parent.default_branch
            repository.private = parent.private
        self.repositories[repository.id] = repository
        owner.repository_ids[repository.id] = None
        self._claim(repository)
        return repository

    def rename(self, repository: Repository, name: str) -> None:
        """Give a repository another name; the old one redirects."""
        before = repository.name
        self._release(repository)
        repository.name = name
        self._claim(repository)
        self.tell_repository(repository, "renamed", {"repository": {"name": {"from": before}}})

    def transfer(self, repository: Repository, owner: Account) -> None:
        """Give a repository to another account; the event goes to the new owner's installation."""
        before = repository.owner
        self._release(repository)
        del before.repository_ids[repository.id]
        repository.owner = owner
        owner.repository_ids[repository.id] = None
        self._claim(repository)
        changes: Json = {"owner": {"from": webhooks.owner_before(self, before)}}
        self.tell_repository(repository, "transferred", changes)

    def delete_repository(self, repository: Repository) -> None:
        """Remove a repository for good."""
        self.tell_repository(repository, "deleted")
        self._names.pop(repository.full_name.lower())
        self.repositories.pop(repository.id)
        repository.owner.repository_ids.pop(repository.id)

    def _claim(self, repository: Repository) -> None:
        self._names[repository.full_name.lower()] = repository.id
        self._old_names.pop(repository.full_name.lower(), None)

    def _release(self, repository: Repository) -> None:
        key = repository.full_name.lower()
        self._old_names[key] = self._names.pop(key)
        repository.updated_at = self.now()

    # -- telling --------------------------------------------------------------------------------

    def tell_repository(
        self,
        repository: Repository,
        action: str,
        changes: Json | None = None,
        sender: Account | None = None,
    ) -> None:
        """Put a `repository` event in the outbox."""
        self.tell(
            "repository",
            repository.owner,
            lambda: webhooks.repository(self, repository, action, changes, sender),
            repository.id,
        )

    def _tell_installation(self, installation: Installation, action: str) -> None:
        self.tell(
            "installation",
            installation.account,
            lambda: webhooks.installation(self, installation, action),
            installation=installation,
        )

    def _tell_selection(
        self, installation: Installation, action: str, changed: list[Repository]
    ) -> None:
        self.tell(
            "installation_repositories",
            installation.account,
            lambda: webhooks.installation_repositories(self, installation, action, changed),
            installation=installation,
        )

    def tell(
        self,
        name: str,
        account: Account,
        build: Callable[[], Json],
        repository_id: int | None = None,
        installation: Installation | None = None,
    ) -> None:
        """Put an event in the outbox if the app is installed where it happened."""
        # who is told is decided now: after an uninstallation it could not be found any more
        reached = installation or self._installation_of.get(account.id)
        if reached is None or (repository_id is not None and not reached.covers(repository_id)):
            return
        if reached.suspended_at is not None and installation is None:
            return
        self.outbox.append(Event(name, build))
