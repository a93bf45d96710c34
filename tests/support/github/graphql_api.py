"""Executing GraphQL on the schema subset; answers and errors have GitHub's shape (HTTP 200)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from graphql import (
    DocumentNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    execute_sync,
    parse,
    validate,
)

from tests.support.github import graphql_git, graphql_read, graphql_write
from tests.support.github.accounts import Account
from tests.support.github.graphql_context import Context, Located
from tests.support.github.problems import ApiProblem
from tests.support.github.pulls import PullRequest
from tests.support.github.render import Json
from tests.support.github.repository import Ref, Repository

_UNKNOWN_FIELD: Final = re.compile(r"^Cannot query field '(\w+)' on type '(\w+)'")


@dataclass(frozen=True, slots=True)
class Query:
    """A query text, read once: queries are few and repeat."""

    document: DocumentNode | None
    errors: tuple[GraphQLError, ...]
    #: The first operation's name and its top-level fields.
    name: str | None
    fields: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What a fault may call it."""
        return (self.name, *self.fields) if self.name else self.fields

    @property
    def label(self) -> str:
        """What the record of calls shows."""
        return self.name or ",".join(self.fields)


@functools.cache
def schema() -> GraphQLSchema:
    """The subset with its resolvers."""
    built = build_schema(Path(__file__).with_name("schema.graphql").read_text())
    for tables in (graphql_read.FIELDS, graphql_git.FIELDS, graphql_write.FIELDS):
        for type_name, fields in tables.items():
            found = built.type_map[type_name]
            assert isinstance(found, GraphQLObjectType)
            for name, resolver in fields.items():
                found.fields[name].resolve = resolver
    for each in built.type_map.values():
        if isinstance(each, GraphQLInterfaceType):
            each.resolve_type = _type_of
    return built


def _type_of(value: object, _info: GraphQLResolveInfo, _type: GraphQLAbstractType) -> str:
    if isinstance(value, Located):
        return value.type_name
    if isinstance(value, Account):
        return value.kind
    names = {Repository: "Repository", PullRequest: "PullRequest", Ref: "Ref"}
    return names.get(type(value), "GpgSignature")


@functools.lru_cache(maxsize=256)
def read(text: str) -> Query:
    """Parse and validate a query."""
    try:
        document = parse(text)
    except GraphQLError as error:
        return Query(None, (error,), None, ())
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    first = operations[0] if operations else None
    selected = first.selection_set.selections if first else ()
    fields = tuple(s.name.value for s in selected if hasattr(s, "name"))
    name = first.name.value if first and first.name else None
    return Query(document, tuple(validate(schema(), document)), name, fields)


def run(
    query: Query, context: Context, variables: Mapping[str, Any] | None, operation: str | None
) -> Json:
    """The whole answer body."""
    if query.errors or query.document is None:
        return {"errors": [_refused(error) for error in query.errors]}
    result = execute_sync(
        schema(),
        query.document,
        context_value=context,
        variable_values=dict(variables or {}),
        operation_name=operation,
    )
    body: Json = {"data": result.data}
    if result.errors:
        body["errors"] = [_failed(error) for error in result.errors]
    return body


def _refused(error: GraphQLError) -> Json:
    """A query that the schema does not allow."""
    shown: Json = {"locations": _locations(error), "message": error.message}
    unknown = _UNKNOWN_FIELD.match(error.message)
    if unknown:
        field, type_name = unknown.groups()
        shown["message"] = f"Field '{field}' doesn't exist on type '{type_name}'"
        shown["extensions"] = {
            "code": "undefinedField",
            "typeName": type_name,
            "fieldName": field,
        }
    return shown


def _failed(error: GraphQLError) -> Json:
    """A field without answer; anything but an ApiProblem is a mistake of the simulator."""
    cause = error.original_error
    shown: Json = {"path": error.path, "locations": _locations(error), "message": error.message}
    if isinstance(cause, ApiProblem):
        shown = {"type": cause.kind, **shown}
    elif cause is not None and not isinstance(cause, GraphQLError):
        raise cause
    return shown


def _locations(error: GraphQLError) -> list[dict[str, int]]:
    return [{"line": each.line, "column": each.column} for each in error.locations or ()]
