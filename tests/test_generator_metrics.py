"""The scores of generators, against other people's code, hand-worked numbers and known distributions."""

import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from prdc import compute_prdc
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from raymnist.metrics import GENERATOR_METRICS, Comparison, Features, Memory, neighbours
from raymnist.metrics import manifold as manifolds
from raymnist.metrics.classes import mnist_score, modes
from raymnist.metrics.estimate import bootstrap, share
from raymnist.metrics.frechet import fid, frechet_distance
from raymnist.metrics.kernel import kid
from raymnist.metrics.manifold import manifold
from raymnist.metrics.memorisation import authpct, nearest_training, own_distances
from raymnist.metrics.neighbours import nearest
from raymnist.metrics.two_sample import c2st


def two_sets(rng, n=300, m=250, d=6, shift=0.4):
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) * np.linspace(0.5, 1.2, d) + shift


def test_fid_equals_scipys_formula(rng):
    real, fake = two_sets(rng)
    of_real, of_fake = (np.cov(points, rowvar=False) for points in (real, fake))
    root = scipy.linalg.sqrtm(of_real @ of_fake).real
    formula = np.sum((real.mean(0) - fake.mean(0)) ** 2) + np.trace(of_real + of_fake - 2 * root)
    assert fid(real, fake, seed=0)[0].value == pytest.approx(formula, rel=1e-9)


def test_the_intervals_of_fid_infinity_cover_a_known_distance():
    """In 90 to 99 % of 200 runs, of Gaussians apart in mean and covariance."""
    d, shift = 4, 0.3
    stretch = np.linspace(0.8, 1.3, d)
    truth = frechet_distance(np.zeros(d), np.eye(d), np.full(d, shift), np.diag(stretch**2))
    covered, biased = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        real, fake = rng.normal(size=(500, d)), rng.normal(size=(500, d)) * stretch + shift
        at_500, extrapolated = fid(real, fake, seed)
        covered += extrapolated.low <= truth <= extrapolated.high
        biased += at_500.value - truth
    assert 180 <= covered <= 198
    assert biased / 200 > 0.005  # so that there was a bias to take away


def test_fid_infinity_of_one_distribution_is_nothing():
    """Where the first order of the variance vanishes, and FID itself is far from 0."""
    rng = np.random.default_rng(5)
    at_n, extrapolated = fid(rng.normal(size=(2000, 16)), rng.normal(size=(2000, 16)), seed=0)
    assert at_n.low > 0.005
    assert extrapolated.low < 0 < extrapolated.high


def test_fid_infinity_of_too_few_images_is_not_defined(rng):
    assert np.isnan(fid(rng.normal(size=(50, 10)), rng.normal(size=(50, 10)), seed=0)[1].value)


def test_kid_is_the_unbiased_mean_over_all_pairs(rng, monkeypatch):
    """The kernel with the settings of torch-fidelity: degree 3, gamma 1/d, coef0 1; its subsets being the whole."""
    monkeypatch.setattr(neighbours, "BLOCK", 500)  # several blocks
    real, fake = two_sets(rng, 40, 30)

    def kernel(a, b):
        return polynomial_kernel(a, b, degree=3, gamma=1 / a.shape[1], coef0=1)

    n, m = len(real), len(fake)
    within = [kernel(points, points)[~np.eye(len(points), dtype=bool)].mean() for points in (real, fake)]
    assert kid(real, fake).value == pytest.approx(sum(within) - 2 * kernel(real, fake).sum() / (n * m), rel=1e-9)


@pytest.mark.parametrize("shift", [0, 0.5])
def test_the_interval_of_kid_is_as_wide_as_kid_varies(shift):
    estimates = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        estimates.append(kid(rng.normal(size=(300, 6)), rng.normal(size=(200, 6)) + shift))
    errors = [(estimate.high - estimate.low) / (2 * 1.96) for estimate in estimates]
    assert 0.75 < np.mean(errors) / np.std([estimate.value for estimate in estimates]) < 1.4


def test_precision_recall_density_and_coverage_equal_the_package_prdc(rng):
    real, fake = two_sets(rng)
    ours = manifold(real, fake, seed=0)
    of_three, of_five = (compute_prdc(real, fake, nearest_k=k) for k in (3, 5))
    assert ours.precision.value == pytest.approx(of_three["precision"])
    assert ours.recall.value == pytest.approx(of_three["recall"])
    assert ours.density.value == pytest.approx(of_five["density"])
    assert ours.coverage.value == pytest.approx(of_five["coverage"])


def test_the_one_neighbour_test_equals_a_search_by_scikit_learn(rng):
    real, fake = two_sets(rng)
    points, kind = np.concatenate([real, fake]), np.repeat([0, 1], [len(real), len(fake)])
    found = NearestNeighbors(n_neighbors=2).fit(points).kneighbors(points, return_distance=False)[:, 1]
    assert manifold(real, fake, seed=0).c2st_1nn.value == pytest.approx((kind[found] == kind).mean())


def test_the_intervals_of_neighbourhoods_are_as_wide_as_the_scores_vary():
    names = ("precision", "recall", "density", "coverage", "c2st_1nn")
    runs = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        runs.append(manifold(rng.normal(size=(400, 6)), 0.8 * rng.normal(size=(400, 6)) + 0.3, seed))
    for name in names:
        estimates = [getattr(run, name) for run in runs]
        errors = [max(e.high - e.value, e.value - e.low) / 1.96 for e in estimates]
        assert 0.7 < np.mean(errors) / np.std([e.value for e in estimates]) < 2, name


def test_each_half_is_scored_as_a_set_of_its_own(rng, monkeypatch):
    chosen, values = [], []
    halves, estimate = manifolds._halves, manifolds._estimate
    monkeypatch.setattr(manifolds, "_halves", lambda *given: chosen.append(halves(*given)) or chosen[-1])
    monkeypatch.setattr(
        manifolds, "_estimate", lambda *given, **more: values.append(given[0]) or estimate(*given, **more)
    )
    real, fake = two_sets(rng)
    manifold(real, fake, seed=0, halves=5)
    precision, recall, density, coverage, same_kind = values
    for number, (of_real, of_fake) in enumerate(zip(*chosen, strict=True)):
        half, other = real[of_real], fake[of_fake]
        of_three, of_five = (compute_prdc(half, other, nearest_k=k) for k in (3, 5))
        assert precision[number] == pytest.approx(of_three["precision"], abs=0.01)
        assert recall[number] == pytest.approx(of_three["recall"], abs=0.01)
        assert density[number] == pytest.approx(of_five["density"], abs=0.01)
        assert coverage[number] == pytest.approx(of_five["coverage"], abs=0.01)
        points, kind = np.concatenate([half, other]), np.repeat([0, 1], [len(half), len(other)])
        found = NearestNeighbors(n_neighbors=2).fit(points).kneighbors(points, return_distance=False)[:, 1]
        assert same_kind[number] == pytest.approx((kind[found] == kind).mean(), abs=0.01)


def test_nearest_neighbours_are_those_of_scikit_learn(rng, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 10_000)  # several blocks, the last of fewer rows
    points, others = rng.normal(size=(330, 5)), rng.normal(size=(200, 5))
    for of, found in ((others, nearest(points, others, 4)), (points, nearest(points, None, 4))):
        distances, places = NearestNeighbors(n_neighbors=5).fit(of).kneighbors(points)
        start = int(of is points)  # the point itself
        np.testing.assert_array_equal(found.places, places[:, start : start + 4])
        np.testing.assert_allclose(np.sqrt(found.squares), distances[:, start : start + 4], rtol=1e-9)


def test_no_score_holds_a_matrix_of_all_pairs():
    rng = np.random.default_rng(0)
    n = 12_000
    real, fake = (rng.normal(size=(n, 4)).astype(np.float32) for _ in range(2))
    tracemalloc.start()
    manifold(real, fake, seed=0)
    kid(real, fake)
    authpct(nearest_training(fake, real), own_distances(real))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n * 4 / 2


def test_mnist_score_is_worked_by_hand():
    """As TF-GAN defines it: exp of the mean divergence of p(y|x) from p(y), float64, all images at once."""
    sure = 50 * np.eye(4, dtype=np.float32)  # four classes, one image each
    assert mnist_score(np.repeat(sure, 5, axis=0), seed=0).value == pytest.approx(4)
    assert mnist_score(np.repeat(sure[:1], 5, axis=0), seed=0).value == pytest.approx(1)
    assert mnist_score(np.zeros((5, 4)), seed=0).value == pytest.approx(1)
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6]])
    divergences = [0.8 * np.log(0.8 / 0.6) + 0.2 * np.log(0.2 / 0.4), 0.4 * np.log(0.4 / 0.6) + 0.6 * np.log(0.6 / 0.4)]
    assert mnist_score(np.log(probabilities), seed=0).value == pytest.approx(np.exp(np.mean(divergences)))


def test_modes_are_worked_by_hand():
    logits = np.repeat(np.eye(4), [60, 39, 1, 0], axis=0)  # the third class has less than a tenth of its share
    present, divergence = modes(logits, np.full(4, 25), seed=0)
    assert present.value == 2
    expected = 0.6 * np.log(2.4) + 0.39 * np.log(0.39 / 0.25) + 0.01 * np.log(0.04)
    assert divergence.value == pytest.approx(expected)
    assert modes(np.eye(4), np.full(4, 25), seed=0)[1].value == pytest.approx(0)


def test_a_class_that_the_data_lack_leaves_the_divergence_finite():
    divergence = modes(np.eye(3), np.array([10, 10, 0]), seed=0)[1]
    shares = np.array([10.5, 10.5, 0.5]) / 21.5
    assert divergence.value == pytest.approx(scipy.stats.entropy(np.full(3, 1 / 3), shares))


def test_none_of_so_many_is_not_certainly_none(rng):
    """As where every fake is noise: Wilson's interval, not one without width."""
    apart = manifold(rng.normal(size=(100, 4)), rng.normal(size=(100, 4)) + 50, seed=0)
    wilson = scipy.stats.binomtest(0, 100).proportion_ci(method="wilson")
    for score in (apart.precision, apart.recall, apart.coverage, apart.density):
        assert (score.value, score.low) == (0, 0)
        assert score.high == pytest.approx(wilson.high, abs=1e-6)
    assert apart.c2st_1nn.value == 1 > apart.c2st_1nn.low > 0.97


@pytest.mark.parametrize("spread", [0.3, 1, 4])
def test_many_close_pairs_are_counted_as_few_are(spread, rng, monkeypatch):
    real, fake = rng.normal(size=(150, 5)), spread * rng.normal(size=(120, 5))
    estimates = []
    for limit in (0, 1):  # all pairs of every block, the close ones of every block
        monkeypatch.setattr(manifolds, "DENSE", limit)
        estimates.append(manifold(real, fake, seed=0))
    assert estimates[0] == estimates[1]


def test_scores_without_intervals_are_the_same_scores(rng):
    real, fake = two_sets(rng)
    with_them, without = manifold(real, fake, seed=0), manifold(real, fake, seed=0, halves=0)
    for name in ("precision", "recall", "density", "coverage", "c2st_1nn"):
        assert getattr(without, name).value == getattr(with_them, name).value
        assert np.isnan(getattr(without, name).high)


def test_authpct_is_worked_by_hand():
    training = np.array([[0.0], [1.0], [3.0], [10.0]])  # own distances 1, 1, 2, 7
    own = own_distances(training)
    np.testing.assert_allclose(own, [1, 1, 4, 49])
    fake = np.array([[12.0], [0.0], [-2.0], [5.5]])  # 2 from 10, a copy, 2 from 0, 2.5 from 3
    assert authpct(nearest_training(fake, training), own).value == 50


def test_copies_of_images_that_are_there_twice_are_no_authentic_ones(rng):
    training = np.repeat(rng.normal(size=(40, 64)).astype(np.float32), 2, axis=0)
    own = own_distances(training)
    assert not own.any()
    found = nearest_training(training[::2], training)
    assert not found.squares.any()
    assert authpct(found, own).value == 0


def test_a_share_has_wilsons_interval():
    for hits in (0, 3, 20):
        estimate = share(np.arange(20) < hits, scale=100)
        wilson = scipy.stats.binomtest(hits, 20).proportion_ci(method="wilson")
        assert (estimate.low, estimate.high) == pytest.approx((100 * wilson.low, 100 * wilson.high), abs=1e-4)
        assert estimate.low <= estimate.value <= estimate.high


def test_the_bootstrap_knows_the_error_of_a_mean(rng):
    rows = rng.normal(size=(400, 1))
    estimate = bootstrap(rows, lambda means: means[:, 0], seed=0)
    assert (estimate.high - estimate.low) / (2 * 1.96) == pytest.approx(rows.std() / 20, rel=0.1)


def test_c2st_cannot_tell_one_distribution_from_itself_but_from_another_spread(rng):
    real = rng.normal(size=(1500, 8))
    same = c2st(real, rng.normal(size=(1500, 8)), seed=0)
    assert same.low < 0.5 < same.high
    assert c2st(real, 1.5 * rng.normal(size=(1500, 8)), seed=0).low > 0.6  # equal means: no line tells them apart
    assert c2st(real, real + 5, seed=0).value == 1
    few = c2st(rng.normal(size=(400, 200)), rng.normal(size=(400, 200)), seed=0)
    assert few.low < 0.5 < few.high  # though what it has learned on is told apart


def compare(real, fake, training=None, counts=None):
    memory = None
    if training is not None:
        centred = training.points
        memory = Memory(centred, own_distances(centred))
    comparison = Comparison(real, fake, 0, counts, memory)
    return {
        name: metric.function(comparison)
        for name, metric in GENERATOR_METRICS.items()
        if (metric.needs != "logits" or counts is not None) and (metric.needs != "memory" or memory)
    }


@pytest.fixture(scope="module")
def seen(digits_whole):
    """The digits as the bundled classifier sees them: test and training features, and a function for others."""
    from raymnist.models import features

    classify = features.find(digits_whole).open()
    return classify(digits_whole.test), classify(digits_whole.train), classify


def test_identical_and_shuffled_sets_are_as_good_as_can_be(seen, digits_whole, rng):
    test, _, _ = seen
    counts = digits_whole.class_counts(digits_whole.test_labels)
    in_order, shuffled = (
        compare(test, test[rows], counts=counts) for rows in (slice(None), rng.permutation(len(test)))
    )
    for name in ("fid", "kid", "mnist_score", "precision", "recall", "density", "coverage", "c2st_1nn", "modes_kl"):
        assert in_order[name].value == pytest.approx(shuffled[name].value, rel=1e-4, abs=1e-5), name
    assert in_order["fid"].value == pytest.approx(0, abs=1e-4)
    assert in_order["precision"].value == in_order["recall"].value == in_order["coverage"].value == 1
    assert in_order["modes_present"].value == 10
    assert in_order["c2st_1nn"].value < 0.1  # each one's nearest is its copy, of the other kind


def test_a_collapsed_generator_is_precise_and_covers_nothing(seen, digits_whole, rng):
    test, training, _ = seen
    one = training.points[:1]
    close = one + 1e-3 * rng.normal(size=(len(test), one.shape[1])).astype(np.float32)
    logits = np.repeat(training.logits[:1], len(test), axis=0)
    counts = digits_whole.class_counts(digits_whole.test_labels)
    scores = compare(test, Features(close, logits), counts=counts)
    assert scores["precision"].value > 0.9
    assert scores["recall"].value < 0.05
    assert scores["coverage"].value < 0.1
    assert scores["modes_present"].value == 1
    assert scores["mnist_score"].value == pytest.approx(1, abs=1e-6)
    assert scores["modes_kl"].value > 2  # log 10 at an equal share of each


def test_noise_is_told_from_digits_by_every_score(seen, digits_whole, rng):
    test, _, classify = seen
    noise = classify(rng.integers(0, 256, digits_whole.test.shape).astype(np.uint8))
    floor = compare(test, seen[1][slice(0, len(test))])
    scores = compare(test, noise)
    assert scores["fid"].low > 10 * floor["fid"].high
    assert scores["kid"].low > 10 * floor["kid"].high
    assert scores["precision"].value == scores["recall"].value == scores["coverage"].value == 0
    assert scores["c2st"].low > 0.95
    assert scores["c2st_1nn"].value == 1


def test_copied_training_images_are_found(seen):
    test, training, _ = seen
    copied = compare(test, training[slice(0, 300)], training=training)
    fresh = compare(test, test, training=training)
    assert copied["authpct"].value == 0
    assert fresh["authpct"].low > 30
    half = Features(np.concatenate([training.points[:180], test.points[:180]]))
    assert copied["authpct"].value < compare(test, half, training=training)["authpct"].value < fresh["authpct"].value


def test_scores_fall_as_blur_grows(seen, digits_whole):
    from scipy.ndimage import gaussian_filter

    test, _, classify = seen
    blurred = [
        compare(test, classify(gaussian_filter(digits_whole.train[:360], (0, sigma, sigma, 0))))
        for sigma in (0, 1, 2, 4)
    ]
    for name in ("fid", "kid"):
        assert np.all(np.diff([scores[name].value for scores in blurred]) > 0), name
    for name in ("precision", "coverage"):
        assert np.all(np.diff([scores[name].value for scores in blurred]) <= 0), name
