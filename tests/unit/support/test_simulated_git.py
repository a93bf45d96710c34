"""The pure half of the simulated GitHub: git objects, history, node ids, pages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.github import history
from tests.support.github.connections import connection
from tests.support.github.ids import node_id, parse_node_id
from tests.support.github.objects import Commit, ObjectStore, Person, Tree, object_oid
from tests.support.github.problems import ApiProblem

ALICE = Person("alice", "alice@example.com", "alice")


def commit(store: ObjectStore, files: dict[str, bytes], *parents: str) -> Commit:
    """A commit that holds exactly these files."""
    return store.add_commit(
        tree_oid=store.add_files(None, files),
        parents=parents,
        author=ALICE,
        committer=ALICE,
        at=datetime(2026, 11, 23, tzinfo=UTC),
        message="m",
        signed_by_github=False,
    )


@pytest.mark.parametrize(
    ("expected", "kind", "content"),
    [
        ("ce013625030ba8dba906f756967f9e9ca394464a", "blob", b"hello\n"),
        ("4b825dc642cb6eb9a060e54bf8d69288fbee4904", "tree", b""),
    ],
)
def test_object_ids_are_those_that_git_prints(expected: str, kind: str, content: bytes) -> None:
    """Known from `git hash-object` and from git's own empty tree."""
    assert expected == object_oid(kind, content)


def test_a_tree_is_sorted_as_git_sorts_it() -> None:
    """The oid of a tree with `a/`, `a.b/`, `a0` is what `git write-tree` prints."""
    store = ObjectStore()
    oid = store.add_files(None, {"a/x": b"1", "a.b/x": b"1", "a0": b"1"})
    assert ["a.b", "a", "a0"] == [entry.name for entry in store.tree(oid).entries]
    assert "f05abbfbafbda46018fca157ea3c4105dbb505f0" == oid


def test_writing_and_removing_files_keeps_the_others() -> None:
    """A folder that lost its last file is gone."""
    store = ObjectStore()
    first = store.add_files(None, {"README.md": b"hello", "docs/a.md": b"a"})
    second = store.add_files(first, {"docs/a.md": None, "b": b"b"})
    assert {"README.md", "b"} == set(store.listing(second))
    assert store.at_path(second, "docs") is None
    assert isinstance(store.at_path(first, "docs"), Tree)


def test_the_merge_base_is_the_nearest_common_commit() -> None:
    """Two branches of one root; commits and changes are counted from where they part."""
    store = ObjectStore()
    root = commit(store, {"a": b"1\n"})
    ours = commit(store, {"a": b"1\n", "b": b"2\n"}, root.oid)
    theirs = commit(store, {"a": b"3\n"}, root.oid)
    assert root.oid == history.merge_base(store, ours.oid, theirs.oid)
    assert [ours] == history.commits_between(store, theirs.oid, ours.oid)
    [change] = history.changes_between(store, root.oid, ours.oid)
    assert ("b", "ADDED", 1, 0) == (
        change.path,
        change.change_type,
        change.additions,
        change.deletions,
    )
    assert history.is_ancestor(store, root.oid, of=ours.oid)
    assert not history.is_ancestor(store, theirs.oid, of=ours.oid)


@pytest.mark.parametrize(
    ("expected", "before", "after"),
    [
        ("--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n", None, b"x\n"),
        ("--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", b"x\n", None),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n+y\n\\ No newline at end of file\n", b"x\n", b"y"),
    ],
)
def test_a_change_is_shown_as_git_shows_it(
    expected: str, before: bytes | None, after: bytes | None
) -> None:
    """A unified diff that `git apply` takes."""
    shown = history.FileChange("f", before, after).diff()
    assert f"diff --git a/f b/f\n{expected}" == shown


def test_a_node_id_looks_like_those_of_github_and_is_read_back() -> None:
    """`R_kgDO…` for a repository; what was not made here is refused."""
    assert node_id("R", 186853261).startswith("R_kgDO")
    assert ("REF", [7, "refs/heads/main"]) == parse_node_id(node_id("REF", 7, "refs/heads/main"))
    for foreign in ("", "R_", "R_kgDO", "MDEwOlJlcG9zaXRvcnkx", "R_####"):
        with pytest.raises(ValueError, match="not a node id"):
            parse_node_id(foreign)


def test_a_connection_is_read_page_by_page() -> None:
    """`after` takes the cursor of the page before; totals stay the same."""
    seen: list[object] = []
    after: str | None = None
    while True:
        page = connection("things", range(5), show=str, first=2, after=after)
        info = page["pageInfo"]
        assert isinstance(info, dict) and isinstance(page["nodes"], list)
        seen += page["nodes"]
        assert 5 == page["totalCount"]
        after = info["endCursor"]
        if not info["hasNextPage"]:
            break
    assert ["0", "1", "2", "3", "4"] == seen
    assert ["3", "4"] == connection("things", range(5), show=str, last=2)["nodes"]


@pytest.mark.parametrize(
    ("expected", "first"),
    [("MISSING_PAGINATION_BOUNDARIES", None), ("EXCESSIVE_PAGINATION", 101)],
)
def test_a_connection_without_sensible_bounds_is_refused(expected: str, first: int | None) -> None:
    """GitHub wants `first` or `last`, and no more than 100."""
    with pytest.raises(ApiProblem) as caught:
        connection("things", range(5), show=str, first=first)
    assert expected == caught.value.kind
