"""Every listed reducer, alone and past memory."""

import numpy as np
import pytest
import ray
from sklearn.decomposition import PCA
from test_evaluation import blobs

from raymnist.config import Chain
from raymnist.evaluation import blocks, moments, reducers, reduction
from raymnist.evaluation.blocks import Blocks
from raymnist.evaluation.reducers import REDUCERS


def resolved(*parts):
    return reducers.resolve(Chain.model_validate(list(parts)), "test")


def reduce(chain, fitted, other, reproducible=True):
    coordinates, placings = reduction.fit(chain, Blocks.of(fitted), 0, reproducible)
    return coordinates.array(), reduction.place(placings, Blocks.of(other)).array()


@pytest.mark.parametrize("name", sorted(REDUCERS))
def test_a_listed_reducer_places_new_points_among_the_fitted_ones(name, rng, ray_session):
    chain = resolved(name)
    (fitted, labels), (other, other_labels) = blobs(rng, 120), blobs(rng, 40)
    coordinates, placed = reduce(chain, fitted, other)
    dims = reducers.options_of(chain.parts[0]).get("dims", 6)
    assert coordinates.shape == (120, dims)
    assert placed.shape == (40, dims)
    assert coordinates.dtype == placed.dtype == np.float32
    centres = np.stack([coordinates[labels == label].mean(0) for label in range(4)])
    nearest = np.argmin(((placed[:, None] - centres) ** 2).sum(-1), 1)
    assert (nearest == other_labels).mean() > 0.95
    again, placed_again = reduce(chain, fitted, other)
    np.testing.assert_array_equal(coordinates, again)
    np.testing.assert_array_equal(placed, placed_again)


@pytest.mark.parametrize("name", sorted(REDUCERS))
def test_a_listed_reducer_has_a_name_with_its_dimensions(name):
    assert reducers.label(resolved(name)) == {"none": "none", "pca": "pca3", "tsne": "tsne2", "umap": "umap2"}[name]


def test_a_chain_is_named_after_its_reducers_or_their_labels():
    assert reducers.label(resolved({"pca": 50}, "umap")) == "pca50-umap2"
    assert reducers.label(resolved({"pca": 50}, {"umap": {"neighbors": 30, "label": "wide"}})) == "pca50-wide"


@pytest.mark.parametrize("name", sorted(REDUCERS))
def test_a_listed_reducer_works_on_codes_narrower_than_its_dimensions(name, rng, ray_session):
    points = rng.normal(size=(60, 1)).astype(np.float32)
    coordinates, placed = reduce(resolved(name), points, points[:20])
    assert (len(coordinates), len(placed)) == (60, 20)
    assert np.isfinite(coordinates).all()


def test_a_reducer_is_fitted_on_a_sample_where_there_are_more_points(rng, ray_session):
    """The sampled fit places all points, and the same ones again."""
    chain = resolved({"umap": {"sample": 100}})
    points, labels = blobs(rng, 400)
    coordinates, _ = reduce(chain, points, points[:10])
    assert coordinates.shape == (400, 2)
    centres = np.stack([np.median(coordinates[labels == label], 0) for label in range(4)])
    nearest = np.argmin(((coordinates[:, None] - centres) ** 2).sum(-1), 1)
    assert (nearest == labels).mean() > 0.95
    np.testing.assert_array_equal(coordinates, reduce(chain, points, points[:10])[0])


def test_maps_that_need_not_be_the_same_again_are_made_by_all_cores(rng, ray_session):
    points, labels = blobs(rng, 120)
    coordinates, _ = reduce(resolved("umap"), points, points[:10], reproducible=False)
    centres = np.stack([coordinates[labels == label].mean(0) for label in range(4)])
    nearest = np.argmin(((coordinates[:, None] - centres) ** 2).sum(-1), 1)
    assert (nearest == labels).mean() > 0.95


CUTS = {1: [], 2: [37], 50: sorted(np.random.default_rng(1).choice(np.arange(1, 400), 49, replace=False).tolist())}


@pytest.mark.parametrize("cuts", CUTS.values(), ids=[f"{count} blocks" for count in CUTS])
def test_pca_past_memory_equals_scikit_learns(rng, ray_session, monkeypatch, cuts):
    points = (rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) + 5).astype(np.float32)
    other = rng.normal(size=(7, 12)).astype(np.float32)
    monkeypatch.setattr(blocks, "IN_MEMORY", 0)
    coordinates, placings = reduction.fit(resolved({"pca": 4}), Blocks.of(*np.split(points, cuts)), 0, True)
    expected = PCA(4, svd_solver="full").fit(points.astype(float))
    np.testing.assert_allclose(coordinates.array(), expected.transform(points), atol=1e-4)
    placed = reduction.place(placings, Blocks.of(other)).array()
    np.testing.assert_allclose(placed, expected.transform(other), atol=1e-4)


def test_merged_moments_are_those_of_all_points(rng, ray_session):
    points = rng.normal(size=(100, 5)) * [1, 10, 100, 1, 1] + [0, 0, 1e4, 0, 3]
    merged = moments.of_blocks(Blocks.of(*np.split(points.astype(np.float32), [3, 4, 60])))
    exact = points.astype(np.float32).astype(float)
    assert merged.count == 100
    np.testing.assert_allclose(merged.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(merged.products / 99, np.cov(exact, rowvar=False), rtol=1e-9)


def test_what_a_reducer_cannot_do_is_said_by_its_name(ray_session):
    with pytest.raises(ValueError, match="pca3: expected points, received none"):
        reduction.fit(resolved("pca"), Blocks.of(np.empty((0, 3), np.float32)), 0, True)


def test_blocks_give_any_of_their_points_in_order(rng, ray_session):
    points = rng.normal(size=(50, 3)).astype(np.float32)
    held = Blocks.of(*np.split(points, [10, 11, 30]))
    places = np.array([0, 9, 10, 11, 31, 49])
    np.testing.assert_array_equal(held.take(places).array(), points[places])
    np.testing.assert_array_equal(held.joined(held).array(), np.concatenate([points, points]))
    assert len(held.sample(20, 0)) == 20
    np.testing.assert_array_equal(held.sample(50, 0), np.arange(50))
    sums = ray.get(held.each(np.sum, 1, cut=[]))
    np.testing.assert_allclose(np.concatenate(sums), points.sum(1), rtol=1e-6)
