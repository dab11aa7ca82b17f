"""Whether another attempt may fare better, and after which pause; pure but for the spread of the pauses."""

import random
from collections.abc import Sequence
from typing import Final

from llm.attempt import Attempt
from llm.headers import find
from llm.router import Choice
from llm.upstream import UpstreamAnswer, UpstreamError

#: Answers after which another attempt may fare better (those that the OpenAI SDK retries).
_RETRYABLE: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
#: Answers that tell of this deployment rather than of the request: another one may do better, a retry here not.
_DEPLOYMENT_FAULTS: Final = frozenset({401, 403, 404})
#: Failures that would come again, and cost again.
_REPEATABLE_FAULTS: Final = frozenset({"too_large"})
_BACKOFF_S: Final = 0.25
_BACKOFF_MAX_S: Final = 4.0
#: A pause that the upstream asks for and that is longer than this is the client's to make.
_RETRY_AFTER_MAX_S: Final = 5.0


def after_answer(answer: UpstreamAnswer, attempt: Attempt, rest: Sequence[Choice]) -> Sequence[Choice]:
    """Return what is left of the plan after this answer, from the first choice that may fare better; empty: none."""
    for number, choice in enumerate(rest):
        if _may_fare_better(answer, attempt, choice):
            return rest[number:]
    return ()


def after_failure(failure: UpstreamError, rest: Sequence[Choice]) -> Sequence[Choice]:
    """Return what is left of the plan after an attempt without an answer."""
    return () if failure.reason in _REPEATABLE_FAULTS else rest


def _may_fare_better(answer: UpstreamAnswer, attempt: Attempt, choice: Choice) -> bool:
    if not _is_same(attempt, choice):
        return answer.status in _RETRYABLE or answer.status in _DEPLOYMENT_FAULTS
    told = find(answer.headers, "x-should-retry")
    is_retryable = told == "true" or (answer.status in _RETRYABLE and told != "false")
    return is_retryable and _asked_s(answer) <= _RETRY_AFTER_MAX_S


def pause_s(attempt: Attempt, following: Choice, least_s: float, answer: UpstreamAnswer | None = None) -> float:
    """Return the pause before the following choice: none elsewhere; here a growing one, or what the upstream asks."""
    if following.kind == "fallback" or not _is_same(attempt, following):
        return 0.0
    backoff_s = min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** (attempt.number - 1))
    spread_s = backoff_s * random.uniform(0.75, 1.0)  # noqa: S311 - spreads retries, guards nothing
    return max(least_s, spread_s, 0.0 if answer is None else _asked_s(answer))


def _is_same(attempt: Attempt, following: Choice) -> bool:
    return following.deployment.deployment_id == attempt.deployment.deployment_id


def _asked_s(answer: UpstreamAnswer) -> float:
    """Return the pause that the upstream asks for, 0 when none; one that is not a number counts as too long."""
    millis, seconds = find(answer.headers, "retry-after-ms"), find(answer.headers, "retry-after")
    # isdigit() would take a superscript for a digit, and int() refuses some thousand digits.
    if millis.strip().isdecimal():
        return float(millis) / 1_000
    if seconds.strip().isdecimal():
        return float(seconds)
    return _RETRY_AFTER_MAX_S + 1 if seconds else 0.0
