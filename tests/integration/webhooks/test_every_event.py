"""Every sample payload that GitHub documents can be recorded, in today's shape and in older ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from repo_guardian.errors import GuardianError
from repo_guardian.store.inbox import Inbox
from repo_guardian.store.schema import Delivery, Recorded, Source
from repo_guardian.store.sqlite import SqliteEngine
from repo_guardian.webhooks.delivery import RawRequest, check_headers, parse_delivery
from repo_guardian.webhooks.routing import ROUTES
from tests.support.deliveries import SECRET, signed
from tests.support.samples import Sample, as_enterprise_server, load_samples, variants


def to_an_app(sample: Sample) -> Sample:
    """As an App is sent it: with its installation, which samples of repository hooks lack."""
    payload: dict[str, Any] = {"installation": {"id": 7, "node_id": "MDIz"}, **sample.payload}
    return replace(sample, payload=payload)


def parse(sample: Sample, guid: str = "guid-0001") -> Delivery:
    """What the handler makes of it."""
    headers = signed(sample.body, event=sample.event, guid=guid)
    check_headers(headers)
    return parse_delivery(
        RawRequest(headers, sample.body, datetime.now(UTC), Source.LOCAL), [SECRET]
    )


def every_shape() -> Iterator[Sample]:
    """Each sample as it is, as an Enterprise Server sends it, and each with a field more or less."""
    for sample in map(to_an_app, load_samples()):
        yield sample
        yield as_enterprise_server(sample)
        yield from variants(sample)


async def test_every_sample_of_every_event_is_recorded(engine: SqliteEngine) -> None:
    """Events that mean no work too: unknown is not wrong."""
    inbox = Inbox(engine)
    samples = [to_an_app(each) for each in load_samples()]
    recorded = {
        f"guid-{number:04}": await inbox.record(parse(sample, f"guid-{number:04}"))
        for number, sample in enumerate(samples)
    }
    assert {Recorded.NEW, Recorded.IGNORED} == set(recorded.values())
    assert set() == await inbox.missing(recorded)
    assert len({each.event for each in samples}) > 50


def test_no_field_more_or_less_is_more_than_a_clear_refusal() -> None:
    """Only an event that means work, and lacks what says where, is refused: PAYLOAD_INVALID."""
    refused = set[tuple[str, str]]()
    shapes = 0
    for sample in every_shape():
        shapes += 1
        try:
            parse(sample)
        except GuardianError as error:
            refused.add((error.code, sample.event))
    assert refused <= {("PAYLOAD_INVALID", event) for event in ROUTES}
    assert shapes > 5000


@pytest.mark.parametrize("event", sorted(ROUTES))
def test_a_repositorys_own_hook_is_told_apart(event: str) -> None:
    """What has no installation is not an App's: the hint says so."""
    work = [
        each
        for each in map(to_an_app, load_samples())
        if each.event == event and parse(each).repositories
    ]
    for sample in work:
        bare = {name: value for name, value in sample.payload.items() if name != "installation"}
        with pytest.raises(GuardianError) as refused:
            parse(replace(sample, payload=bare))
        assert "PAYLOAD_INVALID" == refused.value.code
