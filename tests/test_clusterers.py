"""Every listed clusterer, alone and past memory, and the silhouette that compares them."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.cluster import KMeans
from test_evaluation import blobs
from test_reducers import CUTS

from raymnist.config import Part
from raymnist.evaluation import blocks, clusterers, lloyd, silhouettes
from raymnist.evaluation.blocks import Blocks
from raymnist.evaluation.clusterers import CLUSTERERS
from raymnist.metrics import Estimate

SMALL = {"hdbscan": {"min_size": 10}}
cut_in = pytest.mark.parametrize("cuts", CUTS.values(), ids=[f"{count} blocks" for count in CUTS])


def resolved(name, **options):
    return clusterers.resolve(Part(name=name, options={**SMALL.get(name, {}), **options}), "test")


@pytest.mark.parametrize("name", sorted(CLUSTERERS))
def test_a_listed_clusterer_finds_separate_groups_and_repeats_itself(name, rng, ray_session):
    points, labels = blobs(rng, 200, 3)
    clusters = clusterers.cluster(resolved(name), Blocks.of(points), classes=4, seed=0)
    assert clusters.dtype == np.int64
    assert metrics.adjusted_rand_score(labels, clusters) > 0.97
    np.testing.assert_array_equal(clusters, clusterers.cluster(resolved(name), Blocks.of(points), 4, 0))


@pytest.mark.parametrize("name", sorted(set(CLUSTERERS) - {"kmeans"}))
def test_a_listed_clusterer_tells_the_clusters_of_points_beyond_its_sample(name, rng, ray_session):
    points, labels = blobs(rng, 600, 3)
    clusters = clusterers.cluster(resolved(name, sample=200), Blocks.of(*np.split(points, [50])), 4, 0)
    assert clusters.shape == (600,)
    assert metrics.adjusted_rand_score(labels, clusters) > 0.95


@pytest.mark.parametrize("name", ["kmeans", "minibatch_kmeans", "gmm"])
def test_the_number_of_clusters_may_be_fixed_or_chosen_by_silhouette(name, rng, ray_session):
    points = Blocks.of(blobs(rng, 200)[0])
    assert len(np.unique(clusterers.cluster(resolved(name, clusters=7), points, 4, 0))) == 7
    assert len(np.unique(clusterers.cluster(resolved(name, clusters=[2, 7]), points, 10, 0))) == 4


def test_the_fewest_clusters_come_before_the_most():
    with pytest.raises(ValueError, match=r"test.kmeans.clusters: expected the fewest before the most, received .7, 2."):
        resolved("kmeans", clusters=[7, 2])


def test_hdbscan_leaves_points_between_the_groups_as_noise(rng, ray_session):
    points, _ = blobs(rng, 200, 2)
    stray = np.array([[40, 40], [-40, 40], [40, -40]], np.float32)
    clusters = clusterers.cluster(resolved("hdbscan"), Blocks.of(points, stray), 4, 0)
    assert (clusters[-3:] == clusterers.NOISE).all()


@pytest.mark.parametrize(
    ("points", "classes", "said"),
    [
        (np.zeros((5, 2)), 3, "kmeans: expected at least 3 different points, one for each cluster, received 1"),
        (np.eye(5), 1, "kmeans: the data has a single class; say how many `clusters`"),
        (np.empty((0, 2)), 3, "kmeans: expected points, received none"),
    ],
)
def test_what_cannot_be_clustered_is_said_in_a_line(points, classes, said, ray_session):
    with pytest.raises(ValueError, match=said):
        clusterers.cluster(resolved("kmeans"), Blocks.of(points), classes, 0)


@cut_in
def test_kmeans_past_memory_has_the_inertia_of_scikit_learns_from_the_same_centres(rng, ray_session, cuts):
    points = (rng.normal(size=(400, 12)) + 3).astype(np.float32)
    first = points[rng.choice(400, 6, replace=False)]
    expected = KMeans(6, init=first, n_init=1).fit(points)
    found = lloyd.lloyd(Blocks.of(*np.split(points, cuts)), first[np.newaxis])
    assert found.inertia == pytest.approx(expected.inertia_, rel=1e-6)
    np.testing.assert_array_equal(found.clusters, expected.labels_)
    np.testing.assert_allclose(found.centres, expected.cluster_centers_, rtol=1e-5, atol=1e-5)


def test_kmeans_past_memory_keeps_the_best_of_several_starts(rng, ray_session):
    points = rng.normal(size=(300, 3)).astype(np.float32)
    first = np.stack([points[rng.choice(300, 8, replace=False)] for _ in range(5)])
    held = Blocks.of(*np.split(points, [100]))
    alone = [lloyd.lloyd(held, start[np.newaxis]).inertia for start in first]
    assert lloyd.lloyd(held, first).inertia == pytest.approx(min(alone), rel=1e-9)
    assert max(alone) > 1.001 * min(alone)


@cut_in
def test_kmeans_past_memory_refills_empty_clusters_as_scikit_learn_does(rng, ray_session, cuts):
    points, _ = blobs(rng, 400)
    first = np.concatenate([points[:2], np.full((2, 6), 1e3, np.float32)])  # two that no point is near
    expected = KMeans(4, init=first, n_init=1).fit(points)
    found = lloyd.lloyd(Blocks.of(*np.split(points, cuts)), first[np.newaxis])
    assert len(np.unique(found.clusters)) == 4
    assert found.inertia == pytest.approx(expected.inertia_, rel=1e-6)


def test_a_point_that_refills_a_cluster_leaves_the_one_it_was_in(rng, ray_session):
    """After one move of the centres, as later ones would come to the same end."""
    points, _ = blobs(rng, 400)
    first = np.concatenate([points[:2], np.full((2, 6), 1e3, np.float32)])
    expected = KMeans(4, init=first, n_init=1, max_iter=1).fit(points).cluster_centers_
    moved = lloyd._moved(Blocks.of(*np.split(points, [150])), first[np.newaxis].astype(float), points.mean(0))[0]
    order, other = (np.lexsort(centres.T.round(3)) for centres in (moved, expected))
    np.testing.assert_allclose(moved[order], expected[other], rtol=1e-4, atol=1e-4)


def test_kmeans_past_memory_finds_far_groups_in_spite_of_float32(rng, ray_session):
    points, labels = blobs(rng, 400)
    found = lloyd.kmeans(Blocks.of(*np.split(points + np.float32(1e4), [37])), 4, 2, 0)
    assert metrics.adjusted_rand_score(labels, found.clusters) == pytest.approx(1)


def test_kmeans_serves_codes_of_any_size_under_one_name(rng, ray_session, monkeypatch):
    points, labels = blobs(rng, 400)
    monkeypatch.setattr(blocks, "IN_MEMORY", 0)
    clusters = clusterers.cluster(resolved("kmeans"), Blocks.of(*np.split(points, [100, 101])), 4, 0)
    assert metrics.adjusted_rand_score(labels, clusters) == pytest.approx(1)


@cut_in
def test_the_silhouette_of_blocks_equals_scikit_learns(rng, ray_session, cuts, monkeypatch):
    monkeypatch.setattr(silhouettes, "PIECE", 150)
    points, clusters = rng.normal(size=(400, 5)).astype(np.float32) + 100, rng.integers(0, 6, 400)
    clusters[7] = 6  # alone in its cluster
    found = silhouettes.silhouette(Blocks.of(*np.split(points, cuts)), clusters, 0)
    assert found == pytest.approx(metrics.silhouette_score(points.astype(float), clusters), abs=1e-9)


def test_the_silhouette_of_a_sample_has_an_interval_that_holds_the_exact_one(rng, ray_session, monkeypatch):
    """Of 40 samples, 95 % intervals should miss 2; more than 6 would happen once in 50 times."""
    monkeypatch.setattr(silhouettes, "SAMPLE", 100)
    points = np.concatenate([blobs(rng, 300, 2)[0] / 3, rng.normal(size=(40, 2)).astype(np.float32) * 5])
    clusters = np.concatenate([np.arange(300) % 4, np.full(40, 4)])
    exact = metrics.silhouette_score(points, clusters)
    held = Blocks.of(*np.split(points, [100]))
    found = [silhouettes.silhouette(held, clusters, seed, exact=50) for seed in range(40)]
    assert all(isinstance(one, Estimate) for one in found)
    assert sum(not one.low <= exact <= one.high for one in found) <= 6
    assert np.mean([one.value for one in found]) == pytest.approx(exact, abs=0.01)
    assert np.std([one.value for one in found]) > 0.001


def test_a_sample_of_all_points_has_the_exact_silhouette(rng, ray_session):
    points, clusters = blobs(rng, 200)
    found = silhouettes.silhouette(Blocks.of(points), clusters, 0, exact=10)
    assert found.low == found.value == found.high == pytest.approx(metrics.silhouette_score(points, clusters), abs=1e-6)
