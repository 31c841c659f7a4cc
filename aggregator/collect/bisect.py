"""Finds what makes a request fail: asks for halves until the culprits stand alone."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aggregator.errors import SourceError
from aggregator.sources.prometheus import Answer, PrometheusSource

# The server understood the request and will not carry out this query, though it may others.
QUERY_REFUSED = frozenset({"bad_request", "execution"})
# No answer within the limits, which say nothing of a smaller question.
NOT_IN_TIME = frozenset({"timeout", "query_timeout"})
TOO_MUCH = NOT_IN_TIME | {"too_large"}
PING_SECONDS = 3.0

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Split(Generic[Item]):
    """What was answered, what was refused and why, and what there was no time to ask for."""

    answered: list[tuple[tuple[Item, ...], Answer]]
    refused: list[tuple[tuple[Item, ...], SourceError]]
    left: list[tuple[Item, ...]]


def ask_in_halves(
    source: PrometheusSource,
    batch: tuple[Item, ...],
    ask: Callable[[tuple[Item, ...]], Answer],
    halves: Callable[[Sequence[Item]], tuple[tuple[Item, ...], tuple[Item, ...]]],
    *,
    time_ms: int,
    ends: float,
) -> Split[Item]:
    """Ask for *batch*; if it is refused or too much, ask for its halves, and so on.

    *halves* returns an empty second half for what cannot be split. What is not asked for at *ends*
    (monotonic) is left. Raises `SourceError` if the server refuses even the simplest query, or
    fails otherwise.
    """
    split: Split[Item] = Split([], [], [])
    pending = [batch]
    while pending:
        part = pending.pop()
        if time.monotonic() >= ends:
            split.left.append(part)
            continue
        try:
            split.answered.append((part, ask(part)))
        except SourceError as error:
            if error.kind not in QUERY_REFUSED | TOO_MUCH:
                raise
            if part is batch or error.kind in NOT_IN_TIME:
                ping(source, time_ms)
            first, second = halves(part)
            if second:
                pending += [second, first]
            else:
                split.refused.append((part, error))
    return split


def ping(source: PrometheusSource, time_ms: int) -> None:
    """Ask something that costs nothing; raise `SourceError` if the server does not answer."""
    source.instant("vector(1)", time_ms, timeout_seconds=PING_SECONDS)
