"""The Frechet distance of two sets of features, its extrapolation to infinitely many, and its interval."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from raymnist.metrics.estimate import Estimate, normal

Points = NDArray[np.floating]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


def frechet_distance(mean_a: Vector, covariance_a: Matrix, mean_b: Vector, covariance_b: Matrix) -> float:
    """Compute the squared Frechet distance of two Gaussians, at least 0.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). The last trace is the sum of the square roots of the eigenvalues
    of the symmetric C_a^(1/2) C_b C_a^(1/2), which needs no square root of a matrix that is not symmetric.

    mean_a, mean_b: [d]. covariance_a, covariance_b: [d, d].
    Source: Dowson and Landau, The Frechet distance between multivariate normal distributions, 1982.
    """
    root = _power(covariance_a, 0.5)
    eigenvalues = np.linalg.eigvalsh(root @ covariance_b @ root)
    shared = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared
    return max(0.0, float(distance))


def moments(points: NDArray[np.floating]) -> tuple[Vector, Matrix]:
    """Compute mean [d] and covariance [d, d] (divided by n - 1) of points [n, d], in float64."""
    points = np.asarray(points, np.float64)
    return points.mean(0), np.cov(points, rowvar=False).reshape(points.shape[1], points.shape[1])


SIZES = 15  # of the extrapolation, as in its source
ROWS_PER_DIMENSION = 5  # in the smallest part: below, the bias is no longer in proportion to 1/n


def fid(real: Points, fake: Points, seed: int) -> tuple[Estimate, Estimate]:
    """Compute the Frechet distance of `fake` [m, d] from `real` [n, d], and extrapolate it to infinitely many of both.

    FID is too large by about c/n. The sets are cut into 2, 3, ... 15 disjoint parts, and the mean distance of the parts
    of each size gives c: all images take part in each mean, so that these differ by c and by the chance of the cut
    alone, whose variance grows with the number of parts less one. The line therefore goes through the distance of the
    whole sets, and its slope is the ratio of sums that such weights give.

    The variance is what each image contributes to first order (its influence), and, as that vanishes where both
    distributions are one, the second order, seen in the spread over the cuts. Taken from the same images the former
    holds the latter twice, as the jackknife of a quadratic form does. No image is drawn twice: it would bias FID.

    The extrapolation is NaN for fewer than 15 images per dimension, which leave fewer than three sizes.
    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017 (FID, on Inception's features); Chong and
    Forsyth, Effectively Unbiased FID and Inception Score, 2020 (15 sizes, a line in 1/n); Hampel, The Influence Curve
    and its Role in Robust Estimation, 1974.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    real_moments, fake_moments = moments(real), moments(fake)
    whole = frechet_distance(*fake_moments, *real_moments)
    first_order = _influence(fake, fake_moments, real_moments) + _influence(real, real_moments, fake_moments)
    most = min(SIZES, min(len(real), len(fake)) // (ROWS_PER_DIMENSION * real.shape[1]))
    if most < 3:
        return normal(whole, math.sqrt(first_order), least=0), Estimate(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    parts = np.arange(2, most + 1)
    rises = np.array([_mean_over_parts(real, fake, count, rng) for count in parts]) - whole
    slope = rises.sum() / (parts - 1).sum()
    residuals = rises - slope * (parts - 1)
    second_order = (residuals**2 / (parts - 1)).sum() / (len(parts) - 1)
    variance = max(first_order - second_order, second_order)
    of_slope = second_order / (parts - 1).sum()
    return normal(whole, math.sqrt(variance), least=0), normal(whole - slope, math.sqrt(variance + of_slope))


def _mean_over_parts(real: Points, fake: Points, count: int, rng: np.random.Generator) -> float:
    """Cut both sets into `count` parts and average the distances of the pairs."""
    cuts = [np.array_split(rng.permutation(len(points)), count) for points in (real, fake)]
    distances = [
        frechet_distance(*moments(fake[of_fake]), *moments(real[of_real]))
        for of_real, of_fake in zip(*cuts, strict=True)
    ]
    return float(np.mean(distances))


def _influence(points: Points, own: tuple[Vector, Matrix], other: tuple[Vector, Matrix]) -> float:
    """Compute the variance that the sampling of `points` gives to the distance, to first order.

    A point x moves the distance by 2 (m - m') (x - m) + (x - m) (I - T) (x - m), less a constant, with T the map that
    carries one Gaussian into the other, C'^(1/2) (C'^(1/2) C C'^(1/2))^(-1/2) C'^(1/2).
    """
    centred = points - own[0]
    root = _power(other[1], 0.5)
    transport = root @ _power(root @ own[1] @ root, -0.5) @ root
    moved = 2 * centred @ (own[0] - other[0]) + ((centred @ (np.eye(len(transport)) - transport)) * centred).sum(1)
    return float(moved.var(ddof=1) / len(points))


def _power(symmetric: Matrix, exponent: float) -> Matrix:
    """Raise a positive semidefinite matrix to a power, where directions without variance stay without."""
    values, vectors = np.linalg.eigh(symmetric)
    kept = values > 1e-10 * max(values[-1], 0)
    powers = np.where(kept, np.where(kept, values, 1) ** exponent, 0)
    return (vectors * powers) @ vectors.T
