"""k-means of points that no worker can hold: partial sums of each block, several starts in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from raymnist.evaluation.blocks import Blocks

Floats = NDArray[np.floating]
ROWS = 2048  # points in one product: with their distances to the centres they stay in the processor's cache
START = 20_000  # points among which k-means++ looks for centres
ITERATIONS = 300  # at most, and
TOLERANCE = 1e-4  # of the mean variance, by which the centres move at the end: scikit-learn's values of both


@dataclass(frozen=True)
class Partial:
    """What one block adds to the next centres of several starts.

    counts: of the points of each cluster [s, k]. sums: of these points [s, k, d].
    """

    counts: NDArray[np.int64]
    sums: NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """The best of several starts: centres [k, d], the sum of squared distances to them, clusters int64 [n]."""

    centres: Floats
    inertia: float
    clusters: NDArray[np.int64]


def kmeans(points: Blocks, clusters: int, starts: int, seed: int) -> Found:
    """Cluster around means, from k-means++ on a sample, and keep the best of several starts.

    Source: Lloyd, Least squares quantization in PCM, 1982; Arthur and Vassilvitskii, k-means++, 2007.
    """
    from sklearn.cluster import kmeans_plusplus

    sample = points.take(points.sample(START, seed)).array()
    rng = np.random.RandomState(seed)
    first = np.stack([kmeans_plusplus(sample, clusters, random_state=rng)[0] for _ in range(starts)])
    return lloyd(points, first)


def lloyd(points: Blocks, first: Floats) -> Found:
    """Move the centres of each start [s, k, d] to the means of their points, until they rest; keep the best start."""
    mean, variance, squares = _spread(points)
    centres = np.asarray(first, np.float64)
    moving = np.arange(len(centres))
    for _ in range(ITERATIONS):
        moved = _moved(points, centres[moving], mean)
        shifts = ((moved - centres[moving]) ** 2).sum((1, 2))
        centres[moving] = moved
        moving = moving[shifts > TOLERANCE * variance]
        if not len(moving):
            break
    total = _total(points, centres, mean)
    inertias = squares + (total.counts * (centres**2).sum(2) - 2 * (centres * total.sums).sum(2)).sum(1)
    best = int(inertias.argmin())
    labels = ray.get(points.each(nearest_centre, centres[best], mean))
    return Found(centres[best], float(inertias[best]), np.concatenate(labels).astype(np.int64))


def _moved(points: Blocks, centres: Floats, mean: Floats) -> Floats:
    """Compute the means of each centre's points; a centre without any goes to one of the points that lie furthest."""
    total = _total(points, centres, mean)
    counts, sums = total.counts, total.sums
    for start in np.flatnonzero((counts == 0).any(1)):
        empty = np.flatnonzero(counts[start] == 0)
        far = ray.get(points.each(furthest, centres[start], mean, len(empty)))
        distances, candidates, owners = (np.concatenate(parts) for parts in zip(*far, strict=True))
        for cluster, place in zip(empty, np.argsort(-distances, kind="stable"), strict=False):
            sums[start, owners[place]] -= candidates[place]
            counts[start, owners[place]] -= 1
            sums[start, cluster], counts[start, cluster] = candidates[place], 1
    means: Floats = sums / np.maximum(counts, 1)[..., np.newaxis]
    return means


def _total(points: Blocks, centres: Floats, mean: Floats) -> Partial:
    parts: list[Partial] = ray.get(points.each(partial_sums, ray.put(centres), mean))
    return Partial(sum(part.counts for part in parts), sum(part.sums for part in parts))  # type: ignore[arg-type]


def _spread(points: Blocks) -> tuple[Floats, float, float]:
    """Compute the mean [d], the mean variance of a dimension, and the sum of all squares."""
    sums, squares = zip(*ray.get(points.each(_sums_of_powers)), strict=True)
    mean = sum(sums) / len(points)
    of_squares = sum(squares)
    return mean, float((of_squares / len(points) - mean**2).mean()), float(of_squares.sum())


def _sums_of_powers(block: Floats) -> tuple[Floats, Floats]:
    return block.sum(0, dtype=np.float64), np.einsum("ij,ij->j", block, block, dtype=np.float64)


def partial_sums(block: Floats, centres: Floats, mean: Floats) -> Partial:
    """Sum the points [n, d] that are nearest to each centre of several starts [s, k, d]."""
    starts, clusters, dims = centres.shape
    counts, sums = np.zeros((starts, clusters), np.int64), np.zeros((starts * clusters, dims))
    axes, offsets = _affine(centres.reshape(-1, dims), mean)
    for row in range(0, len(block), ROWS):
        rows = block[row : row + ROWS]
        own = (rows @ axes + offsets).reshape(len(rows), starts, clusters).argmin(2)
        members = np.eye(clusters, dtype=np.float32)[own].reshape(len(rows), -1)
        sums += members.T @ rows
        counts += members.sum(0, dtype=np.int64).reshape(starts, clusters)
    return Partial(counts, sums.reshape(centres.shape))


def nearest_centre(block: Floats, centres: Floats, mean: Floats) -> NDArray[np.int32]:
    """Find the nearest of the centres [k, d] for each point [n, d]."""
    axes, offsets = _affine(centres, mean)
    return (block @ axes + offsets).argmin(1).astype(np.int32)


def furthest(block: Floats, centres: Floats, mean: Floats, count: int) -> tuple[Floats, Floats, NDArray[Any]]:
    """Find the points that lie furthest from their centres: squared distances, points [count, d], centres' numbers."""
    own = nearest_centre(block, centres, mean)
    distances = ((block - centres[own]) ** 2).sum(1)
    places = np.argsort(-distances, kind="stable")[:count]
    return distances[places], block[places].astype(np.float64), own[places]


def _affine(centres: Floats, mean: Floats) -> tuple[Floats, Floats]:
    """Write |x - c|^2 less |x - m|^2, which is the same for all centres c, as x A + b: float32 [d, k] and [k].

    Around the mean m: with |c|^2 - 2xc points far from 0 would lose their differences to rounding.
    """
    shifted = centres - mean
    offsets = (shifted**2).sum(1) + 2 * shifted @ mean
    return np.asarray(-2 * shifted.T, np.float32), np.asarray(offsets, np.float32)
