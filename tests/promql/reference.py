"""Range functions as plain loops over one window: what the kernels are compared with.

A window is a list of (time in ms, value); a function returns the result, or None for none.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Sample = tuple[int, float]


@dataclass(frozen=True)
class Moment:
    """What a function may know beside its samples: the window's ends, the evaluation time."""

    start: int
    end: int
    at: int
    old: bool = False

    @property
    def seconds(self):
        """Length of the window."""
        return (self.end - self.start) / 1000


def divide(a: float, b: float) -> float:
    """Divide as IEEE 754 does."""
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)
    return a / b


def kahan(term: float, total: float, lost: float) -> tuple[float, float]:
    """Add *term* with Neumaier's compensation."""
    grown = total + term
    if math.isinf(grown):
        return grown, 0.0
    if abs(total) >= abs(term):
        return grown, lost + ((total - grown) + term)
    return grown, lost + ((term - grown) + total)


def extrapolated(window: Sequence[Sample], now: Moment, *, counter: bool, rate: bool):
    """Return rate, increase or delta."""
    if len(window) < 2:
        return None
    (first_time, first), (last_time, last) = window[0], window[-1]
    result = last - first
    if counter:
        for (_, before), (_, after) in itertools.pairwise(window):
            if after < before:
                result += before
    sampled = (last_time - first_time) / 1000
    average = sampled / (len(window) - 1)
    zero = math.inf
    if counter and result > 0 and first >= 0:
        zero = sampled * (first / result)
    to_start = distance_to_start((first_time - now.start) / 1000, average, zero, old=now.old)
    to_end = (now.end - last_time) / 1000
    if to_end >= average * 1.1:
        to_end = average / 2
    factor = (sampled + to_start + to_end) / sampled
    if rate:
        factor /= now.seconds
    return result * factor


def distance_to_start(distance: float, average: float, zero: float, *, old: bool) -> float:
    """Limit the extrapolation at the start by spacing and zero point, in the version's order."""
    if old:
        distance = min(distance, zero)
        return average / 2 if distance >= average * 1.1 else distance
    distance = average / 2 if distance >= average * 1.1 else distance
    return min(distance, zero)


def instant(window, _now, *, rate: bool):
    """Return irate or idelta."""
    if len(window) < 2:
        return None
    (before_time, before), (after_time, after) = window[-2:]
    result = after if rate and after < before else after - before
    return result / ((after_time - before_time) / 1000) if rate else result


def changes(window, _now):
    """Count neighbours that differ."""
    values = [value for _, value in window]
    return float(
        sum(b != a and not (math.isnan(a) and math.isnan(b)) for a, b in itertools.pairwise(values))
    )


def resets(window, _now):
    """Count neighbours that fall."""
    values = [value for _, value in window]
    return float(sum(b < a for a, b in itertools.pairwise(values)))


def total(window, _now):
    """Sum with compensation."""
    result = lost = 0.0
    for _, value in window:
        result, lost = kahan(value, result, lost)
    return result if math.isinf(result) else result + lost


def average(window, _now):
    """Divide the sum by the count; from an overflow on, move the mean."""
    result, lost, mean, incremental = window[0][1], 0.0, 0.0, False
    count = 1
    for _, value in window[1:]:
        count += 1
        if not incremental:
            grown, grown_lost = kahan(value, result, lost)
            if not math.isinf(grown):
                result, lost = grown, grown_lost
                continue
            incremental = True
            mean, lost = result / (count - 1), lost / (count - 1)
        share = (count - 1) / count
        mean, lost = kahan(value / count, share * mean, share * lost)
    return mean + lost if incremental else result / count + lost / count


def extreme(window, _now, *, better: Callable[[float, float], bool], time: bool):
    """Return the best value, or its time."""
    best_time, best = window[0]
    for moment, value in window:
        if better(value, best) or math.isnan(best):
            best_time, best = moment, value
    return best_time / 1000 if time else best


def variance(window, _now):
    """Return the variance by Welford's method."""
    mean = mean_lost = spread = spread_lost = 0.0
    for count, (_, value) in enumerate(window, 1):
        delta = value - (mean + mean_lost)
        mean, mean_lost = kahan(delta / count, mean, mean_lost)
        spread, spread_lost = kahan(delta * (value - (mean + mean_lost)), spread, spread_lost)
    return (spread + spread_lost) / len(window)


def deviation(window, now):
    """Return the standard deviation."""
    result = variance(window, now)
    return math.nan if math.isnan(result) or result < 0 else math.sqrt(result)


def quantile(values: Sequence[float], q: float) -> float:
    """Interpolate between the neighbours of rank q·(n-1), NaN sorted first."""
    if math.isnan(q):
        return math.nan
    if not 0 <= q <= 1:
        return -math.inf if q < 0 else math.inf
    ordered = sorted(values, key=lambda value: (not math.isnan(value), value))
    rank = q * (len(ordered) - 1)
    lower = max(0, math.floor(rank))
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - math.floor(rank)
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def mad(window, _now):
    """Return the median distance from the median."""
    values = [value for _, value in window]
    median = quantile(values, 0.5)
    return quantile([abs(value - median) for value in values], 0.5)


def regression(window, origin: int) -> tuple[float, float]:
    """Return slope and intercept of the least squares line."""
    first = window[0][1]
    if all(value == first for _, value in window[1:]):
        return (math.nan, math.nan) if math.isinf(first) else (0.0, first)
    sums = [(0.0, 0.0)] * 4
    for moment, y in window:
        x = (moment - origin) / 1000
        terms = (x, y, x * y, x * x)
        sums = [kahan(term, *pair) for term, pair in zip(terms, sums, strict=True)]
    sum_x, sum_y, sum_xy, sum_xx = (a + b for a, b in sums)
    n = len(window)
    slope = divide(sum_xy - sum_x * sum_y / n, sum_xx - sum_x * sum_x / n)
    return slope, sum_y / n - slope * sum_x / n


def deriv(window, _now):
    """Return the slope from the first sample's time on."""
    return None if len(window) < 2 else regression(window, window[0][0])[0]


def predict(window, now, seconds: float):
    """Return the line's value some seconds after the evaluation."""
    if len(window) < 2:
        return None
    slope, intercept = regression(window, now.at)
    return slope * seconds + intercept


def smoothing(window, _now, smooth: float, trend: float):
    """Return the doubly smoothed value."""
    if len(window) < 2:
        return None
    before, level = 0.0, window[0][1]
    slope = window[1][1] - level
    for index, (_, value) in enumerate(window[1:]):
        if index:
            slope = trend * (level - before) + (1 - trend) * slope
        before, level = level, smooth * value + (1 - smooth) * (level + slope)
    return level


FUNCTIONS: dict[str, Callable] = {
    "rate": lambda w, now: extrapolated(w, now, counter=True, rate=True),
    "increase": lambda w, now: extrapolated(w, now, counter=True, rate=False),
    "delta": lambda w, now: extrapolated(w, now, counter=False, rate=False),
    "irate": lambda w, now: instant(w, now, rate=True),
    "idelta": lambda w, now: instant(w, now, rate=False),
    "changes": changes,
    "resets": resets,
    "deriv": deriv,
    "predict_linear": predict,
    "double_exponential_smoothing": smoothing,
    "holt_winters": smoothing,
    "sum_over_time": total,
    "avg_over_time": average,
    "min_over_time": lambda w, now: extreme(w, now, better=lambda a, b: a < b, time=False),
    "max_over_time": lambda w, now: extreme(w, now, better=lambda a, b: a > b, time=False),
    "ts_of_min_over_time": lambda w, now: extreme(w, now, better=lambda a, b: a <= b, time=True),
    "ts_of_max_over_time": lambda w, now: extreme(w, now, better=lambda a, b: a >= b, time=True),
    "first_over_time": lambda w, _: w[0][1],
    "last_over_time": lambda w, _: w[-1][1],
    "ts_of_first_over_time": lambda w, _: w[0][0] / 1000,
    "ts_of_last_over_time": lambda w, _: w[-1][0] / 1000,
    "count_over_time": lambda w, _: float(len(w)),
    "present_over_time": lambda _, __: 1.0,
    "absent_over_time": lambda _, __: 1.0,  # its kernel; the row of ones is made of it later
    "stdvar_over_time": variance,
    "stddev_over_time": deviation,
    "quantile_over_time": lambda w, _, q: quantile([value for _, value in w], q),
    "mad_over_time": mad,
}
