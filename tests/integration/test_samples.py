"""GitHub's sample payloads: all are there, and each variant has one difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repo_guardian.errors import GuardianError
from tests.support.samples import (
    Sample,
    as_enterprise_server,
    first_of_each_event,
    load_samples,
    variants,
)


def test_every_documented_event_has_a_sample() -> None:
    """Those that we act on, those that we do not, and those of Enterprise Servers."""
    samples = load_samples()
    assert len(samples) > 600
    assert {"installation", "installation_repositories", "ping", "push", "repository"} < {
        each.event for each in samples
    }
    assert {"api.github.com", "ghes-35"} < {each.name.partition("/")[0] for each in samples}
    assert len(samples) == len({each.name for each in samples})
    events = [each.event for each in first_of_each_event(samples)]
    assert len(events) == len(set(events)) > 50
    assert samples[0].name.startswith("api.github.com/")


def test_without_the_samples_the_make_target_is_named(tmp_path: Path) -> None:
    """A person who runs pytest by hand is told what to do."""
    with pytest.raises(GuardianError) as error:
        load_samples(tmp_path)
    assert ("SAMPLES_NOT_FETCHED", "make samples") == (error.value.code, error.value.hint)


def test_each_variant_has_one_difference() -> None:
    """The sample itself stays as it is."""
    payload = {"action": "created", "sender": {"id": 1}, "list": [{"id": 2}]}
    sample = Sample("star", payload, "here/star/1")
    found = {each.name.removeprefix("here/star/1 "): each.payload for each in variants(sample)}
    assert {"action": "created", "sender": None, "list": [{"id": 2}]} == found["sender null"]
    assert {"action": "created", "sender": {"id": 1}} == found["without list"]
    assert {"action": None, "sender": {"id": 1}, "list": [{"id": 2}]} == found["action null"]
    assert {"enterprise", *payload} == found["with enterprise"].keys()
    unknown = found["with unknown fields"]
    assert {"invented_later"} == unknown.keys() - payload.keys()
    assert "invented_later" in unknown["sender"] and "invented_later" in unknown["list"][0]
    assert {"action": "created", "sender": {"id": 1}, "list": [{"id": 2}]} == sample.payload
    assert {"star"} == {each.event for each in variants(sample)}


def test_an_enterprise_server_has_its_own_host() -> None:
    """No URL of github.com is left in the payload of a push."""
    push = next(each for each in load_samples() if each.event == "push")
    text = as_enterprise_server(push, "ghe.test").body.decode()
    assert "https://ghe.test/api/v3/repos/" in text
    assert "//github.com" not in text and "api.github.com" not in text
    assert "enterprise" in json.loads(text)
