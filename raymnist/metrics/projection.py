"""How faithful a projection is to the points that it shows: their neighbours before and after."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raymnist.metrics.neighbours import nearest

Points = NDArray[np.floating]
NEIGHBOURS = 10


def trustworthiness(points: Points, projected: Points) -> float:
    """Compute how few strangers are among the 10 nearest of each projected point, in [0, 1]; higher is better.

    points: [n, d] as they were. projected: [n, dims]. NaN below 21 points, where it is not defined.
    Source: Venna and Kaski, Neighborhood Preservation in Nonlinear Projection Methods, 2001; scikit-learn.
    """
    from sklearn.manifold import trustworthiness as by_ranks

    if len(points) <= 2 * NEIGHBOURS:
        return float("nan")
    return float(by_ranks(points, projected, n_neighbors=NEIGHBOURS))


def knn_recall(points: Points, projected: Points) -> float:
    """Compute the share of each point's 10 nearest that are so in the projection too, in [0, 1]; higher is better.

    points: [n, d] as they were. projected: [n, dims]. NaN below 12 points.
    Source: Lee and Verleysen, Quality assessment of dimensionality reduction: Rank-based criteria, 2009 (Q_NX).
    """
    if len(points) < NEIGHBOURS + 2:
        return float("nan")
    before, after = (_nearest(side) for side in (points, projected))
    shared = (before[:, :, np.newaxis] == after[:, np.newaxis]).any(2)
    return float(shared.mean())


def knn_accuracy(labels: NDArray[np.integer], projected: Points) -> float:
    """Compute the share of points whose 10 nearest others have mostly their label, in [0, 1]; higher is better.

    labels: [n]; of several that are as frequent, the lowest counts. projected: [n, dims]. NaN below 12 points.
    Source: Cover and Hart, Nearest neighbor pattern classification, 1967; as a score of maps in Kobak and Berens, The
    art of using t-SNE for single-cell transcriptomics, 2019.
    """
    if len(projected) < NEIGHBOURS + 2:
        return float("nan")
    values, own = np.unique(labels, return_inverse=True)
    votes = np.eye(len(values))[own][_nearest(projected)].sum(1)
    return float(np.mean(votes.argmax(1) == own))


def _nearest(points: Points) -> NDArray[np.int64]:
    """Find the 10 nearest others of each point, in float64, as maps hold points very close together."""
    exact = np.asarray(points, np.float64)
    return nearest(exact - exact.mean(0), None, NEIGHBOURS).places
