import numpy as np
import pytest
from scipy import linalg
from scipy.spatial.distance import cdist
from sklearn import metrics
from sklearn.neighbors import NearestNeighbors

from raymnist.metrics import CLUSTERING_METRICS, METRICS, FrechetPixels
from raymnist.metrics.clustering import acc, ami, ari, mixing, nmi
from raymnist.metrics.frechet import frechet_distance, moments
from raymnist.metrics.projection import knn_accuracy, knn_recall, trustworthiness
from raymnist.metrics.silhouette import silhouette

DIGITS = np.repeat(np.arange(10), 50)


@pytest.mark.parametrize("name", sorted(CLUSTERING_METRICS))
def test_a_listed_metric_ignores_the_names_of_clusters_and_the_order_of_points(name, rng):
    metric = CLUSTERING_METRICS[name]
    given = {
        "points": rng.normal(size=(500, 3)) + DIGITS[:, None],
        "labels": DIGITS,
        "sources": rng.random(500) < 0.5,
    }[metric.needs]
    clusters = (DIGITS + (rng.random(500) < 0.3)) % 10
    value = metric.function(given, clusters)
    assert isinstance(value, float)
    assert value == pytest.approx(metric.function(given, (clusters + 3) % 10))
    shuffled = rng.permutation(500)
    assert value == pytest.approx(metric.function(given[shuffled], clusters[shuffled]))


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_listed_metric_says_what_is_better(name):
    assert METRICS[name].direction in ("min", "max")
    assert METRICS[name].text


@pytest.mark.parametrize("score", [ari, nmi, ami, acc])
def test_label_scores_are_one_for_the_same_grouping_under_other_names(score):
    assert score(DIGITS, (DIGITS + 3) % 10) == pytest.approx(1.0)


@pytest.mark.parametrize("score", [ari, ami])
def test_adjusted_scores_are_zero_by_chance(score, rng):
    values = [score(DIGITS, rng.integers(0, 10, 500)) for _ in range(50)]
    assert np.mean(values) == pytest.approx(0, abs=0.003)


def test_ari_equals_the_hand_worked_table():
    # Clusters {a a b | b b c | c}: pairs together in both 1, in labels 5, in clusters 6 + ... of 21 pairs.
    labels, clusters = np.array([0, 0, 1, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 1, 2])
    both, of_labels, of_clusters, pairs = 1 + 1, 1 + 3 + 1, 3 + 3, 21
    expected = of_labels * of_clusters / pairs
    assert ari(labels, clusters) == pytest.approx((both - expected) / ((of_labels + of_clusters) / 2 - expected))


def test_nmi_equals_its_definition_from_the_joint_distribution(rng):
    labels, clusters = rng.integers(0, 4, 300), rng.integers(0, 6, 300)
    joint = np.histogram2d(labels, clusters, (4, 6))[0] / 300
    rows, columns = joint.sum(1), joint.sum(0)
    information = np.nansum(joint * np.log(joint / np.outer(rows, columns), where=joint > 0, out=np.zeros_like(joint)))
    entropies = -(rows * np.log(rows)).sum(), -(columns * np.log(columns)).sum()
    assert nmi(labels, clusters) == pytest.approx(information / np.mean(entropies))


def test_acc_matches_each_label_to_one_cluster():
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert acc(labels, np.array([1, 1, 1, 1, 1, 0])) == pytest.approx(4 / 6)  # both in cluster 1: one label only counts
    assert acc(labels, np.array([0, 1, 2, 3, 4, 5])) == pytest.approx(2 / 6)


def test_silhouette_equals_its_definition(rng):
    points, clusters = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    distances = cdist(points, points)
    values = []
    for i in range(60):
        own = (clusters == clusters[i]) & (np.arange(60) != i)
        a = distances[i, own].mean()
        b = min(distances[i, clusters == other].mean() for other in range(3) if other != clusters[i])
        values.append((b - a) / max(a, b))
    assert silhouette(points, clusters) == pytest.approx(np.mean(values))


@pytest.mark.parametrize("clusters", [np.zeros(5, int), np.arange(5)])
def test_silhouette_is_nan_where_it_is_not_defined(clusters, rng):
    assert np.isnan(silhouette(rng.normal(size=(5, 2)), clusters))


def test_mixing_is_one_for_equal_shares_and_zero_for_separate_clusters():
    clusters = np.repeat([0, 1], 100)
    assert mixing(np.tile([True, False], 100), clusters) == pytest.approx(1)
    assert mixing(clusters == 1, clusters) == pytest.approx(0)


def test_mixing_equals_the_hand_worked_entropies():
    # Cluster 0: 3 real, 1 fake; cluster 1: 1 real, 3 fake; overall half and half, entropy 1 bit.
    is_fake = np.array([0, 0, 0, 1, 0, 1, 1, 1], bool)
    bits = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert mixing(is_fake, np.repeat([0, 1], 4)) == pytest.approx(bits)


def test_mixing_weighs_clusters_by_their_sizes_as_homogeneity_does(rng):
    clusters = np.repeat([0, 1, 2], [10, 90, 400])
    is_fake = rng.random(500) < np.array([0.1, 0.4, 0.8])[clusters]
    assert mixing(is_fake, clusters) == pytest.approx(1 - metrics.homogeneity_score(is_fake, clusters))


def test_mixing_is_relative_to_an_unequal_overall_mix():
    is_fake = np.tile([True, False, False, False], 50)
    assert mixing(is_fake, np.repeat(np.arange(5), 40)) == pytest.approx(1)
    assert np.isnan(mixing(np.ones(4, bool), np.arange(4)))
    assert np.isnan(mixing(np.arange(4) < 2, np.full(4, -1)))  # where all is noise, nothing is told


def test_frechet_distance_equals_scipys_square_root_of_the_product(rng):
    a, b = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(300, 6)) + 1
    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    formula = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(formula, rel=1e-8)


def test_frechet_distance_of_separate_axes_is_worked_by_hand():
    # (2 - 1)^2 + (3 - 1)^2 for the deviations, 5^2 for the means
    distance = frechet_distance(np.zeros(2), np.diag([4.0, 9.0]), np.array([3.0, 4.0]), np.eye(2))
    assert distance == pytest.approx(25 + 1 + 4)


def test_frechet_distance_works_without_full_rank(rng):
    points = rng.normal(size=(5, 20))
    assert frechet_distance(*moments(points), *moments(points)) == pytest.approx(0, abs=1e-9)


def test_frechet_pixels_ranks_real_images_before_blurred_ones_and_noise(digits, rng):
    distance = FrechetPixels.fit(digits.train, digits.validation)
    blurred = ((digits.train.astype(float) + np.roll(digits.train, 3, 2)) / 2).astype(np.uint8)
    noise = rng.integers(0, 256, digits.train.shape, dtype=np.uint8)
    one_digit = np.repeat(digits.train[:1], 200, 0)
    real = distance(digits.test)
    assert real < distance(blurred) < distance(noise)
    assert real < distance(one_digit)


def test_frechet_pixels_projects_on_scikit_learns_components(digits):
    from sklearn.decomposition import PCA

    flat = digits.train.reshape(len(digits.train), -1) / 255
    pca = PCA(50, svd_solver="full").fit(flat)
    ours = FrechetPixels.fit(digits.train, digits.validation)
    np.testing.assert_allclose(np.abs(np.sum(ours.components * pca.components_.T, 0)), 1, atol=1e-6)
    reference = moments(pca.transform(digits.validation.reshape(len(digits.validation), -1) / 255))
    fakes = pca.transform(digits.test.reshape(len(digits.test), -1) / 255)
    assert ours(digits.test) == pytest.approx(frechet_distance(*moments(fakes), *reference), rel=1e-6)


def test_noise_is_wrong_in_acc_and_a_cluster_of_its_own_elsewhere():
    labels = np.array([0, 0, 0, 1, 1, 1])
    clusters = np.array([0, 0, -1, 1, 1, -1])
    assert acc(labels, clusters) == pytest.approx(4 / 6)
    assert ari(labels, clusters) == pytest.approx(ari(labels, np.array([0, 0, 2, 1, 1, 2])))
    assert acc(labels, np.full(6, -1)) == 0


def test_silhouette_equals_scikit_learns_for_points_close_together_and_far_from_zero(rng):
    """As UMAP lays them out; float32 products would lose the distances within clusters."""
    points = (100 + 50 * rng.normal(size=(5, 2))[rng.integers(0, 5, 1500)] + rng.normal(size=(1500, 2)) / 1e4).astype(
        np.float32
    )
    clusters = rng.integers(0, 5, 1500)
    assert silhouette(points, clusters) == pytest.approx(metrics.silhouette_score(points.astype(float), clusters))


def test_knn_accuracy_and_recall_equal_scikit_learns_neighbours(rng):
    points, labels = rng.normal(size=(300, 5)) + np.arange(300)[:, None] % 3, np.arange(300) % 3
    projected = points[:, :2]
    before, after = (NearestNeighbors(n_neighbors=10).fit(side).kneighbors()[1] for side in (points, projected))
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(before, after, strict=True)]
    assert knn_recall(points, projected) == pytest.approx(np.mean(shared))
    votes = [np.bincount(labels[row], minlength=3).argmax() for row in after]
    assert knn_accuracy(labels, projected) == pytest.approx(np.mean(votes == labels))


@pytest.mark.parametrize("score", [trustworthiness, knn_recall])
def test_a_projection_is_faithful_where_it_keeps_the_neighbours(score, rng):
    points = rng.normal(size=(200, 6))
    assert score(points, points * 3 + 1) == pytest.approx(1)
    assert score(points, points[:, :3]) > score(points, points[:, :1]) > score(points, rng.normal(size=(200, 2)))
    assert np.isnan(score(points[:8], points[:8]))


def test_trustworthiness_equals_its_definition(rng):
    points, projected = rng.normal(size=(60, 4)), rng.normal(size=(60, 2))
    ranks = np.argsort(np.argsort(cdist(points, points), 1), 1)
    near = NearestNeighbors(n_neighbors=10).fit(projected).kneighbors()[1]
    strangers = sum(max(0, ranks[i, j] - 10) for i in range(60) for j in near[i])
    assert trustworthiness(points, projected) == pytest.approx(1 - 2 / (60 * 10 * (2 * 60 - 3 * 10 - 1)) * strangers)
