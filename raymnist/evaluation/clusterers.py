"""Clusterers: from points to a cluster's number for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raymnist import settings
from raymnist.config import Part
from raymnist.errors import InputError, choices

Points = NDArray[np.float32]
Clusters = NDArray[np.int64]


class KMeansOptions(settings.Settings):
    """clusters: how many; `None` stands for the number of classes. starts: random starts, of which the best is kept."""

    clusters: int | None = Field(None, ge=2)
    starts: int = Field(4, ge=1)


def kmeans(points: Points, classes: int, options: KMeansOptions, seed: int) -> Clusters:
    """Cluster around means. Source: Lloyd, 1982; Arthur and Vassilvitskii, k-means++, 2007; scikit-learn."""
    from sklearn.cluster import KMeans

    clusterer = KMeans(min(options.clusters or classes, len(points)), n_init=options.starts, random_state=seed)
    return np.asarray(clusterer.fit_predict(points), np.int64)


@dataclass(frozen=True)
class Clusterer:
    """A function from (points [n, d], number of classes, options, seed) to clusters [n]."""

    function: Callable[[Points, int, Any, int], Clusters]
    options: type[settings.Settings]
    text: str


CLUSTERERS: dict[str, Clusterer] = {
    "kmeans": Clusterer(kmeans, KMeansOptions, "k-means, as many clusters as classes"),
}


def resolve(part: Part, where: str) -> Part:
    """Fill in a clusterer's defaults; raises InputError for an unknown name or a wrong option."""
    if part.name not in CLUSTERERS:
        raise InputError(f"{where}: {choices('clusterer', part.name, CLUSTERERS)}")
    options = settings.validate(CLUSTERERS[part.name].options, part.options, f"{where}.{part.name}.")
    return Part(name=part.name, options=options.model_dump())


def cluster(part: Part, points: Points, classes: int, seed: int) -> Clusters:
    """Cluster points float32 [n, d] with a resolved clusterer; returns int64 [n]."""
    clusterer = CLUSTERERS[part.name]
    return clusterer.function(points, classes, clusterer.options(**part.options), seed)
