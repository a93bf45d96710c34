"""Whether GitHub delivers to us, and whether it believes our clock. Pure."""

from __future__ import annotations

from typing import Final

from repo_guardian.doctor.facts import Facts, HookFacts
from repo_guardian.doctor.rows import Check, Result, Row

#: An App JWT that begins in GitHub's future is refused; gidgethub's begins a minute ago
#: (https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app).
_WRONG_CLOCK_S: Final = 30.0

_FIX: Final = "set WEBHOOK_AUTOCONFIG=true, or enter it on the App's page under Webhook URL"


def hook_row(facts: Facts) -> Row:
    """Hold GitHub's setting against the public address."""
    github = facts.github
    if github is None:
        return Row(Check.HOOK, Result.NOT_REACHED, "the settings of the App come first")
    if github.hook is None:
        problem = github.problem
        if problem is None:
            return Row(Check.HOOK, Result.NOT_REACHED, "GitHub was not asked")
        return Row(Check.HOOK, Result.FAILED, problem.message, problem.hint, problem.code)
    hook, ours = github.hook, _our_url(facts)
    if wrong := _wrong(hook):
        return Row(Check.HOOK, Result.FAILED, wrong, _FIX)
    if ours:
        return Row(Check.HOOK, Result.OK, f"GitHub delivers to {ours}")
    if facts.wants_funnel:
        message = f"GitHub delivers to {hook.url}; our own address is not known yet"
        return Row(Check.HOOK, Result.NOT_REACHED, message)
    return Row(Check.HOOK, Result.OK, f"GitHub delivers to {hook.url}, by a way of your own")


def clock_row(facts: Facts) -> Row:
    """Hold our clock against GitHub's."""
    skew_s = facts.github.skew_s if facts.github is not None else None
    if skew_s is None:
        return Row(Check.CLOCK, Result.NOT_REACHED, "GitHub has told no time")
    if abs(skew_s) <= _WRONG_CLOCK_S:
        return Row(Check.CLOCK, Result.OK, f"within {max(1.0, abs(skew_s)):.0f} s of GitHub's")
    where = "behind" if skew_s > 0 else "ahead of"
    message = f"{abs(skew_s):.0f} s {where} GitHub's: it refuses the App's tokens"
    return Row(Check.CLOCK, Result.FAILED, message, "timedatectl set-ntp true")


def _our_url(facts: Facts) -> str:
    status = facts.funnel.status if facts.funnel is not None else None
    return status.url if status is not None else ""


def _wrong(hook: HookFacts) -> str:
    """What of the hook is not as we need it, both sides named; empty when nothing."""
    parts = [
        f"{name} is {present or 'empty'}, ours is {needed}"
        for name, (present, needed) in hook.differs.items()
    ]
    if not hook.url and not parts:
        parts.append("the App has no webhook URL")
    if not hook.has_secret:
        parts.append("there is no secret, so deliveries are not signed")
    return "; ".join(parts)
