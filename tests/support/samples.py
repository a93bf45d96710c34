"""The sample payloads of every event that GitHub documents, and what may differ from them.

They are those of the npm package @octokit/webhooks-examples: of github.com and of the Enterprise
Servers that it knows. `make samples` fetches them; they are not ours, so they are never committed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from repo_guardian.errors import GuardianError

#: The Makefile reads it here.
VERSION: Final = "7.6.1"
FOLDER: Final = Path(__file__).resolve().parents[2] / "build" / f"webhooks-examples-{VERSION}"

Payload = dict[str, Any]
#: As webhooks of an enterprise carry it. https://docs.github.com/webhooks/webhook-events-and-payloads
_ENTERPRISE: Final[Payload] = {
    "id": 1,
    "slug": "github",
    "name": "GitHub",
    "node_id": "E_kgAB",
    "avatar_url": "https://avatars.githubusercontent.com/b/1?v=4",
    "description": None,
    "website_url": None,
    "html_url": "https://github.com/enterprises/github",
    "created_at": "2019-05-14T19:31:12Z",
    "updated_at": "2019-05-14T19:31:12Z",
}
_UNKNOWN: Final[Payload] = {
    "invented_later": {"deep": [1, None, {"ß": "\U0001f600"}], "null": None}
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One payload and the event (`X-GitHub-Event`) that it is of."""

    event: str
    payload: Payload = field(repr=False)
    #: For the id of a test, such as `api.github.com/push/2 sender null`.
    name: str

    @property
    def body(self) -> bytes:
        """The payload as GitHub puts it on the wire."""
        return json.dumps(self.payload, separators=(",", ":"), ensure_ascii=False).encode()

    def changed(self, how: str, payload: Payload) -> Sample:
        """Another payload of the same event; `how` says what is different."""
        return Sample(self.event, payload, f"{self.name} {how}")


def load_samples(folder: Path = FOLDER) -> list[Sample]:
    """Every sample, github.com's first, then those of Enterprise Servers, oldest first.

    Raises:
        GuardianError: SAMPLES_NOT_FETCHED, which names the make target.
    """
    files = sorted(folder.glob("*/index.json"))
    if not files:
        raise GuardianError(
            "SAMPLES_NOT_FETCHED",
            f"GitHub's sample payloads are not in {folder}",
            hint="make samples",
        )
    return [sample for file in files for sample in _of_file(file)]


def _of_file(file: Path) -> Iterator[Sample]:
    for event in json.loads(file.read_bytes()):
        for number, payload in enumerate(event["examples"], start=1):
            yield Sample(event["name"], payload, f"{file.parent.name}/{event['name']}/{number}")


def first_of_each_event(samples: list[Sample]) -> list[Sample]:
    """One sample for each event name, for tests where all would take long."""
    return list({each.event: each for each in reversed(samples)}.values())[::-1]


def variants(sample: Sample) -> Iterator[Sample]:
    """What GitHub may send instead: fields that are new, missing, or null, and an enterprise.

    Each has one difference: a receiver that needs more than it should fails for one of them.
    """
    whole = sample.payload
    yield sample.changed("with unknown fields", _with_unknown(whole))
    yield sample.changed("with enterprise", {**whole, "enterprise": _ENTERPRISE})
    yield sample.changed("sender null", {**whole, "sender": None})
    for name in whole:
        yield sample.changed(f"without {name}", _without(whole, name))
        yield sample.changed(f"{name} null", {**whole, name: None})


def as_enterprise_server(sample: Sample, host: str = "github.example.com") -> Sample:
    """The same from an Enterprise Server: its own host in every URL, and its enterprise."""
    text = json.dumps({**sample.payload, "enterprise": _ENTERPRISE})
    for theirs, own in (
        ("https://api.github.com/", f"https://{host}/api/v3/"),
        ("https://github.com/", f"https://{host}/"),
        ("git://github.com/", f"git://{host}/"),
        ("git@github.com:", f"git@{host}:"),
    ):
        text = text.replace(theirs, own)
    return sample.changed("as GHES", json.loads(text))


def _with_unknown(value: Any) -> Any:
    """A copy with an invented field in every object, however deep."""
    if isinstance(value, dict):
        return {name: _with_unknown(each) for name, each in value.items()} | _UNKNOWN
    if isinstance(value, list):
        return [_with_unknown(each) for each in value]
    return value


def _without(whole: Payload, name: str) -> Payload:
    return {each: value for each, value in whole.items() if each != name}
