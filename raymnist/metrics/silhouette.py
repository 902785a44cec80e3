"""The silhouette of every point, by blocks of products: exact, in memory that grows with the number of points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]
TILE = 1024  # points on each side of a block of distances, 8 MB


def silhouette(points: NDArray[np.floating], clusters: Integers) -> float:
    """Compute the mean silhouette coefficient of points [n, d], in [-1, 1]; higher is better.

    NaN where it is not defined: with one cluster, or as many clusters as points.
    Source: Rousseeuw, Silhouettes, 1987.
    """
    if not is_defined(clusters):
        return float("nan")
    own, counts = numbered(clusters)
    sums = sums_within(centred(points, points.mean(0, np.float64)), memberships(own, len(counts)))
    return float(coefficients(sums, own, counts).mean())


def is_defined(clusters: Integers) -> bool:
    """Tell whether a clustering [n] has a silhouette."""
    return 2 <= len(np.unique(clusters)) < len(clusters)


def numbered(clusters: Integers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number clusters [n] from 0 without gaps: int64 [n], and how many points each has, int64 [k]."""
    _, own, counts = np.unique(clusters, return_inverse=True, return_counts=True)
    return own.astype(np.int64), counts.astype(np.int64)


def memberships(own: NDArray[np.int64], clusters: int) -> Floats:
    """Write the numbers of clusters [n] as a matrix [n, clusters], 1 in the column of each point's own, else 0."""
    return np.eye(clusters)[own]


def centred(points: NDArray[np.floating], centre: Floats) -> Floats:
    """Move points [n, d] to around 0, far from which |x|^2 + |y|^2 - 2xy loses digits; in float64 for the same reason.

    In float32, points that lie close together but far from the centre, as those of UMAP do, have no distance left.
    """
    return np.asarray(points, np.float64) - centre


def sums_within(points: Floats, members: Floats) -> Floats:
    """Sum each point's distances to the points of every cluster: [n, k] of points [n, d] and memberships [n, k]."""
    sums = np.zeros(members.shape)
    norms = _norms(points)
    for rows in _tiles(len(points)):
        for columns in _tiles(len(points), rows.start):
            tile = _distances(points[rows], norms[rows], points[columns], norms[columns])
            if rows != columns:
                sums[columns] += tile.T @ members[rows]
            sums[rows] += tile @ members[columns]
    return sums


def sums_between(points: Floats, members: Floats, others: Floats, other_members: Floats) -> tuple[Floats, Floats]:
    """Sum the distances between two sets of points, each computed once and counted for both.

    Returns the sums of points [a, d] to the others by their clusters [a, k], and of others [b, d] to the points [b, k].
    """
    sums, other_sums = np.zeros(members.shape), np.zeros(other_members.shape)
    norms, other_norms = _norms(points), _norms(others)
    for rows in _tiles(len(points)):
        for columns in _tiles(len(others)):
            tile = _distances(points[rows], norms[rows], others[columns], other_norms[columns])
            sums[rows] += tile @ other_members[columns]
            other_sums[columns] += tile.T @ members[rows]
    return sums, other_sums


def sums_to(points: Floats, others: Floats, other_members: Floats) -> Floats:
    """Sum the distances of points [a, d] to others [b, d] by the others' clusters: [a, k]."""
    sums = np.zeros((len(points), other_members.shape[1]))
    norms, other_norms = _norms(points), _norms(others)
    for rows in _tiles(len(points)):
        for columns in _tiles(len(others)):
            tile = _distances(points[rows], norms[rows], others[columns], other_norms[columns])
            sums[rows] += tile @ other_members[columns]
    return sums


def coefficients(sums: Floats, own: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
    """Compute the silhouette coefficients [n], in [-1, 1], of points with these distance sums [n, k].

    own: the number of each point's cluster [n]. counts: of all points in each cluster [k], also where `own` are some of
    them. A point alone in its cluster has 0.
    """
    rows = np.arange(len(own))
    within = sums[rows, own] / np.maximum(counts[own] - 1, 1)
    means = sums / counts
    means[rows, own] = np.inf
    nearest = means.min(1)
    larger = np.maximum(within, nearest)
    values = np.divide(nearest - within, larger, out=np.zeros(len(own)), where=larger > 0)
    return np.where(counts[own] > 1, values, 0)


def _norms(points: Floats) -> Floats:
    return np.einsum("ij,ij->i", points, points)


def _tiles(count: int, start: int = 0) -> Iterator[slice]:
    for first in range(start, count, TILE):
        yield slice(first, min(first + TILE, count))


def _distances(points: Floats, norms: Floats, others: Floats, other_norms: Floats) -> Floats:
    tile = points @ others.T
    tile *= -2
    tile += norms[:, np.newaxis]
    tile += other_norms
    np.maximum(tile, 0, out=tile)
    return np.sqrt(tile, out=tile)
