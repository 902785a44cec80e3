"""How good a clustering is: by the digits' labels, and by how real and fake mix in it.

Clusters are whole numbers [n]. Points with a negative one are noise, in no cluster; they count as one cluster of their
own, unless a score says otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import entr
from sklearn import metrics as sklearn_metrics
from sklearn.metrics.cluster import contingency_matrix

Integers = NDArray[np.integer]


def ari(labels: Integers, clusters: Integers) -> float:
    """Compute the adjusted Rand index, at most 1 and 0 by chance. Source: Hubert and Arabie, 1985."""
    return float(sklearn_metrics.adjusted_rand_score(labels, clusters))


def nmi(labels: Integers, clusters: Integers) -> float:
    """Compute the mutual information over the mean of both entropies, in [0, 1]. Source: Strehl and Ghosh, 2002."""
    return float(sklearn_metrics.normalized_mutual_info_score(labels, clusters))


def ami(labels: Integers, clusters: Integers) -> float:
    """Compute the mutual information adjusted for chance, at most 1. Source: Vinh, Epps and Bailey, 2010."""
    return float(sklearn_metrics.adjusted_mutual_info_score(labels, clusters))


def acc(labels: Integers, clusters: Integers) -> float:
    """Compute the share of points whose cluster is matched to their label by the best one-to-one matching, in [0, 1].

    Noise is matched to none. Source: Xie, Girshick and Farhadi, Unsupervised Deep Embedding for Clustering Analysis,
    2016, with Kuhn's matching.
    """
    is_in_one = clusters >= 0
    if not is_in_one.any():
        return 0.0
    table = contingency_matrix(labels[is_in_one], clusters[is_in_one])
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / len(labels))


def mixing(is_fake: ArrayLike, clusters: Integers) -> float:
    """Compute how far two populations mix in the clusters, in [0, 1]; 1 where each cluster holds the overall mix.

    The entropy of real or fake given the cluster, weighted by the clusters' sizes, over the entropy of real or fake;
    this is the homogeneity of Rosenberg and Hirschberg (V-measure, 2007) subtracted from 1. NaN with one
    population, or one cluster.

    is_fake: booleans [n]. clusters: whole numbers [n].
    """
    table = contingency_matrix(np.asarray(is_fake, bool), clusters)  # [2, clusters]
    overall = entr(table.sum(1) / table.sum()).sum()
    if overall == 0 or table.shape[1] < 2:
        return float("nan")
    sizes = table.sum(0)
    within = entr(table / sizes).sum(0)
    return float((within * sizes).sum() / sizes.sum() / overall)
