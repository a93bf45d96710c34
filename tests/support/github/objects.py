"""Git objects with true object ids (SHA-1 of `<type> <size>\\0<content>`): blobs, trees, commits.

Pure values and one content-addressed store. A fork shares its parent's store, as on GitHub.
Format: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

ZERO_OID = "0" * 40
FILE_MODE = 0o100644
TREE_MODE = 0o40000


@dataclass(frozen=True, slots=True)
class Person:
    """Who wrote or committed; `login` names the GitHub user behind the address, None for a bot."""

    name: str
    email: str
    login: str | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """The content of one file."""

    oid: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree; `oid` is that of a blob or, when `mode` is TREE_MODE, of another tree."""

    name: str
    mode: int
    oid: str

    @property
    def is_tree(self) -> bool:
        """True for a folder."""
        return self.mode == TREE_MODE


@dataclass(frozen=True, slots=True)
class Tree:
    """One folder."""

    oid: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit; `signed_by_github` is the "Verified" mark of commits that GitHub makes."""

    oid: str
    tree_oid: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    committed_at: datetime
    message: str
    signed_by_github: bool

    @property
    def headline(self) -> str:
        """First line of the message."""
        return self.message.partition("\n")[0]


GitObject = Blob | Tree | Commit
#: Every file of a tree: path -> entry whose `name` is the path.
Listing = Mapping[str, Entry]


def object_oid(kind: str, content: bytes) -> str:
    """The id git gives to an object, for example `object_oid("blob", b"hello\\n")`."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


@dataclass(slots=True)
class ObjectStore:
    """All objects of one fork network, by oid."""

    objects: dict[str, GitObject] = field(default_factory=dict)
    #: Trees never change, so their flat listing is worked out once.
    _listings: dict[str, Listing] = field(default_factory=dict)

    def blob(self, oid: str) -> Blob:
        """The blob with this oid; raises KeyError for another kind or an unknown oid."""
        found = self.objects[oid]
        if not isinstance(found, Blob):
            raise KeyError(oid)
        return found

    def tree(self, oid: str) -> Tree:
        """The tree with this oid; raises KeyError for another kind or an unknown oid."""
        found = self.objects[oid]
        if not isinstance(found, Tree):
            raise KeyError(oid)
        return found

    def commit(self, oid: str) -> Commit:
        """The commit with this oid; raises KeyError for another kind or an unknown oid."""
        found = self.objects[oid]
        if not isinstance(found, Commit):
            raise KeyError(oid)
        return found

    def add_blob(self, data: bytes) -> str:
        """Store a file's content and return its oid."""
        oid = object_oid("blob", data)
        self.objects.setdefault(oid, Blob(oid, data))
        return oid

    def add_files(self, base_tree_oid: str | None, changes: Mapping[str, bytes | None]) -> str:
        """Store the tree after writing (bytes) and removing (None) files; returns its oid."""
        files = dict(self.listing(base_tree_oid)) if base_tree_oid else {}
        for path, data in changes.items():
            if data is None:
                files.pop(path, None)
            else:
                mode = files[path].mode if path in files else FILE_MODE
                files[path] = Entry(path, mode, self.add_blob(data))
        return self._add_tree(files)

    def _add_tree(self, files: Listing) -> str:
        entries: dict[str, Entry] = {}
        folders: dict[str, dict[str, Entry]] = {}
        for path, entry in files.items():
            head, slash, rest = path.partition("/")
            if slash:
                folders.setdefault(head, {})[rest] = entry
            else:
                entries[head] = Entry(head, entry.mode, entry.oid)
        for name, below in folders.items():
            entries[name] = Entry(name, TREE_MODE, self._add_tree(below))
        # git sorts a folder as if its name ended in a slash
        ordered = sorted(entries.values(), key=lambda e: e.name + "/" if e.is_tree else e.name)
        content = b"".join(
            f"{entry.mode:o} {entry.name}".encode() + b"\0" + bytes.fromhex(entry.oid)
            for entry in ordered
        )
        oid = object_oid("tree", content)
        self.objects.setdefault(oid, Tree(oid, tuple(ordered)))
        return oid

    def add_commit(
        self,
        *,
        tree_oid: str,
        parents: tuple[str, ...],
        author: Person,
        committer: Person,
        at: datetime,
        message: str,
        signed_by_github: bool,
    ) -> Commit:
        """Store a commit; `at` is an aware time, used for author and committer."""
        lines = [f"tree {tree_oid}", *(f"parent {oid}" for oid in parents)]
        stamp = f"{int(at.timestamp())} +0000"
        lines.append(f"author {author.name} <{author.email}> {stamp}")
        lines.append(f"committer {committer.name} <{committer.email}> {stamp}")
        oid = object_oid("commit", ("\n".join(lines) + f"\n\n{message}").encode())
        commit = Commit(oid, tree_oid, parents, author, committer, at, message, signed_by_github)
        self.objects[oid] = commit
        return commit

    def listing(self, tree_oid: str) -> Listing:
        """Every file below a tree."""
        if tree_oid not in self._listings:
            self._listings[tree_oid] = dict(self._walk(tree_oid, ""))
        return self._listings[tree_oid]

    def _walk(self, tree_oid: str, prefix: str) -> Iterator[tuple[str, Entry]]:
        for entry in self.tree(tree_oid).entries:
            path = prefix + entry.name
            if entry.is_tree:
                yield from self._walk(entry.oid, path + "/")
            else:
                yield path, Entry(path, entry.mode, entry.oid)

    def at_path(self, tree_oid: str, path: str) -> GitObject | None:
        """The blob or tree at a path, or None; the empty path is the tree itself."""
        found: GitObject = self.tree(tree_oid)
        for name in filter(None, path.split("/")):
            if not isinstance(found, Tree):
                return None
            oid = next((entry.oid for entry in found.entries if entry.name == name), None)
            if oid is None:
                return None
            found = self.objects[oid]
        return found
