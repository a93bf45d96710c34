"""What happens in a run, decided before it begins: everything here follows from the seed (pure)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


@dataclass(frozen=True, slots=True)
class Options:
    """One run.

    Attributes:
        seed: decides what is done when; the moment in which the app is met is chance all the same.
        seconds: how long harm is done.
        postgres: the store is a PostgreSQL server, which is killed too.
        repositories: how many are told of, in how many organizations.
        pace_s: from one delivery to the next.
        most: deliveries after which the run ends early.
        at_once: deliveries on their way at a time.
        gap_s: from one blow to the next, about.
        hook_timeout_s: how long GitHub waits for an answer.
        pause_s: how long the app is stopped at most.
        fault_rate: share of the app's calls to GitHub that fail.
        silence_s: how long a call that gets no answer hangs.
        recovery_s: how often the app reads GitHub's log.
        patience_s: how long it may take until all is settled.
    """

    seed: int
    seconds: float
    postgres: bool
    repositories: int = 32
    organizations: int = 8
    pace_s: float = 0.03
    most: int = 1_000_000
    at_once: int = 64
    gap_s: float = 2.5
    hook_timeout_s: float = 3.0
    pause_s: float = 4.5
    fault_rate: float = 0.15
    silence_s: float = 2.0
    recovery_s: float = 1.0
    patience_s: float = 130.0


class Harm(StrEnum):
    """What is done to the programs."""

    APP = "kill -9 of the app"
    HELPER = "kill -9 of the helper"
    BOTH = "kill -9 of both at once"
    POSTGRES = "kill -9 of PostgreSQL"
    TERM = "SIGTERM of the app"
    PAUSE = "SIGSTOP of the app"


_DECK: Final = (Harm.APP, Harm.BOTH, Harm.HELPER, Harm.TERM, Harm.PAUSE, Harm.APP)
#: Whoever is killed so keeps its leases, which end by themselves only.
_SUDDEN: Final = frozenset({Harm.APP, Harm.BOTH})


@dataclass(frozen=True, slots=True)
class Blow:
    """One harm.

    Attributes:
        at_s: when, from the beginning.
        when_alive: not before a delivery was acknowledged since the last blow, and amid answers to
            others; else whatever the app is at, its start among it.
        lead_s: so long after the first of these answers.
        lasts_s: until what was stopped goes on.
    """

    at_s: float
    harm: Harm
    when_alive: bool
    lead_s: float
    lasts_s: float


def plan_harm(options: Options, *, sudden_first: bool) -> tuple[Blow, ...]:
    """The blows in order; every kind comes once at least.

    Args:
        sudden_first: those after which leases must run out come first, so that a short run does not
            wait for that at its end.
    """
    rng = random.Random(f"harm {options.seed}")
    deck = [*_DECK, *([Harm.POSTGRES] * 2 if options.postgres else [])]
    count = max(len(deck), int(options.seconds / options.gap_s))
    harms: list[Harm] = []
    while len(harms) < count:
        harms += rng.sample(deck, len(deck))
    if sudden_first:
        harms.sort(key=lambda harm: harm not in _SUDDEN)
    share_s = options.seconds / count
    return tuple(
        Blow(
            at_s=share_s * (number + rng.uniform(0.2, 0.9)),
            harm=harm,
            when_alive=rng.random() < 0.7,
            lead_s=rng.uniform(0.0, 0.005),
            lasts_s=_duration_s(harm, rng, options),
        )
        for number, harm in enumerate(harms[:count])
    )


def _duration_s(harm: Harm, rng: random.Random, options: Options) -> float:
    if harm is Harm.PAUSE:
        return options.pause_s * rng.uniform(0.75, 1.0)
    return rng.uniform(0.0, 1.5) if harm is Harm.POSTGRES else 0.0


class Has(StrEnum):
    """Which of the files that the rules want a repository has already."""

    NOTHING = "nothing"
    OWNERS = "its code owners"
    ALL = "both files"


@dataclass(frozen=True, slots=True)
class Story:
    """One repository.

    Attributes:
        organization: number of the one that it is created in.
        quiet: nothing is told of it but this story: what is lost of it, nothing else brings back.
        chosen: it is added to an installation that covers selected repositories only.
        told_s: when GitHub first tells of it.
        renamed_s: when it gets another name; None: never.
        transferred_s: when it goes to the next organization; None: never.
    """

    number: int
    organization: int
    has: Has
    quiet: bool
    chosen: bool
    told_s: float
    renamed_s: float | None
    transferred_s: float | None


def plan_stories(options: Options) -> tuple[Story, ...]:
    """The repositories of a run; the last organization is the one with a selection."""
    rng = random.Random(f"stories {options.seed}")
    return tuple(_story(number, options, rng) for number in range(options.repositories))


def _story(number: int, options: Options, rng: random.Random) -> Story:
    last = options.organizations - 1
    organization = number % options.organizations
    told_s = options.seconds * rng.uniform(0.02, 0.85)

    def later_s() -> float:
        return rng.uniform(told_s, options.seconds * 0.95)

    chosen = organization == last
    return Story(
        number=number,
        organization=organization,
        has=rng.choices(list(Has), weights=[8, 2, 1])[0],
        quiet=rng.random() < 0.5,
        chosen=chosen,
        told_s=told_s,
        renamed_s=later_s() if rng.random() < 0.25 else None,
        transferred_s=later_s() if not chosen and rng.random() < 0.2 else None,
    )


class Filler(StrEnum):
    """A delivery between the stories."""

    PUSH = "push"
    REAL_PUSH = "push that moves the branch"
    EDITED = "repository.edited"
    BRANCH = "push to another branch"
    STAR = "star.created"
    PING = "ping"
    REDELIVERY = "redelivery"
    TWICE = "two redeliveries at once"


_WEIGHTS: Final = {
    Filler.PUSH: 15,
    Filler.REAL_PUSH: 3,
    Filler.EDITED: 5,
    Filler.BRANCH: 30,
    Filler.STAR: 35,
    Filler.PING: 4,
    Filler.REDELIVERY: 5,
    Filler.TWICE: 3,
}


def choose_filler(rng: random.Random) -> Filler:
    """The next one."""
    return rng.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))[0]
