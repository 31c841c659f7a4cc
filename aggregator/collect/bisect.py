"""Finds what makes a request fail: asks for halves until the culprits stand alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aggregator.errors import SourceRejectedError
from aggregator.sources.prometheus import Answer, PrometheusSource

# The server understood the request and will not carry out this query, though it may others.
QUERY_REFUSED = frozenset({"bad_request", "execution"})

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Split(Generic[Item]):
    """What was answered, and what was refused with the server's reason."""

    answered: list[tuple[tuple[Item, ...], Answer]]
    refused: list[tuple[tuple[Item, ...], SourceRejectedError]]


def ask_in_halves(
    source: PrometheusSource,
    batch: tuple[Item, ...],
    ask: Callable[[tuple[Item, ...]], Answer],
    halves: Callable[[Sequence[Item]], tuple[tuple[Item, ...], tuple[Item, ...]]],
    time_ms: int,
) -> Split[Item]:
    """Ask for *batch*; if that query is refused, ask for its halves, and so on.

    *halves* returns an empty second half for what cannot be split. Raises `SourceError` if the
    server refuses even the simplest query, or fails otherwise.
    """
    split: Split[Item] = Split([], [])
    pending = [batch]
    while pending:
        part = pending.pop()
        try:
            split.answered.append((part, ask(part)))
        except SourceRejectedError as error:
            if error.kind not in QUERY_REFUSED:
                raise
            if part is batch:
                source.instant("vector(1)", time_ms)
            first, second = halves(part)
            if second:
                pending += [second, first]
            else:
                split.refused.append((part, error))
    return split
