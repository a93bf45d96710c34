"""From bytes to a verified delivery."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from repo_guardian.errors import GuardianError
from repo_guardian.store.schema import Delivery, Disposition, Source
from repo_guardian.webhooks.delivery import (
    MAX_BODY_BYTES,
    RawRequest,
    check_headers,
    parse_delivery,
    parse_recovered,
    verify_signature,
)
from tests.support.deliveries import NOON, SECRET, body_of, payload, repository, signed


def parse(body: bytes, event: str = "repository") -> Delivery:
    """Parse `body`, signed well."""
    raw = RawRequest(signed(body, event=event, guid="guid-0001"), body, NOON, Source.FUNNEL)
    return parse_delivery(raw, [SECRET])


def refusal_of(headers: dict[str, str]) -> str:
    """The code with which the headers are refused."""
    with pytest.raises(GuardianError) as refused:
        check_headers(headers)
    return refused.value.code


def test_the_documented_vector_of_github_verifies() -> None:
    """The example of GitHub's documentation fits."""
    documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verify_signature(b"Hello, World!", documented, [b"It's a Secret to Everybody"])


@pytest.mark.parametrize(
    "signature", ["", "sha256=", "sha256=00", "nonsense", "sha256=\udcff\udcfe"]
)
def test_a_signature_that_does_not_fit_is_refused_without_an_exception(signature: str) -> None:
    """Whatever a stranger writes there is an answer, never a crash."""
    assert not verify_signature(b"body", signature, [SECRET])


def test_during_a_rotation_the_old_and_the_new_secret_both_verify() -> None:
    """Any of the secrets may have signed."""
    body = body_of(payload())
    header = signed(body, secret=b"old")["X-Hub-Signature-256"]
    assert verify_signature(body, header, [b"new", b"old"])


def test_without_a_secret_nothing_verifies() -> None:
    """No configured secret never means that everybody may come in."""
    assert not verify_signature(b"", signed(b"", secret=b"")["X-Hub-Signature-256"], [])


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("HEADER_MISSING", {"X-GitHub-Event": ""}),
        ("HEADER_MISSING", {"X-GitHub-Delivery": ""}),
        ("HEADER_INVALID", {"X-GitHub-Event": "Push!"}),
        ("HEADER_INVALID", {"X-GitHub-Delivery": "a b"}),
        ("HEADER_INVALID", {"X-GitHub-Delivery": "x" * 65}),
        ("CONTENT_TYPE_UNSUPPORTED", {"Content-Type": "application/x-www-form-urlencoded"}),
        ("CONTENT_TYPE_UNSUPPORTED", {"Content-Type": ""}),
        ("BODY_ENCODED", {"Content-Encoding": "gzip"}),
        ("BODY_TOO_LARGE", {"Content-Length": str(MAX_BODY_BYTES + 1)}),
    ],
)
def test_headers_that_no_delivery_has_are_refused(code: str, changes: dict[str, str]) -> None:
    """Each fault has its own code."""
    assert code == refusal_of({**signed(b"{}"), **changes})


def test_a_missing_signature_and_one_with_sha1_only_are_told_apart() -> None:
    """SHA-1 alone is not enough, and the refusal says so."""
    headers = signed(b"{}")
    del headers["X-Hub-Signature-256"]
    assert "SIGNATURE_MISSING" == refusal_of(headers)
    assert "SIGNATURE_SHA1_ONLY" == refusal_of({**headers, "X-Hub-Signature": "sha1=00"})


def test_a_content_type_with_a_charset_is_json_too() -> None:
    """Parameters of the content type do not matter."""
    check_headers({**signed(b"{}"), "Content-Type": "application/json; charset=utf-8"})


@pytest.mark.parametrize("body", [b"", b"not json", b"\xff\xfe", b'{"action": '])
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    """Even when it is signed well."""
    with pytest.raises(GuardianError) as refused:
        parse(body)
    assert "BODY_NOT_JSON" == refused.value.code


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"7",
        body_of(payload(repository=7)),
        body_of(payload(repository={"id": 1})),
        body_of(payload(repository=None) | {"repository": None}),
        body_of(payload(installation=None)),
        body_of(payload(installation={"id": 2**63})),
        body_of(payload(installation={"id": 0})),
    ],
)
def test_a_payload_that_lacks_what_its_event_always_has_is_refused(body: bytes) -> None:
    """The place is named, the value is not."""
    with pytest.raises(GuardianError) as refused:
        parse(body)
    assert "PAYLOAD_INVALID" == refused.value.code


def test_a_wrong_signature_is_refused_before_the_body_is_looked_at() -> None:
    """A stranger learns nothing about the body."""
    raw = RawRequest(signed(b"{", secret=b"other"), b"{", NOON, Source.FUNNEL)
    with pytest.raises(GuardianError) as refused:
        parse_delivery(raw, [SECRET])
    assert "SIGNATURE_INVALID" == refused.value.code


def test_a_delivery_carries_the_body_byte_for_byte() -> None:
    """What is stored is what was signed."""
    body = (
        b'{ "action":"created", "installation":{"id":7},\n "repository":'
        b'{"id":1,"node_id":"R_1","full_name":"acme/widgets"} }'
    )
    got = parse(body)
    assert body == got.payload
    assert (repository(),) == got.repositories
    assert Disposition.WORK is got.disposition


def test_an_unknown_event_is_a_delivery_that_means_no_work() -> None:
    """New events of GitHub are kept and ignored."""
    got = parse(body_of({"anything": 1}), event="meteor_shower")
    assert Disposition.IGNORED is got.disposition


@pytest.mark.parametrize("document", [{"repositories": ["a/b"], "ref": {}}, {"action": 7}])
def test_an_unknown_event_may_have_fields_of_any_type(document: dict[str, object]) -> None:
    """Nothing but a JSON object is asked of what means no work."""
    assert Disposition.IGNORED is parse(body_of(document), event="meteor_shower").disposition


def recovered(document: object, event: str = "repository") -> Delivery:
    """What becomes of a payload in GitHub's log."""
    return parse_recovered(
        document,
        guid="guid-0001",
        event=event,
        action="created",
        installation_id=7,
        received_at=NOON,
    )


def test_a_recovered_payload_means_what_the_webhook_would_have() -> None:
    """Only the bytes differ: GitHub's log gives the payload as JSON."""
    document = payload(description="gr\u00fc\u00df \U0001f680")
    got, sent = recovered(document), parse(body_of(document))
    assert replace(sent, payload=got.payload, source=Source.RECOVERED) == got
    assert document == json.loads(got.payload)
    assert b", " not in got.payload


def test_a_recovered_event_that_is_unknown_means_no_work() -> None:
    """As by webhook."""
    assert Disposition.IGNORED is recovered({"action": 7}, event="meteor_shower").disposition


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        payload(installation=None),
        payload(repository={"id": 1}),
    ],
)
def test_a_recovered_payload_that_cannot_be_read_is_kept_with_the_reason(document: object) -> None:
    """Nobody is there to refuse it to."""
    got = recovered(document)
    assert Disposition.UNREADABLE is got.disposition
    assert () == got.repositories
    assert got.problem.startswith("PAYLOAD_INVALID: ")
    assert document == json.loads(got.payload)


def test_half_a_character_in_a_recovered_payload_does_not_keep_it_from_being_read() -> None:
    """JSON may hold one, as where a text was cut; no database takes it."""
    got = recovered(payload(description="cut \ud83d"))
    assert ("cut ?", (repository(),)) == (json.loads(got.payload)["description"], got.repositories)


def test_a_push_settles_however_it_came() -> None:
    """A burst is looked at once."""
    document = payload(action=None, ref="refs/heads/main")
    assert 2.0 == recovered(document, "push").settle_s == parse(body_of(document), "push").settle_s
    assert 0.0 == parse(body_of(payload())).settle_s
