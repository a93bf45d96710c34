"""GraphQL fields of git things: refs, comparisons, commits, trees, blobs, signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from graphql import GraphQLResolveInfo

from tests.support.github import history, problems, render
from tests.support.github.accounts import GITHUB
from tests.support.github.connections import connection
from tests.support.github.graphql_context import (
    Fields,
    Located,
    attributes,
    context,
    get,
)
from tests.support.github.ids import node_id
from tests.support.github.objects import Blob, Commit, Entry, Person, Tree
from tests.support.github.repository import HEADS, Ref, Repository

Info = GraphQLResolveInfo
_TEXT_LIMIT: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Actor:
    """Author or committer of a commit."""

    person: Person
    at: datetime


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two commits of one repository."""

    repository: Repository
    base: str
    head: str

    @property
    def ahead(self) -> list[Commit]:
        """Commits of head that base lacks, oldest first."""
        return history.commits_between(self.repository.store, self.base, self.head)

    @property
    def behind(self) -> list[Commit]:
        """Commits of base that head lacks."""
        return history.commits_between(self.repository.store, self.head, self.base)

    @property
    def status(self) -> str:
        """IDENTICAL, AHEAD, BEHIND or DIVERGED."""
        words = {(False, False): "IDENTICAL", (True, False): "AHEAD", (False, True): "BEHIND"}
        return words.get((bool(self.ahead), bool(self.behind)), "DIVERGED")


@dataclass(frozen=True, slots=True)
class LocatedEntry:
    """One line of a tree in its repository."""

    repository: Repository
    entry: Entry
    path: str

    def object(self) -> Located:
        """The blob or tree it stands for."""
        found = self.repository.store.objects[self.entry.oid]
        return Located(self.repository, found, self.path)


def locate(repository: Repository, oid: str | None) -> Located | None:
    """The object with this oid as seen in the repository; None when it has none such."""
    found = repository.store.objects.get(oid) if oid else None
    return Located(repository, found) if found else None


def commits(
    name: str, repository: Repository, found: Sequence[Commit], page: dict[str, Any]
) -> dict[str, object]:
    """A connection of commits."""
    return connection(name, found, show=lambda commit: Located(repository, commit), **page)


def _changes(source: Located) -> list[history.FileChange]:
    commit = _commit(source)
    parent = commit.parents[0] if commit.parents else None
    return history.changes_between(source.repository.store, parent, commit.oid)


def _commit(source: Located) -> Commit:
    assert isinstance(source.object, Commit)
    return source.object


def _blob(source: Located) -> Blob:
    assert isinstance(source.object, Blob)
    return source.object


def _parents(source: Located, _info: Info, **page: Any) -> object:
    store = source.repository.store
    found = [store.commit(oid) for oid in _commit(source).parents]
    return commits("parents", source.repository, found, page)


def _history(source: Located, _info: Info, **page: Any) -> object:
    found = list(history.ancestors(source.repository.store, source.object.oid))
    return commits("history", source.repository, found, page)


def _file(source: Located, _info: Info, path: str) -> LocatedEntry | None:
    store = source.repository.store
    folder, _, name = path.rpartition("/")
    tree = store.at_path(_commit(source).tree_oid, folder)
    entries = tree.entries if isinstance(tree, Tree) else ()
    entry = next((each for each in entries if each.name == name), None)
    return LocatedEntry(source.repository, entry, path) if entry else None


def _entries(source: Located, _info: Info) -> list[LocatedEntry]:
    assert isinstance(source.object, Tree)
    prefix = f"{source.path}/" if source.path else ""
    return [
        LocatedEntry(source.repository, entry, prefix + entry.name)
        for entry in source.object.entries
    ]


def _signature(source: Located, info: Info) -> object:
    commit = _commit(source)
    if not commit.signed_by_github:
        return None
    return {
        "email": GITHUB.email,
        "isValid": True,
        "keyId": "B5690EEEBB952194",
        "signer": context(info).world.account("web-flow"),
        "state": "VALID",
        "verifiedAt": render.timestamp(commit.committed_at),
        "wasSignedByGitHub": True,
    }


def _actor_user(source: Actor, info: Info) -> object:
    login = source.person.login
    return context(info).world.account(login) if login else None


def _binary(source: Located, _info: Info | None = None) -> bool:
    return b"\0" in _blob(source).data


def _text(source: Located, _info: Info) -> str | None:
    text = _blob(source).data[:_TEXT_LIMIT].decode("utf-8", "replace")
    return None if _binary(source) else text


def _commit_url(source: Located, info: Info) -> str:
    return f"{context(info).world.web_url}/{source.repository.full_name}/commit/{source.object.oid}"


def _size(source: LocatedEntry, _info: Info) -> int:
    found = source.object().object
    return len(found.data) if isinstance(found, Blob) else 0


def _compare(source: Ref, _info: Info, headRef: str) -> Comparison:
    head = source.repository.resolve(headRef.removeprefix(HEADS))
    if head is None:
        # not documented; null beside an error is the harder of the two answers for a client
        message = f"Could not resolve to a ref with the name '{headRef}'."
        raise problems.ApiProblem(404, message, kind="NOT_FOUND")
    return Comparison(source.repository, source.oid, head.oid)


def _comparison_commits(source: Comparison, _info: Info, **page: Any) -> object:
    return commits("commits", source.repository, source.ahead, page)


def parse_object(repository: Repository, expression: str | None, oid: str | None) -> Located | None:
    """`Repository.object`: by expression such as `HEAD:path`, or by oid."""
    if expression is None and oid is None:
        raise problems.ApiProblem(200, "One of the arguments expression, oid is required.")
    if expression is None:
        return locate(repository, oid)
    found = repository.object(expression)
    return Located(repository, found, expression.partition(":")[2]) if found else None


_OBJECT: Final = attributes(id="node_id", oid="object.oid", repository="repository") | {
    "abbreviatedOid": lambda source, _info: source.object.oid[:7],
    "commitUrl": _commit_url,
}

FIELDS: Final[dict[str, Fields]] = {
    "Commit": _OBJECT
    | attributes(message="object.message", messageHeadline="object.headline")
    | {
        "additions": lambda source, _: sum(each.additions for each in _changes(source)),
        "author": lambda source, _: Actor(source.object.author, source.object.committed_at),
        "authoredDate": lambda source, _: render.timestamp(source.object.committed_at),
        "changedFiles": lambda source, _: len(_changes(source)),
        "changedFilesIfAvailable": lambda source, _: len(_changes(source)),
        "committedDate": lambda source, _: render.timestamp(source.object.committed_at),
        "committer": lambda source, _: Actor(source.object.committer, source.object.committed_at),
        "deletions": lambda source, _: sum(each.deletions for each in _changes(source)),
        "file": _file,
        "history": _history,
        "messageBody": lambda source, _: source.object.message.partition("\n")[2].strip("\n"),
        "parents": _parents,
        "signature": _signature,
        "tree": lambda source, _: locate(source.repository, source.object.tree_oid),
        "url": _commit_url,
    },
    "Tree": {**_OBJECT, "entries": _entries},
    "TreeEntry": {
        **attributes(mode="entry.mode", name="entry.name", oid="entry.oid", path="path"),
        "object": lambda source, _: source.object(),
        "size": _size,
        "type": lambda source, _: "tree" if source.entry.is_tree else "blob",
    },
    "Blob": _OBJECT
    | {
        "byteSize": lambda source, _: len(_blob(source).data),
        "isBinary": _binary,
        "isTruncated": lambda source, _: len(_blob(source).data) > _TEXT_LIMIT,
        "text": _text,
    },
    "GitActor": attributes(email="person.email", name="person.name")
    | {"date": lambda source, _: render.timestamp(source.at), "user": _actor_user},
    "Ref": {
        **attributes(id="node_id", name="name", repository="repository"),
        "compare": _compare,
        "prefix": lambda _source, _info: HEADS,
        "target": lambda source, _: locate(source.repository, source.oid),
    },
    "Comparison": {
        "aheadBy": lambda source, _: len(source.ahead),
        "baseTarget": lambda source, _: locate(source.repository, source.base),
        "behindBy": lambda source, _: len(source.behind),
        "commits": _comparison_commits,
        "headTarget": lambda source, _: locate(source.repository, source.head),
        "id": lambda source, _: node_id("CMP", source.repository.id, source.base, source.head),
        "status": get("status"),
    },
}
