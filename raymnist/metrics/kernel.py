"""The kernel distance of two sets of features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymnist.metrics.estimate import Estimate, normal
from raymnist.metrics.neighbours import blocks

Points = NDArray[np.floating]


def kid(real: Points, fake: Points) -> Estimate:
    """Compute the kernel distance of `fake` [m, d] from `real` [n, d]; 0 for equal distributions, and unbiased.

    The squared maximum mean discrepancy with the kernel (x y / d + 1)^3, over all pairs of different images: the mean
    of what other tools compute on random subsets of 1,000, without the chance of the subsets. The interval is that of
    such a statistic, its first and its second order; the usual deviation between subsets is no standard error.
    Source: Binkowski et al., Demystifying MMD GANs, 2018; Hoeffding, A class of statistics with asymptotically normal
    distribution, 1948, for the variance.
    """
    n, m = len(real), len(fake)
    within_real, within_fake, between = _sums(real, real), _sums(fake, fake), _sums(fake, real)
    mean_real = (within_real.total - within_real.diagonal.sum()) / (n * (n - 1))
    mean_fake = (within_fake.total - within_fake.diagonal.sum()) / (m * (m - 1))
    value = mean_real + mean_fake - 2 * between.total / (n * m)
    # What one image adds: its mean similarity to its own set less that to the other.
    of_real = (within_real.rows - within_real.diagonal) / (n - 1) - between.columns / m
    of_fake = (within_fake.rows - within_fake.diagonal) / (m - 1) - between.rows / n
    first = 4 * of_real.var(ddof=1) / n + 4 * of_fake.var(ddof=1) / m
    second = (
        2 * within_real.centred_square / (n * (n - 1))
        + 2 * within_fake.centred_square / (m * (m - 1))
        + 4 * between.centred_square / (n * m)
    )
    # Taken from the same images, the first order holds the second twice, as in `fid`.
    return normal(value, math.sqrt(max(first - second, second)))


@dataclass(frozen=True)
class _Sums:
    """Of a kernel matrix [a, b] that was never whole.

    rows [a], columns [b]: its sums. diagonal [a]: of a set with itself. centred_square: the mean square of what is left
    when the means of rows and columns are taken away.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    diagonal: NDArray[np.float64]
    centred_square: float

    @property
    def total(self) -> float:
        return float(self.rows.sum())


def _sums(points: Points, others: Points) -> _Sums:
    a, b, d = len(points), len(others), points.shape[1]
    rows, columns, square = np.empty(a), np.zeros(b), 0.0
    for start, some in blocks(points, b):
        products = some @ others.T
        products /= d
        products += 1
        kernel = products * products * products
        rows[start : start + len(some)] = kernel.sum(1, dtype=np.float64)
        columns += kernel.sum(0, dtype=np.float64)
        square += float(np.einsum("ij,ij->i", kernel, kernel).sum(dtype=np.float64))
    mean = rows.sum() / (a * b)
    centred = square / (a * b) - np.mean((rows / b) ** 2) - np.mean((columns / a) ** 2) + mean**2
    diagonal = (np.einsum("ij,ij->i", points, points, dtype=np.float64) / d + 1) ** 3
    return _Sums(rows, columns, diagonal, max(0.0, float(centred)))
