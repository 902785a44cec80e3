"""Frechet distances between sets of images."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from raymnist.datasets import Pixels

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


def frechet_distance(mean_a: Vector, covariance_a: Matrix, mean_b: Vector, covariance_b: Matrix) -> float:
    """Compute the squared Frechet distance of two Gaussians, at least 0.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). The last trace is the sum of the square roots of the eigenvalues
    of the symmetric C_a^(1/2) C_b C_a^(1/2), which needs no square root of a matrix that is not symmetric.

    mean_a, mean_b: [d]. covariance_a, covariance_b: [d, d].
    Source: Dowson and Landau, The Frechet distance between multivariate normal distributions, 1982.
    """
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ covariance_b @ root)
    shared = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared
    return max(0.0, float(distance))


def moments(points: NDArray[np.floating]) -> tuple[Vector, Matrix]:
    """Compute mean [d] and covariance [d, d] (divided by n - 1) of points [n, d], in float64."""
    points = np.asarray(points, np.float64)
    return points.mean(0), np.cov(points, rowvar=False).reshape(points.shape[1], points.shape[1])


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
