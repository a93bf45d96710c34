"""What one process at a time does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from repo_guardian.store.duties import Duties, Duty, ask_again
from tests.integration.store.conftest import AnyEngine

HOLD_S = 60.0


def pair(engine: AnyEngine) -> tuple[Duties, Duties]:
    """Two processes."""
    return Duties(engine, "mine"), Duties(engine, "theirs")


async def test_a_duty_is_held_by_one_at_a_time(engine: AnyEngine) -> None:
    """Until it is given back; whoever holds it may take it again."""
    mine, theirs = pair(engine)
    assert Duty("recovery", "", None, None) == await mine.take("recovery", hold_s=HOLD_S)
    assert await theirs.take("recovery", hold_s=HOLD_S) is None
    assert await mine.take("recovery", hold_s=HOLD_S) is not None
    assert not await theirs.release("recovery")
    assert await mine.release("recovery")
    assert await theirs.take("recovery", hold_s=HOLD_S) is not None
    assert await mine.take("recovery", hold_s=HOLD_S) is None
    assert await mine.take("another", hold_s=HOLD_S) is not None


async def test_of_many_who_take_it_together_one_gets_it(engine: AnyEngine) -> None:
    """Also when nobody ever held it."""
    owners = [Duties(engine, f"owner-{n}") for n in range(8)]
    taken = await asyncio.gather(*(each.take("recovery", hold_s=HOLD_S) for each in owners))
    assert 1 == sum(each is not None for each in taken)


async def test_a_hold_runs_out_and_its_owner_is_fenced(engine: AnyEngine) -> None:
    """A process that was stuck changes nothing any more, and is told so."""
    mine, theirs = pair(engine)
    await mine.take("recovery", hold_s=HOLD_S)
    assert await mine.save("recovery", "page-1", hold_s=HOLD_S)
    engine.clock.go_ahead(HOLD_S / 2)
    assert await theirs.take("recovery", hold_s=HOLD_S) is None
    engine.clock.go_ahead(HOLD_S / 2 + 1)
    taken = await theirs.take("recovery", hold_s=HOLD_S)
    assert taken is not None and "page-1" == taken.cursor
    assert not await mine.save("recovery", "page-2", hold_s=HOLD_S)
    assert not await mine.finish("recovery", "page-2")
    assert not await mine.release("recovery")
    assert await theirs.save("recovery", "page-3", hold_s=HOLD_S)
    found = await mine.look("recovery")
    assert found is not None and ("page-3", None) == (found.cursor, found.done_at)


async def test_saving_keeps_the_hold(engine: AnyEngine) -> None:
    """A long duty goes on for as long as it gets on."""
    mine, theirs = pair(engine)
    await mine.take("recovery", hold_s=HOLD_S)
    for number in range(3):
        engine.clock.go_ahead(HOLD_S - 1)
        assert await theirs.take("recovery", hold_s=HOLD_S) is None
        assert await mine.save("recovery", f"page-{number}", hold_s=HOLD_S)


async def test_what_is_done_is_not_done_again_too_soon(engine: AnyEngine) -> None:
    """By nobody, and with the cursor where it was; a release is no finish."""
    mine, theirs = pair(engine)
    await mine.take("schedule", hold_s=HOLD_S)
    assert await mine.finish("schedule", "all")
    for each in (mine, theirs):
        assert await each.take("schedule", hold_s=HOLD_S, unless_done_s=600.0) is None
    engine.clock.go_ahead(601.0)
    taken = await theirs.take("schedule", hold_s=HOLD_S, unless_done_s=600.0)
    assert taken is not None and "all" == taken.cursor
    assert taken.done_s is not None and 601.0 <= taken.done_s < 620.0
    await theirs.release("schedule")
    assert await mine.take("schedule", hold_s=HOLD_S, unless_done_s=600.0) is not None
    assert await mine.finish("schedule")
    found = await mine.look("schedule")
    assert found is not None and "all" == found.cursor


async def test_a_person_may_ask_for_it_at_any_time(engine: AnyEngine) -> None:
    """Without `unless_done_s` nobody asks when it was done."""
    mine, theirs = pair(engine)
    await mine.take("schedule", hold_s=HOLD_S)
    await mine.finish("schedule")
    assert await theirs.take("schedule", hold_s=HOLD_S) is not None


async def test_what_was_done_can_be_asked_for_again(engine: AnyEngine) -> None:
    """An event says that everything may have changed: the next who looks does it."""
    mine, _ = pair(engine)
    await mine.take("schedule", hold_s=HOLD_S)
    await mine.finish("schedule", "all")
    await engine.transact(lambda c: ask_again(c, "schedule"))
    taken = await mine.take("schedule", hold_s=HOLD_S, unless_done_s=600.0)
    assert Duty("schedule", "all", None, None) == taken


async def test_looking_takes_nothing(engine: AnyEngine) -> None:
    """None before anybody held it; then how far it is, whoever holds it."""
    mine, theirs = pair(engine)
    assert await mine.look("schedule") is None
    await theirs.take("schedule", hold_s=HOLD_S)
    await theirs.finish("schedule", "all")
    found = await mine.look("schedule")
    assert found is not None and found.done_at is not None
    assert ("schedule", "all") == (found.name, found.cursor)
    assert abs((datetime.now(UTC) - found.done_at).total_seconds()) < 60.0
    assert await theirs.take("schedule", hold_s=HOLD_S) is not None
