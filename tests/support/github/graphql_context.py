"""What GraphQL resolvers share: the caller's context, located git objects, field tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from graphql import GraphQLResolveInfo

from tests.support.github import problems
from tests.support.github.auth import Token
from tests.support.github.ids import node_id
from tests.support.github.limits import Budget
from tests.support.github.objects import Blob, Commit, GitObject, Tree
from tests.support.github.repository import Repository
from tests.support.github.world import World

#: graphql-core calls `resolver(source, info, **arguments)`; each field has other arguments.
Resolver = Callable[..., object]
Fields = Mapping[str, Resolver]
Found = TypeVar("Found", bound=GitObject)


@dataclass(frozen=True, slots=True)
class Context:
    """One GraphQL call."""

    world: World
    token: Token
    budget: Budget
    cost: int

    def visible(self, repository: Repository | None) -> Repository | None:
        """The repository if it exists and the caller may see it."""
        if repository is None or repository.id not in self.world.repositories:
            return None
        return repository if self.token.sees(repository) else None

    def repository(self, full_name: str, *, follow_renames: bool = True) -> Repository:
        """A repository by name; raises ApiProblem NOT_FOUND."""
        found, renamed = self.world.find(full_name)
        shown = self.visible(found) if follow_renames or not renamed else None
        if shown is None:
            message = f"Could not resolve to a Repository with the name '{full_name}'."
            raise problems.ApiProblem(404, message, kind="NOT_FOUND")
        return shown


@dataclass(frozen=True, slots=True)
class Located:
    """A git object as seen in one repository; `path` is where it was found in a tree."""

    repository: Repository
    object: Commit | Tree | Blob
    path: str = ""

    @property
    def type_name(self) -> str:
        """Its type in the schema."""
        return type(self.object).__name__

    @property
    def node_id(self) -> str:
        """GraphQL id."""
        return node_id(self.type_name[0], self.repository.id, self.object.oid)


def context(info: GraphQLResolveInfo) -> Context:
    """The context of the call that a resolver serves."""
    assert isinstance(info.context, Context)
    return info.context


def get(path: str) -> Resolver:
    """A resolver that reads an attribute, for example `get("owner.login")`."""
    read: Callable[[Any], object] = attrgetter(path)
    return lambda source, _info: read(source)


def attributes(**paths: str) -> dict[str, Resolver]:
    """Resolvers for many fields that are plain attributes: field name = attribute path."""
    return {name: get(path) for name, path in paths.items()}
