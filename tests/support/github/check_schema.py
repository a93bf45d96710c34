"""Compare schema.graphql with GitHub's own SDL. Run by hand, after every change to the subset:

npm pack @octokit/graphql-schema && tar xzf octokit-graphql-schema-*.tgz
python -m tests.support.github.check_schema package/schema.graphql
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
)

SUBSET: Final = Path(__file__).with_name("schema.graphql")


def differences(ours: GraphQLSchema, theirs: GraphQLSchema) -> Iterator[str]:
    """Everything in our schema that GitHub's has not, or has otherwise, one sentence each."""
    for name, mine in ours.type_map.items():
        if name.startswith("__"):
            continue
        real = theirs.type_map.get(name)
        if type(real) is not type(mine) or real is None:
            yield f"{name}: GitHub has no such {type(mine).__name__}"
        else:
            yield from _compare(mine, real)


def _compare(mine: GraphQLNamedType, real: GraphQLNamedType) -> Iterator[str]:
    if isinstance(mine, GraphQLEnumType) and isinstance(real, GraphQLEnumType):
        if set(mine.values) != set(real.values):
            yield f"{mine.name}: GitHub's values are {sorted(real.values)}"
    elif isinstance(mine, GraphQLInputObjectType) and isinstance(real, GraphQLInputObjectType):
        if set(mine.fields) != set(real.fields):
            yield f"{mine.name}: GitHub's fields are {sorted(real.fields)}"
        yield from _compare_inputs(mine.name, mine.fields, real.fields)
    elif isinstance(mine, GraphQLObjectType | GraphQLInterfaceType):
        assert isinstance(real, GraphQLObjectType | GraphQLInterfaceType)
        yield from _compare_fields(mine, real)


def _compare_fields(
    mine: GraphQLObjectType | GraphQLInterfaceType, real: GraphQLObjectType | GraphQLInterfaceType
) -> Iterator[str]:
    lost = {i.name for i in mine.interfaces} - {i.name for i in real.interfaces}
    if lost:
        yield f"{mine.name}: GitHub's does not implement {sorted(lost)}"
    for name, field in mine.fields.items():
        where = f"{mine.name}.{name}"
        if name not in real.fields:
            yield f"{where}: GitHub has no such field"
        elif str(field.type) != str(real.fields[name].type):
            yield f"{where}: GitHub's type is {real.fields[name].type}, ours {field.type}"
        else:
            yield from _compare_inputs(where, field.args, real.fields[name].args)


def _compare_inputs(
    where: str,
    mine: Mapping[str, GraphQLArgument] | Mapping[str, GraphQLInputField],
    real: Mapping[str, GraphQLArgument] | Mapping[str, GraphQLInputField],
) -> Iterator[str]:
    for name, argument in mine.items():
        if name not in real:
            yield f"{where}({name}): GitHub has no such argument"
            continue
        wanted = (str(real[name].type), real[name].default_value)
        if (str(argument.type), argument.default_value) != wanted:
            yield f"{where}({name}): GitHub's is {wanted[0]} = {wanted[1]!r}"


def main(path: str) -> int:
    """Print the differences; exit code 0 when there are none."""
    # GitHub's SDL defines some fields twice, so it cannot be asked to be valid
    theirs = build_schema(Path(path).read_text(), assume_valid_sdl=True, assume_valid=True)
    found = list(differences(build_schema(SUBSET.read_text()), theirs))
    print("\n".join(found) or f"{SUBSET.name} agrees with {path}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
