"""The silhouette of points in blocks: exact by pairs of blocks up to a number of points, beyond it of a sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import ray
from numpy.typing import NDArray

from raymnist.evaluation.blocks import Blocks, on_worker
from raymnist.metrics.estimate import Estimate, normal
from raymnist.metrics.silhouette import (
    centred,
    coefficients,
    is_defined,
    memberships,
    numbered,
    sums_between,
    sums_to,
    sums_within,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
EXACT = 100_000  # points, beyond which a sample is compared with all
SAMPLE = 10_000
PIECE = 8192  # points on each side of one task: seconds of work, some MB of points


def silhouette(points: Blocks, clusters: Integers, seed: int, exact: int = EXACT) -> float | Estimate:
    """Compute the mean silhouette coefficient of points [n, d] with clusters [n]; NaN where it is not defined.

    Of more than `exact` points it is estimated, with its interval, by a sample of each cluster in proportion to its
    size, whose coefficients are exact. Source: Rousseeuw, Silhouettes, 1987; Cochran, Sampling Techniques, 1977.
    """
    if not is_defined(clusters):
        return float("nan")
    own, counts = numbered(clusters)
    centre = sum(ray.get(points.each(_sum))) / len(points)
    if len(points) <= exact:
        return float(coefficients(_all_sums(points, own, len(counts), centre), own, counts).mean())
    return _of_sample(points, own, counts, centre, seed)


def _all_sums(points: Blocks, own: Integers, clusters: int, centre: Floats) -> Floats:
    """Sum each point's distances to each cluster, every pair of pieces once, as a task of its own."""
    pieces = list(_pieces(points))
    tasks = {
        (i, j): on_worker(_pair, centre, clusters, *_given(pieces[i], own), *_given(pieces[j], own))
        if i != j
        else on_worker(_alone, centre, clusters, *_given(pieces[i], own))
        for i in range(len(pieces))
        for j in range(i, len(pieces))
    }
    sums = np.zeros((len(own), clusters))
    for i, j in list(tasks):
        of_i, of_j = ray.get(tasks.pop((i, j)))
        sums[pieces[i][2]] += of_i
        if i != j:
            sums[pieces[j][2]] += of_j
    return sums


def _of_sample(points: Blocks, own: Integers, counts: Integers, centre: Floats, seed: int) -> Estimate:
    rng = np.random.default_rng([seed, len(own)])
    wanted = np.minimum(counts, np.maximum(2, np.rint(SAMPLE * counts / len(own)).astype(int)))
    drawn = [rng.choice(np.flatnonzero(own == cluster), count, replace=False) for cluster, count in enumerate(wanted)]
    places = np.sort(np.concatenate(drawn))
    sample = ray.put(points.take(places).array())
    parts = [on_worker(_to_piece, centre, len(counts), sample, *_given(piece, own)) for piece in _pieces(points)]
    values = coefficients(sum(map(ray.get, parts)), own[places], counts)
    strata = [values[own[places] == cluster] for cluster in range(len(counts))]
    weights = counts / counts.sum()
    means = np.array([stratum.mean() for stratum in strata])
    variances = np.array([stratum.var(ddof=1) / len(stratum) if len(stratum) > 1 else 0 for stratum in strata])
    variance = (weights**2 * (1 - wanted / counts) * variances).sum()
    return normal(float(weights @ means), float(np.sqrt(variance)), least=-1, most=1)


Piece = tuple[ray.ObjectRef, slice, slice]  # a block, the piece's rows in it, and their places among all points


def _pieces(points: Blocks) -> Iterator[Piece]:
    for ref, places in zip(points.refs, points.slices, strict=True):
        for first in range(places.start, places.stop, PIECE):
            last = min(first + PIECE, places.stop)
            yield ref, slice(first - places.start, last - places.start), slice(first, last)


def _given(piece: Piece, own: Integers) -> tuple[ray.ObjectRef, slice, Integers]:
    ref, rows, places = piece
    return ref, rows, own[places]


def _sum(block: Floats) -> Floats:
    total: Floats = block.sum(0, dtype=np.float64)
    return total


def _alone(centre: Floats, clusters: int, block: Floats, rows: slice, own: Integers) -> tuple[Floats, None]:
    return sums_within(centred(block[rows], centre), memberships(own, clusters)), None


def _pair(
    centre: Floats,
    clusters: int,
    block: Floats,
    rows: slice,
    own: Integers,
    other_block: Floats,
    other_rows: slice,
    other_own: Integers,
) -> tuple[Floats, Floats]:
    left, right = centred(block[rows], centre), centred(other_block[other_rows], centre)
    return sums_between(left, memberships(own, clusters), right, memberships(other_own, clusters))


def _to_piece(centre: Floats, clusters: int, sample: Floats, block: Floats, rows: slice, own: Integers) -> Floats:
    return sums_to(centred(sample, centre), centred(block[rows], centre), memberships(own, clusters))
