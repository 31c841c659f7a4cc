"""The `stats` part of a query's answer: how much was read, and how long it took."""

import orjson

from aggregator.api.exchange import Request
from aggregator.model.arrays import Ints
from aggregator.model.stepmatrix import StepRange


def part(request: Request, seconds: float, steps: StepRange, counts: Ints, peak: int) -> bytes:
    """Return `,"stats":{…}` as Prometheus writes it.

    *seconds* is what the evaluation took: series are chosen and sorted within it, so that preparing
    and sorting have no time of their own. *counts* are the samples looked at, at each of *steps*,
    and *peak* how many were read for them. All steps are listed for `stats=all` alone.
    """
    timings = {
        "evalTotalTime": seconds,
        "resultSortTime": 0.0,
        "queryPreparationTime": 0.0,
        "innerEvalTime": seconds,
        "execQueueTime": request.queued_seconds,
        "execTotalTime": request.queued_seconds + seconds,
    }
    samples: dict[str, object] = {}
    if request.first("stats") == "all":
        pairs = zip((steps.times() / 1000).tolist(), counts.tolist(), strict=True)
        samples["totalQueryableSamplesPerStep"] = list(pairs)
    samples["totalQueryableSamples"] = int(counts.sum())
    samples["peakSamples"] = peak
    return b',"stats":' + orjson.dumps({"timings": timings, "samples": samples})
