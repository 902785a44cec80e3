"""A Frechet distance that needs no network: on the principal components of pixels."""

from __future__ import annotations

from typing import Self

import numpy as np

from raymnist.datasets import Pixels
from raymnist.metrics.frechet import Matrix, Vector, frechet_distance, moments


class FrechetPixels:
    """The Frechet distance to real images on the principal components of real pixels.

    A cheap objective for a GAN where no classifier exists: blind to much that people see, but it falls as training
    goes on and rises when a generator collapses, which a GAN's losses do not show.
    """

    def __init__(self, mean: Vector, components: Matrix, reference: tuple[Vector, Matrix]):
        """Keep the projection, mean [D] and components [D, d], and the moments of the projected reference."""
        self.mean = mean
        self.components = components
        self.reference = reference

    @classmethod
    def fit(cls, train: Pixels, reference: Pixels, dims: int = 50) -> Self:
        """Take the first `dims` principal components of `train`, and compare with `reference` on them.

        Both are uint8 [n, H, W, C], read as [0, 1]. The components come from the first 10,000 images at most.
        """
        from sklearn.decomposition import PCA

        flat = _flat(train[:10_000])
        # The exact solver needs the covariance of all pixels: 128 MB of it at 64x64x1, the last size it is asked for.
        solver = "covariance_eigh" if flat.shape[1] <= 4096 else "randomized"
        pca = PCA(min(dims, *flat.shape), svd_solver=solver, random_state=0).fit(flat)
        components = pca.components_.T
        return cls(pca.mean_, components, moments((_flat(reference) - pca.mean_) @ components))

    def __call__(self, fakes: Pixels) -> float:
        """Compute the distance of uint8 `fakes` [n, H, W, C] from the reference; lower is better."""
        return frechet_distance(*moments((_flat(fakes) - self.mean) @ self.components), *self.reference)


def _flat(images: Pixels) -> Matrix:
    return images.reshape(len(images), -1).astype(np.float64) / 255
