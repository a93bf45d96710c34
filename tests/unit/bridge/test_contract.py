"""The fixtures of tests/fixtures/bridge, which the Go tests read as well: both sides mean the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, cast

import pytest

from repo_guardian.bridge.protocol import (
    BridgeConfig,
    BridgeLimits,
    BridgeState,
    BridgeStatus,
    Heartbeat,
    Probing,
    WorkloadIdentity,
    parse_event,
    parse_status,
)
from repo_guardian.errors import GuardianError

FIXTURES = Path(__file__).parents[2] / "fixtures/bridge"


def load(name: str) -> list[dict[str, Any]]:
    """The cases of one fixture file."""
    return cast("list[dict[str, Any]]", json.loads((FIXTURES / name).read_text("utf-8")))


def config_of(document: dict[str, Any]) -> BridgeConfig:
    """The config whose start document this is."""
    given = {name: value for name, value in document.items() if name != "protocol"}
    for name in ("state_dir", "control_socket", "app_socket"):
        given[name] = Path(given[name])
    for name in ("tags", "tailnet_paths"):
        given[name] = tuple(given[name])
    given["identity"] = WorkloadIdentity(**given["identity"])
    given["probe"] = Probing(**given["probe"])
    given["limits"] = BridgeLimits(**given["limits"])
    return BridgeConfig(**given)


VALID = load("start_valid.json")


def is_like(value: Any, example: Any) -> bool:
    """Whether a document has the fields and types of an example; an int will do for a float."""
    if isinstance(example, dict):
        return (
            isinstance(value, dict)
            and value.keys() == example.keys()
            and all(is_like(value[name], example[name]) for name in example)
        )
    wanted = (int, float) if type(example) is float else (type(example),)
    return type(value) in wanted


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The first valid document with these values; `limits.x` names a limit."""
    document: dict[str, Any] = copy.deepcopy(VALID[0]["document"])
    for name, value in changes.items():
        outer, _, inner = name.rpartition(".")
        (document[outer] if outer else document)[inner] = value
    return document


#: What Python's types, and a document that is always whole, do not make impossible already.
INVALID = [
    {**case, "document": changed(case["set"])}
    for case in load("start_invalid.json")
    if case["code"] != "PROTOCOL_MISMATCH"
    and "set" in case
    and is_like(changed(case["set"]), VALID[0]["document"])
]


@pytest.mark.parametrize("case", VALID, ids=lambda case: case["name"])
def test_document_that_the_child_accepts_is_written_as_it_stands(case: dict[str, Any]) -> None:
    """Every field, the same names, the same values."""
    assert case["document"] == json.loads(config_of(case["document"]).to_stdin())


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case["name"])
def test_document_that_the_child_refuses_is_refused_before_it_starts(case: dict[str, Any]) -> None:
    """The same code, the field is named, the key is not told."""
    with pytest.raises(GuardianError) as caught:
        config_of(case["document"])

    assert case["code"] == caught.value.code
    for word in case["says"]:
        assert word in caught.value.message
    assert "kSECRET" not in str(caught.value)


def test_most_refusals_are_known_to_both_sides() -> None:
    """The selection above must not become empty when the fixtures change their form."""
    assert len(INVALID) >= 15


@pytest.mark.parametrize("case", load("status.json"), ids=lambda case: case["name"])
def test_status_of_the_child_loses_nothing_on_the_way(case: dict[str, Any]) -> None:
    """Read and written again it is the same document."""
    status = parse_status(json.dumps(case["document"]).encode())

    assert case["document"] == status.model_dump(mode="json")


def test_events_of_the_child_are_read_in_their_order() -> None:
    """A status, a heartbeat, a status."""
    lines = (FIXTURES / "events.ndjson").read_bytes().splitlines()
    first, second, third = (parse_event(line) for line in lines)

    assert isinstance(first, BridgeStatus)
    assert BridgeState.STARTING is first.state
    assert Heartbeat() == second
    assert isinstance(third, BridgeStatus)
    assert "https://repo-guardian.tail-box.ts.net/webhooks/github" == third.url


def test_events_of_a_newer_child_are_understood() -> None:
    """Unknown fields are ignored, an unknown kind is a sign of life."""
    lines = (FIXTURES / "events_newer.ndjson").read_bytes().splitlines()
    first, second = (parse_event(line) for line in lines)

    assert isinstance(first, BridgeStatus)
    assert BridgeState.READY is first.state
    assert Heartbeat() == second
