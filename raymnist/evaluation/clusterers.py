"""Clusterers: from points to a cluster's number for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import ray
from numpy.typing import NDArray
from pydantic import Field

from raymnist import settings
from raymnist.config import Part
from raymnist.errors import InputError, choices
from raymnist.evaluation import lloyd
from raymnist.evaluation.blocks import Blocks, in_one, on_worker
from raymnist.metrics.silhouette import silhouette

Points = NDArray[np.float32]
Clusters = NDArray[np.int64]
Predict = Callable[[Points], NDArray[Any]]
Fitted = tuple[NDArray[Any], Predict]
NOISE = -1  # the number of points in no cluster
COMPARED = 10_000  # points whose silhouette compares numbers of clusters

Count = Annotated[int, Field(ge=2)]


class KMeansOptions(settings.Settings):
    """clusters: how many, or the fewest and the most of which the silhouette chooses; `None` for as many as classes.

    starts: random starts, of which the best is kept.
    """

    clusters: Count | Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    starts: int = Field(4, ge=1)


class MiniBatchOptions(KMeansOptions):
    """As of k-means. sample: points at most that it is fitted on."""

    sample: int = Field(200_000, ge=100)


class GMMOptions(KMeansOptions):
    """As of k-means. covariance: of each component. sample: points at most that it is fitted on."""

    starts: int = Field(1, ge=1)
    covariance: Literal["full", "tied", "diag", "spherical"] = "full"
    sample: int = Field(200_000, ge=100)


class HDBSCANOptions(settings.Settings):
    """min_size: of a cluster. min_samples: neighbours that make a point dense; `None` for as many as min_size.

    sample: points at most that it is fitted on.
    """

    min_size: int = Field(100, ge=2)
    min_samples: int | None = Field(None, ge=1)
    sample: int = Field(100_000, ge=100)


def kmeans(points: Points, clusters: int, options: KMeansOptions, seed: int) -> Fitted:
    """Cluster around means. Source: Lloyd, 1982; Arthur and Vassilvitskii, k-means++, 2007; scikit-learn."""
    from sklearn.cluster import KMeans

    clusterer = KMeans(clusters, n_init=options.starts, random_state=seed).fit(points)
    return clusterer.labels_, clusterer.predict


def kmeans_of_blocks(points: Blocks, clusters: int, options: KMeansOptions, seed: int) -> Clusters:
    """Cluster around means, by partial sums of blocks."""
    return lloyd.kmeans(points, clusters, options.starts, seed).clusters


def minibatch_kmeans(points: Points, clusters: int, options: MiniBatchOptions, seed: int) -> Fitted:
    """Cluster around means that small samples move. Source: Sculley, Web-scale k-means clustering, 2010."""
    from sklearn.cluster import MiniBatchKMeans

    clusterer = MiniBatchKMeans(clusters, n_init=options.starts, random_state=seed).fit(points)
    return clusterer.labels_, clusterer.predict


def gmm(points: Points, clusters: int, options: GMMOptions, seed: int) -> Fitted:
    """Fit a mixture of Gaussians by expectation maximisation. Source: Dempster, Laird and Rubin, 1977; scikit-learn."""
    from sklearn.mixture import GaussianMixture

    exact = np.asarray(points, np.float64)  # narrow components in float32 have no covariance left
    clusterer = GaussianMixture(clusters, covariance_type=options.covariance, n_init=options.starts, random_state=seed)
    return clusterer.fit(exact).predict(exact), clusterer.predict


def hdbscan(points: Points, clusters: int, options: HDBSCANOptions, seed: int) -> Fitted:
    """Find dense regions of any number and shape; points in none of them are noise.

    Other points join the cluster, or the noise, of the nearest one. Source: Campello, Moulavi and Sander, 2013.
    """
    from sklearn.neighbors import KNeighborsClassifier

    found = _hdbscan(points, options)
    return found, KNeighborsClassifier(1).fit(points, found).predict


def _hdbscan(points: Points, options: HDBSCANOptions) -> Clusters:
    from hdbscan import HDBSCAN

    clusterer = HDBSCAN(min_cluster_size=options.min_size, min_samples=options.min_samples, core_dist_n_jobs=1)
    return np.asarray(clusterer.fit_predict(np.asarray(points, np.float64)))


@dataclass(frozen=True)
class Clusterer:
    """A way to cluster.

    fit: from (points [n, d], number of clusters, options, seed) to the points' clusters [n] and a function that tells
        those of other points. of_blocks: the same clusters for points of any number, from blocks.
    has_noise: whether points may be in no cluster.
    """

    fit: Callable[[Points, int, Any, int], Fitted]
    options: type[settings.Settings]
    text: str
    of_blocks: Callable[[Blocks, int, Any, int], Clusters] | None = None
    has_noise: bool = False


CLUSTERERS: dict[str, Clusterer] = {
    "kmeans": Clusterer(kmeans, KMeansOptions, "k-means", kmeans_of_blocks),
    "minibatch_kmeans": Clusterer(minibatch_kmeans, MiniBatchOptions, "k-means by small samples"),
    "gmm": Clusterer(gmm, GMMOptions, "a mixture of Gaussians"),
    "hdbscan": Clusterer(hdbscan, HDBSCANOptions, "dense regions, and noise between them", has_noise=True),
}


def resolve(part: Part, where: str) -> Part:
    """Fill in a clusterer's defaults; raises InputError for an unknown name or a wrong option."""
    if part.name not in CLUSTERERS:
        raise InputError(f"{where}: {choices('clusterer', part.name, CLUSTERERS)}")
    resolved = part.resolved(CLUSTERERS[part.name].options, where)
    assert isinstance(resolved.options, dict)
    clusters = resolved.options.get("clusters")
    if isinstance(clusters, list) and clusters[0] >= clusters[1]:
        raise InputError(f"{where}.{part.name}.clusters: expected the fewest before the most, received {clusters}")
    return resolved


def label(part: Part) -> str:
    """Name a resolved clusterer: by its label, else as it is."""
    return part.label or part.name


def cluster(part: Part, points: Blocks, classes: int, seed: int) -> Clusters:
    """Cluster points [n, d] with a resolved clusterer, by Ray tasks; returns int64 [n], -1 for noise.

    The points are finite. Raises InputError for none at all, or fewer different ones than clusters.
    """
    clusterer = CLUSTERERS[part.name]
    options = clusterer.options.model_validate(part.options)
    wanted = getattr(options, "clusters", None) or classes
    if not len(points):
        raise InputError(f"{label(part)}: expected points, received none")
    if not clusterer.has_noise:
        if wanted == 1:
            raise InputError(f"{label(part)}: the data has a single class; say how many `clusters`")
        most = wanted[1] if isinstance(wanted, list) else wanted
        different = _different(points, most)
        if different < most:
            raise InputError(
                f"{label(part)}: expected at least {most} different points, one for each cluster, received {different}"
            )
    if isinstance(wanted, list):
        return _chosen(clusterer, points, range(wanted[0], wanted[1] + 1), options, seed)
    return _cluster(clusterer, points, wanted, options, seed)


def _cluster(clusterer: Clusterer, points: Blocks, clusters: int, options: Any, seed: int) -> Clusters:
    if clusterer.of_blocks and not points.fits:
        return clusterer.of_blocks(points, clusters, options, seed)
    places = points.sample(getattr(options, "sample", len(points)), seed)
    some = points if len(places) == len(points) else points.take(places)
    found, predict = _fit.remote(clusterer, clusters, options, seed, *some.refs)
    if len(places) == len(points):
        return np.asarray(ray.get(found))
    return np.concatenate(ray.get(points.each(_predict, predict)))


def _chosen(clusterer: Clusterer, points: Blocks, counts: range, options: Any, seed: int) -> Clusters:
    """Keep the number of clusters whose silhouette, on a sample of the points, is highest."""
    found = [_cluster(clusterer, points, count, options, seed) for count in counts]
    places = points.sample(COMPARED, seed)
    sample = points.take(places)
    values = ray.get([on_worker(_silhouette, clusters[places], *sample.refs) for clusters in found])
    print("silhouette by number of clusters:", dict(zip(counts, np.round(values, 4).tolist(), strict=True)))
    if np.isnan(values).all():
        raise InputError(f"from {counts[0]} to {counts[-1]} clusters none has a silhouette: all points are in one")
    return found[int(np.nanargmax(values))]


def _silhouette(clusters: Clusters, *blocks: Points) -> float:
    return silhouette(in_one(*blocks), clusters)


def _predict(points: Points, predict: Predict) -> Clusters:
    return np.asarray(predict(points), np.int64)


@ray.remote(num_cpus=1, num_returns=2)
def _fit(clusterer: Clusterer, clusters: int, options: Any, seed: int, *blocks: Points) -> tuple[Clusters, Predict]:
    found, predict = clusterer.fit(in_one(*blocks), clusters, options, seed)
    return np.asarray(found, np.int64), predict


def _different(points: Blocks, enough: int) -> int:
    """Count the different points, up to `enough`."""
    seen: set[bytes] = set()
    for some in points.each(_first_different, enough):
        seen |= ray.get(some)
        if len(seen) >= enough:
            return enough
    return len(seen)


def _first_different(block: Points, enough: int) -> set[bytes]:
    seen: set[bytes] = set()
    for row in np.ascontiguousarray(block):
        seen.add(row.tobytes())
        if len(seen) >= enough:
            break
    return seen
