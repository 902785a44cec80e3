"""How far fakes are copies of training images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raymnist.metrics.estimate import Estimate, share
from raymnist.metrics.neighbours import Nearest, nearest

Points = NDArray[np.floating]


def nearest_training(fake: Points, training: Points) -> Nearest:
    """Find the nearest of the training images [m, d] for each fake [n, d]."""
    centre = training.mean(0)
    return _without_rounding(nearest(fake - centre, training - centre, 1), fake - centre)


def own_distances(training: Points) -> Points:
    """Compute each training image's squared distance to the nearest other one: [m] of [m, d]."""
    centred = training - training.mean(0)
    return _without_rounding(nearest(centred, None, 1), centred).squares[:, 0]


def _without_rounding(found: Nearest, points: Points) -> Nearest:
    """Put copies at distance 0, which |x|^2 + |y|^2 - 2xy misses by some units in the last place of |x|^2."""
    squares = found.squares
    least = 64 * np.finfo(squares.dtype).eps * np.einsum("ij,ij->i", points, points)[:, np.newaxis]
    return Nearest(found.places, np.where(squares < least, 0, squares).astype(squares.dtype))


def authpct(found: Nearest, own: Points) -> Estimate:
    """Compute the percentage of fakes that are authentic, 0 to 100.

    A fake is authentic if it lies further from its nearest training image than that image from its own nearest other
    one. Copies bring it down; images unlike the data bring it up, so that it says nothing about quality. The interval
    is of the share of images, with the training images as they are.
    found: as by `nearest_training`. own: as by `own_distances`.
    Source: Alaa et al., How Faithful is your Synthetic Data?, 2022; in percent in dgm-eval (Stein et al., 2023).
    """
    return share(found.squares[:, 0] > own[found.places[:, 0]], scale=100)
