"""Principal components of points that no worker can hold: moments of each block, merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from raymnist.evaluation.blocks import Blocks, on_worker

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """How many points there are, their mean [d], and the sum of products of their deviations from it [d, d]."""

    count: int
    mean: Floats
    products: Floats

    @classmethod
    def of(cls, block: NDArray[np.floating]) -> Moments:
        """Compute those of points [n, d], in float64."""
        mean = block.mean(0, dtype=np.float64)
        deviations = block - mean
        return cls(len(block), mean, deviations.T @ deviations)


def merge(one: Moments, other: Moments) -> Moments:
    """Compute the moments of two sets together.

    Source: Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.
    """
    count = one.count + other.count
    shift = other.mean - one.mean
    products = one.products + other.products + np.outer(shift, shift) * (one.count * other.count / count)
    return Moments(count, one.mean + shift * (other.count / count), products)


def of_blocks(points: Blocks) -> Moments:
    """Compute the moments of all points, merged in pairs by Ray tasks."""
    parts = points.each(Moments.of)
    while len(parts) > 1:
        pairs = [on_worker(merge, *parts[i : i + 2]) for i in range(0, len(parts) - 1, 2)]
        parts = [*pairs, *parts[len(pairs) * 2 :]]
    found: Moments = ray.get(parts[0])
    return found


def components(moments: Moments, dims: int) -> tuple[Floats, Floats]:
    """Compute the mean [d] and the first principal components [dims, d], each with its largest loading positive."""
    _, vectors = np.linalg.eigh(moments.products)
    chosen = vectors[:, ::-1][:, :dims].T
    largest = chosen[np.arange(len(chosen)), np.abs(chosen).argmax(1)]
    return moments.mean, chosen * np.sign(largest)[:, np.newaxis]


def project(block: NDArray[Any], mean: Floats, axes: Floats) -> NDArray[np.float32]:
    """Project points [n, d] on components [dims, d]: float32 [n, dims]."""
    return np.asarray((block - mean) @ axes.T, np.float32)
