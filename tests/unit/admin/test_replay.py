from __future__ import annotations

import pytest

from repo_guardian.admin.replay import repositories_of
from repo_guardian.errors import GuardianError
from repo_guardian.store.schema import DeliveryStatus
from tests.support.deliveries import body_of, payload, repository
from tests.unit.admin.values import stored


def test_a_payload_is_routed_by_today_s_rules() -> None:
    """Whatever it meant when it came."""
    assert (repository(),) == repositories_of(
        stored(body_of(payload()), 5, status=DeliveryStatus.UNREADABLE)
    )
    assert () == repositories_of(stored(body_of(payload(action="deleted")), 5))


def test_without_a_payload_the_repositories_that_were_kept_are_meant() -> None:
    """By their numbers; none when the delivery was no work."""
    assert (5, 6) == repositories_of(stored(None, 5, 6))
    assert () == repositories_of(stored(None, status=DeliveryStatus.IGNORED))


def test_without_both_nobody_knows_what_it_meant() -> None:
    """An unreadable delivery that was pruned."""
    with pytest.raises(GuardianError) as caught:
        repositories_of(stored(None, status=DeliveryStatus.UNREADABLE))
    assert "DELIVERY_PRUNED" == caught.value.code


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"action":"created"}'])
def test_a_payload_that_cannot_be_read_says_why(body: bytes) -> None:
    """In one sentence."""
    with pytest.raises(GuardianError) as caught:
        repositories_of(stored(body))
    assert "PAYLOAD_INVALID" == caught.value.code
