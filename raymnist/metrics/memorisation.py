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
    return nearest(fake - centre, training - centre, 1)


def own_distances(training: Points) -> Points:
    """Compute each training image's squared distance to the nearest other one: [m] of [m, d]."""
    return nearest(training - training.mean(0), None, 1).squares[:, 0]


def authpct(found: Nearest, own: Points) -> Estimate:
    """Compute the percentage of fakes that are authentic, 0 to 100.

    A fake is authentic if it lies further from its nearest training image than that image from its own nearest other
    one. Copies bring it down; images unlike the data bring it up, so that it says nothing about quality. The interval
    is of the share of images, with the training images as they are.
    found: as by `nearest_training`. own: as by `own_distances`.
    Source: Alaa et al., How Faithful is your Synthetic Data?, 2022; in percent in dgm-eval (Stein et al., 2023).
    """
    return share(found.squares[:, 0] > own[found.places[:, 0]], scale=100)
