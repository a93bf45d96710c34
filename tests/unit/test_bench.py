"""What the benchmark of durable accept sends and how it reads answers: it must measure what it says."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from repo_guardian.store.schema import Source
from repo_guardian.webhooks.delivery import RawRequest, check_headers, parse_delivery
from tests.bench import pushes
from tests.bench.callers import is_whole
from tests.bench.sampling import LOOP_RULES, Rule


def received(request: bytes) -> RawRequest:
    """The request as a server reads it."""
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return RawRequest(headers, body, datetime.now(UTC), Source.LOCAL)


def test_every_request_is_a_signed_push_that_means_work_and_a_guid_of_its_own() -> None:
    """What is sent takes the whole way through the handler."""
    raws = [received(each) for each in islice(pushes.requests(), pushes.REPOSITORIES + 1)]
    for raw in raws:
        check_headers(raw.headers)
        assert 10_000 == pytest.approx(len(raw.body), rel=0.1)
        assert str(len(raw.body)) == raw.headers["Content-Length"]
    deliveries = [parse_delivery(raw, (pushes.SECRET,)) for raw in raws]
    assert len(raws) == len({delivery.guid for delivery in deliveries})
    assert {1} == {len(delivery.repositories) for delivery in deliveries}
    assert pushes.REPOSITORIES == len({delivery.repositories for delivery in deliveries})


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", True),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length:0\r\nX: y\r\n\r\n", True),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{", False),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n", False),
    ],
)
def test_an_answer_is_whole_with_its_last_byte(answer: bytes, *, whole: bool) -> None:
    """Half an answer is not counted as one."""
    assert whole is is_whole(answer)


def test_a_frame_belongs_to_the_first_rule_that_fits() -> None:
    """The signature is told from the rest of its file."""
    place = ("/x/repo_guardian/webhooks/delivery.py", "verify_signature")
    assert "signature" == next(rule.part for rule in LOOP_RULES if rule.fits(place))
    assert not Rule("signature", "webhooks/delivery.py", "verify_signature").fits(
        ("/x/repo_guardian/webhooks/delivery.py", "parse_delivery")
    )
