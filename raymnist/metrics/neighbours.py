"""Nearest neighbours by blocks of products, so that memory grows with the number of points and not with its square."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
BLOCK = 2_000_000  # entries of a block, 8 MB in float32; blocks of 100 MB took 1.5 times as long for neighbours


@dataclass(frozen=True)
class Nearest:
    """Of each point its nearest others, the nearest first: their places int64 [n, k] and squared distances [n, k]."""

    places: NDArray[np.int64]
    squares: Points


def blocks(points: Points, others: int) -> Iterator[tuple[int, Points]]:
    """Go through points [n, d] in blocks for products with so many others: a first row, and the points [b, d]."""
    rows = max(16, BLOCK // others)
    for start in range(0, len(points), rows):
        yield start, points[start : start + rows]


def squared_distances(points: Points, others: Points) -> Iterator[tuple[int, Points]]:
    """Go through the squared Euclidean distances of points [n, d] to others [m, d]: a first row, and a block [b, m].

    In the precision of the points; they should be centred, as |x|^2 + |y|^2 - 2xy loses digits far from 0.
    """
    norms = np.einsum("ij,ij->i", others, others)
    for start, some in blocks(points, len(others)):
        block = some @ others.T
        block *= -2
        block += norms
        block += np.einsum("ij,ij->i", some, some)[:, np.newaxis]
        np.maximum(block, 0, out=block)
        yield start, block


def nearest(points: Points, others: Points | None, count: int) -> Nearest:
    """Find for each of points [n, d] the `count` nearest of others [m, d]; with None, of the points but itself.

    Where there are fewer, as many as there are.
    """
    available = len(points) - 1 if others is None else len(others)
    count = min(count, available)
    places = np.empty((len(points), count), np.int64)
    squares = np.empty((len(points), count), points.dtype)
    for start, block in squared_distances(points, points if others is None else others):
        rows = np.arange(len(block))
        if others is None:
            block[rows, start + rows] = np.inf
        chosen = block.argmin(1)[:, np.newaxis] if count == 1 else np.argpartition(block, count - 1, axis=1)[:, :count]
        distances = np.take_along_axis(block, chosen, axis=1)
        order = np.argsort(distances, axis=1, kind="stable")
        places[start : start + len(block)] = np.take_along_axis(chosen, order, axis=1)
        squares[start : start + len(block)] = np.take_along_axis(distances, order, axis=1)
    return Nearest(places, squares)
