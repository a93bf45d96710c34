"""Ordered failures, and failures by chance: which calls fail, how, and how often."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.github.chance import ALL_MISHAPS, Chance, Mishap
from tests.support.github.fault import SECONDARY_LIMIT, Fault


@dataclass(slots=True)
class Faults:
    """All failures: the first ordered one that matches a call is taken, else chance decides."""

    _faults: list[Fault] = field(default_factory=list)
    _chance: Chance | None = None

    def fail(
        self,
        method: str,
        pattern: str,
        *,
        status: int | None = None,
        times: int | None = 1,
        headers: Mapping[str, str] | None = None,
        delay_s: float = 0.0,
        message: str = "Server Error",
        after_effect: bool = False,
        drop: bool = False,
        errors: Sequence[Mapping[str, object]] = (),
    ) -> Fault:
        """Order a failure.

        Args:
            method: an HTTP method, `*`, or `graphql`.
            pattern: glob over the path (`/repos/*/pulls`, without the GHES prefix). For `graphql`:
                the operation's name, one of its top-level fields (`createCommitOnBranch`), or `*`;
                method POST with pattern `graphql` means every operation too.
            status: answer with this; None with `delay_s` alone means slow, but right.
            times: how many calls; None means until `clear`.
            headers: more headers, for example `{"retry-after": "1"}`.
            delay_s: wait so long first; `clear` ends the waiting.
            message: `message` of the answer.
            after_effect: the work is done all the same, only the answer is lost.
            drop: close the connection without an answer (aiohttp's client sends an idempotent call
                again by itself then: order two).
            errors: GraphQL answer 200 with `data: null` and these errors.
        """
        fault = Fault(
            method,
            pattern,
            status,
            times,
            dict(headers or {}),
            delay_s,
            message,
            after_effect,
            drop,
            errors,
        )
        self._faults.append(fault)
        return fault

    def secondary_limit(
        self, method: str, pattern: str, *, retry_after_s: int, status: int = 403, times: int = 1
    ) -> Fault:
        """Order a secondary rate limit with Retry-After; GitHub uses 403 and 429 for it."""
        return self.fail(
            method,
            pattern,
            status=status,
            times=times,
            headers={"retry-after": str(retry_after_s)},
            message=SECONDARY_LIMIT,
        )

    def at_random(
        self,
        *,
        seed: int,
        rate: float = 0.2,
        methods: Collection[str] = ("*",),
        patterns: Sequence[str] = ("*",),
        spare: Sequence[str] = (),
        mishaps: Sequence[Mishap] = ALL_MISHAPS,
        silence_s: float = 30.0,
        retry_after_s: int = 1,
    ) -> Chance:
        """Let calls fail by chance until `calm`, the same ones for the same seed.

        Args:
            seed: decides for each call, by its method, its path and how often it came.
            rate: how many fail, 0 to 1.
            methods: HTTP methods, or `graphql`; `*` means every call.
            patterns: globs over paths or, for GraphQL, over the operation's name and fields.
            spare: globs of what never fails.
            mishaps: what can happen, by default everything.
            silence_s: how long a call that gets no answer is held.
            retry_after_s: of secondary rate limits.

        Returns:
            what counts how often each happened.
        """
        self.calm()
        self._chance = Chance(
            seed=seed,
            rate=rate,
            methods=methods,
            patterns=patterns,
            spare=spare,
            mishaps=tuple(mishaps),
            silence_s=silence_s,
            retry_after_s=retry_after_s,
        )
        return self._chance

    def calm(self) -> None:
        """End the failures by chance; calls that are held are dropped now. Ordered ones stay."""
        if self._chance is not None:
            self._chance.release()
            self._chance = None

    def clear(self) -> None:
        """Forget all failures; calls that are held by a delay are answered now."""
        self.calm()
        for fault in self._faults:
            fault.released.set()
        self._faults.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The failure that this REST call meets, counted as used."""
        return self._take((method,), (path,))

    def take_graphql(self, names: Sequence[str]) -> Fault | None:
        """The failure that a GraphQL call meets; `names` are the operation's name and fields."""
        return self._take(("graphql", "POST"), (*names, "graphql", "/graphql"))

    def _take(self, methods: Sequence[str], names: Sequence[str]) -> Fault | None:
        fault = next((each for each in self._faults if each.matches(methods, names)), None)
        if fault is None:
            return self._chance.take(methods, names) if self._chance is not None else None
        fault.hits += 1
        fault.was_hit.set()
        return fault
