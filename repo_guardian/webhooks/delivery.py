"""From the bytes of a request, or from GitHub's log, to a `Delivery` (pure)."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError
from pydantic_core import from_json

from repo_guardian.errors import GuardianError
from repo_guardian.store.schema import Delivery, Source
from repo_guardian.webhooks.routing import ROUTES, Payload, route

#: GitHub never sends more: https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap
MAX_BODY_BYTES = 25 * 1024 * 1024

_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}")
_GUID = re.compile(r"[A-Za-z0-9-]{8,64}")


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A webhook POST as it came in; nothing of it is trusted yet.

    Attributes:
        headers: case-insensitive.
        received_at: aware UTC time.
    """

    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    source: Source


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what cannot be a delivery before its body is read.

    Raises:
        GuardianError: HEADER_MISSING, HEADER_INVALID, CONTENT_TYPE_UNSUPPORTED, BODY_ENCODED,
            SIGNATURE_MISSING, SIGNATURE_SHA1_ONLY or BODY_TOO_LARGE.
    """
    for name, form in (("X-GitHub-Event", _EVENT), ("X-GitHub-Delivery", _GUID)):
        value = headers.get(name)
        if not value:
            raise GuardianError("HEADER_MISSING", f"the header {name} is missing")
        if not form.fullmatch(value):
            raise GuardianError("HEADER_INVALID", f"the header {name} is not one that GitHub sends")
    if "X-Hub-Signature-256" not in headers:
        raise _unsigned(headers)
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise GuardianError(
            "CONTENT_TYPE_UNSUPPORTED",
            "expected Content-Type application/json",
            hint="set the webhook's content type to application/json on the App's settings page",
        )
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise GuardianError(
            "BODY_ENCODED", "the body is compressed, which GitHub never does; expected it as it is"
        )
    length = headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise body_too_large()


def parse_delivery(raw: RawRequest, secrets: Sequence[bytes]) -> Delivery:
    """Verify the signature, then read the envelope.

    Args:
        raw: a request whose headers passed `check_headers`.
        secrets: any of them may have signed (rotation).

    Raises:
        GuardianError: SIGNATURE_INVALID, BODY_NOT_JSON or PAYLOAD_INVALID.
    """
    if not verify_signature(raw.body, raw.headers["X-Hub-Signature-256"], secrets):
        raise GuardianError(
            "SIGNATURE_INVALID",
            "the signature does not fit the body and our secret",
            hint="GITHUB_WEBHOOK_SECRET must equal the webhook secret on the App's settings page",
        )
    event = raw.headers["X-GitHub-Event"]
    payload = _parse_payload(raw.body, event)
    meaning = route(event, payload)
    return Delivery(
        guid=raw.headers["X-GitHub-Delivery"],
        event=event,
        action=payload.action,
        installation_id=payload.installation.id if payload.installation else None,
        repositories=meaning.repositories,
        payload=raw.body,
        received_at=raw.received_at,
        source=raw.source,
        settle_s=meaning.settle_s,
        all_repositories=meaning.all_repositories,
    )


def parse_recovered(
    document: object,
    *,
    guid: str,
    event: str,
    action: str | None,
    installation_id: int | None,
    received_at: datetime,
) -> Delivery:
    """Read a payload of GitHub's log, which came over TLS from GitHub and has no signature.

    One that cannot be read becomes a delivery with a `problem`: nobody is there to refuse it to.

    Args:
        document: the payload, parsed; the bytes that were signed are not to be had.
        guid: of the log's entry, as are the next three.
        received_at: aware UTC time.
    """
    # Half a surrogate pair is JSON, but no text that a database takes.
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    whole = Delivery(
        guid=guid,
        event=event,
        action=action,
        installation_id=installation_id,
        repositories=(),
        payload=text.encode(errors="replace"),
        received_at=received_at,
        source=Source.RECOVERED,
    )
    try:
        meaning = route(event, _parse_payload(whole.payload, event))
    except GuardianError as unreadable:
        return replace(whole, problem=f"{unreadable.code}: {unreadable.message}")
    return replace(
        whole,
        repositories=meaning.repositories,
        settle_s=meaning.settle_s,
        all_repositories=meaning.all_repositories,
    )


def verify_signature(body: bytes, signature: str, secrets: Sequence[bytes]) -> bool:
    """Whether `X-Hub-Signature-256` fits the body, in constant time.

    Source: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """
    # aiohttp keeps bytes that are not UTF-8 as surrogates; compare_digest takes no such text.
    given = signature.encode("utf-8", "surrogateescape")
    fits = False
    for secret in secrets:
        wanted = b"sha256=" + hmac.digest(secret, body, "sha256").hex().encode()
        fits |= hmac.compare_digest(wanted, given)
    return fits


def body_too_large() -> GuardianError:
    """The refusal of a body over GitHub's own cap."""
    return GuardianError("BODY_TOO_LARGE", f"the body has more than {MAX_BODY_BYTES} bytes")


def _unsigned(headers: Mapping[str, str]) -> GuardianError:
    if "X-Hub-Signature" in headers:
        return GuardianError(
            "SIGNATURE_SHA1_ONLY", "only a SHA-1 signature was given; expected X-Hub-Signature-256"
        )
    return GuardianError(
        "SIGNATURE_MISSING",
        "the header X-Hub-Signature-256 is missing",
        hint="set a webhook secret on the App's settings page, the same as GITHUB_WEBHOOK_SECRET",
    )


def _parse_payload(body: bytes, event: str) -> Payload:
    """Read the envelope; of an event that means no work nothing but JSON is asked."""
    try:
        if event in ROUTES:
            return Payload.model_validate_json(body)
        return _payload_of_any_event(from_json(body))
    except ValueError as not_json:
        if not isinstance(not_json, ValidationError):
            raise GuardianError("BODY_NOT_JSON", "the body is not JSON") from not_json
        raise _invalid_payload(not_json) from not_json


def _payload_of_any_event(document: object) -> Payload:
    if not isinstance(document, dict):
        raise GuardianError("PAYLOAD_INVALID", "the payload is not a JSON object")
    action = document.get("action")
    return Payload(action=action if isinstance(action, str) else None)


def _invalid_payload(invalid: ValidationError) -> GuardianError:
    first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return GuardianError("BODY_NOT_JSON", "the body is not JSON")
    place = ".".join(str(part) for part in first["loc"]) or "the payload"
    return GuardianError("PAYLOAD_INVALID", f"{place}: {first['msg']}")
