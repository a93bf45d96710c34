"""Nothing is ever lost: the short form of `make chaos`, with a fixed seed."""

from __future__ import annotations

import pytest

from tests.chaos.plan import Harm, Options
from tests.chaos.report import ACKNOWLEDGED, Result
from tests.chaos.run import chaos

_SEED = 20_260
#: Nobody waits for these seconds: they are what a machine that is busy otherwise may take.
_PATIENCE = pytest.mark.timeout(240)


async def short_chaos(*, postgres: bool) -> Result:
    """Twenty seconds of harm, printed with the seed."""
    options = Options(seed=_SEED, seconds=20.0, postgres=postgres)
    print(f"chaos with seed {_SEED}")
    result = await chaos(options, sudden_first=postgres)
    print(result.table())
    return result


def assert_harm_was_done(result: Result, *kinds: Harm) -> None:
    """A run in which nothing happened proves nothing."""
    assert {kind.value for kind in kinds} == result.harms.keys()
    assert result.faults.total() > 0
    assert result.ends[ACKNOWLEDGED] > 0
    assert len(result.ends) > 1


@_PATIENCE
async def test_nothing_is_lost_on_sqlite_whatever_is_killed() -> None:
    """kill -9 of app and helper, SIGTERM, SIGSTOP, and a GitHub that fails: every check holds."""
    result = await short_chaos(postgres=False)
    assert "" == "\n".join(result.problems)
    assert_harm_was_done(result, *(set(Harm) - {Harm.POSTGRES}))


@_PATIENCE
async def test_nothing_is_lost_on_postgresql_whatever_is_killed() -> None:
    """The same, and kill -9 of the database."""
    result = await short_chaos(postgres=True)
    assert "" == "\n".join(result.problems)
    assert_harm_was_done(result, *Harm)
