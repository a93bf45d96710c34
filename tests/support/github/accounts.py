"""Accounts (organizations, users, bots) and what it means that the app is installed on one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from tests.support.github.ids import node_id
from tests.support.github.objects import Person

AccountKind = Literal["Organization", "User", "Bot"]
_PREFIX: Final = {"Organization": "O", "User": "U", "Bot": "BOT"}

#: What repo-guardian asks for; metadata is always part of an installation.
DEFAULT_PERMISSIONS: Final = {"contents": "write", "metadata": "read", "pull_requests": "write"}
DEFAULT_EVENTS: Final = ("push", "repository")

#: GitHub itself commits what an app writes through the API and signs it.
#: https://docs.github.com/authentication/managing-commit-signature-verification/about-commit-signature-verification
GITHUB: Final = Person("GitHub", "noreply@github.com", "web-flow")


@dataclass(slots=True, eq=False)
class Account:
    """An organization, a user, or the app's bot (whose login ends in `[bot]`)."""

    id: int
    login: str
    kind: AccountKind
    #: Repositories it owns, by id in order of creation.
    repository_ids: dict[int, None] = field(default_factory=dict)
    #: It has an IP allow list, and the caller's address is not on it.
    refuses_address: bool = False

    @property
    def node_id(self) -> str:
        """GraphQL id."""
        return node_id(_PREFIX[self.kind], self.id)

    @property
    def person(self) -> Person:
        """This account as the author of a commit; GraphQL knows a bot by no `user`."""
        email = f"{self.id}+{self.login}@users.noreply.github.com"
        return Person(self.login, email, None if self.kind == "Bot" else self.login)


@dataclass(slots=True, eq=False)
class Installation:
    """The app on one account."""

    id: int
    account: Account
    permissions: dict[str, str]
    created_at: datetime
    #: None: all repositories of the account, those to come included.
    selected: set[int] | None = None
    suspended_at: datetime | None = None
    suspended_by: Account | None = None
    deleted: bool = False

    @property
    def node_id(self) -> str:
        """GraphQL id, as webhook payloads carry it."""
        return node_id("IN", self.id)

    @property
    def repository_selection(self) -> str:
        """`all` or `selected`."""
        return "all" if self.selected is None else "selected"

    def covers(self, repository_id: int) -> bool:
        """True when the app may see this repository."""
        chosen = self.selected is None or repository_id in self.selected
        return chosen and repository_id in self.account.repository_ids

    def repository_ids(self) -> list[int]:
        """Repositories the app may see, oldest first."""
        if self.selected is None:
            return list(self.account.repository_ids)
        return [each for each in self.account.repository_ids if each in self.selected]
