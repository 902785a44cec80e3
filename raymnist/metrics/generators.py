"""The scores of a generator: its fakes beside real images, each score with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raymnist.metrics import classes, frechet, kernel, memorisation, two_sample
from raymnist.metrics.estimate import Estimate
from raymnist.metrics.manifold import HALVES, Manifold, manifold
from raymnist.metrics.neighbours import Nearest

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Features:
    """What stands for images: points float32 [n, d], and a classifier's logits float32 [n, c] where there is one."""

    points: Floats
    logits: Floats | None = None

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Features:
        """Take some of the images."""
        return Features(self.points[rows], None if self.logits is None else self.logits[rows])

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Memory:
    """The training images [m, d], with each one's squared distance to its nearest other one [m]."""

    training: Floats
    own: Floats


@dataclass(frozen=True)
class Comparison:
    """Fakes beside a real reference; what several scores share is computed once.

    counts: of the classes among the data, by its own labels, int64 [c]. memory: what a generator could have copied.
    has_intervals: without, the scores of neighbourhoods are sooner computed.
    """

    real: Features
    fake: Features
    seed: int
    counts: NDArray[np.int64] | None = None
    memory: Memory | None = None
    has_intervals: bool = True

    @cached_property
    def frechet(self) -> tuple[Estimate, Estimate]:
        """FID, and FID extrapolated."""
        return frechet.fid(self.real.points, self.fake.points, self.seed)

    @cached_property
    def manifold(self) -> Manifold:
        """The scores of neighbourhoods."""
        return manifold(self.real.points, self.fake.points, self.seed, HALVES if self.has_intervals else 0)

    @cached_property
    def modes(self) -> tuple[Estimate, Estimate]:
        """The classes that are there, and the divergence of their shares."""
        assert self.fake.logits is not None and self.counts is not None
        return classes.modes(self.fake.logits, self.counts, self.seed)

    @cached_property
    def copied(self) -> Nearest:
        """The nearest training image of each fake."""
        assert self.memory is not None
        return memorisation.nearest_training(self.fake.points, self.memory.training)


def fid(comparison: Comparison) -> Estimate:
    """The Frechet distance at this number of images."""
    return comparison.frechet[0]


def fid_infinity(comparison: Comparison) -> Estimate:
    """The Frechet distance extrapolated to infinitely many images."""
    return comparison.frechet[1]


def kid(comparison: Comparison) -> Estimate:
    """The kernel distance."""
    return kernel.kid(comparison.real.points, comparison.fake.points)


def mnist_score(comparison: Comparison) -> Estimate:
    """The Inception score by the data set's classifier."""
    assert comparison.fake.logits is not None
    return classes.mnist_score(comparison.fake.logits, comparison.seed)


def precision(comparison: Comparison) -> Estimate:
    """The share of fakes that look like real images."""
    return comparison.manifold.precision


def recall(comparison: Comparison) -> Estimate:
    """The share of real images that fakes look like."""
    return comparison.manifold.recall


def density(comparison: Comparison) -> Estimate:
    """How densely real images lie around fakes."""
    return comparison.manifold.density


def coverage(comparison: Comparison) -> Estimate:
    """The share of real images with a fake near by."""
    return comparison.manifold.coverage


def c2st(comparison: Comparison) -> Estimate:
    """How often a network tells real from fake."""
    return two_sample.c2st(comparison.real.points, comparison.fake.points, comparison.seed)


def c2st_1nn(comparison: Comparison) -> Estimate:
    """How often the nearest other image is of the same kind."""
    return comparison.manifold.c2st_1nn


def modes_present(comparison: Comparison) -> Estimate:
    """How many classes there are."""
    return comparison.modes[0]


def modes_kl(comparison: Comparison) -> Estimate:
    """How far the classes' shares are from those of the data."""
    return comparison.modes[1]


def authpct(comparison: Comparison) -> Estimate:
    """The percentage of fakes that are no copies."""
    assert comparison.memory is not None
    return memorisation.authpct(comparison.copied, comparison.memory.own)
