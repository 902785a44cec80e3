"""A score with its 95 % interval, and the ways to one that need no draws with replacement from images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959964  # the 97.5 % point of the normal distribution
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A score and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def normal(value: float, standard_error: float, least: float = -math.inf, most: float = math.inf) -> Estimate:
    """Put 1.96 standard errors on both sides of a value, no further than the score reaches."""
    return Estimate(value, float(max(least, value - Z * standard_error)), float(min(most, value + Z * standard_error)))


def share(hits: NDArray[np.bool_], scale: float = 1) -> Estimate:
    """Estimate the share of images for which `hits` [n] is true, times `scale`, with Wilson's interval.

    Right where each image is a draw of its own and all else is given. Source: Wilson, Probable inference, the law of
    succession, and statistical inference, 1927.
    """
    n, p = len(hits), float(np.mean(hits))
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    # at p 0 and 1 the ends are exact, but for rounding
    low, high = (0.0 if p == 0 else centre - half), (1.0 if p == 1 else centre + half)
    return Estimate(scale * p, scale * low, scale * high)


def bootstrap(
    rows: NDArray[np.float64],
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    seed: int,
    least: float = -math.inf,
    most: float = math.inf,
) -> Estimate:
    """Estimate a function of the mean row, with the standard error that it has in resampled images.

    rows: float64 [n, c], what each image contributes. function: from means [b, c] to values [b].
    Source: Efron, Bootstrap methods: another look at the jackknife, 1979.
    """
    rng = np.random.default_rng(seed)
    n = len(rows)
    counts = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES))
    means = np.stack([weights @ rows for weights in counts]) / n
    value = float(function(rows.mean(0, keepdims=True))[0])
    return normal(value, float(function(means).std(ddof=1)), least, most)
