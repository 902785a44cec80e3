"""Embed, reduce, cluster, score: the files and the table against scikit-learn on the same points."""

import hashlib

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import a_trial
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from raymnist.config import Evaluation, Part, Train
from raymnist.evaluation import clusterers, embedding, reducers, scores, spaces
from raymnist.evaluation.clusterers import CLUSTERERS
from raymnist.evaluation.embedding import Network, Points
from raymnist.evaluation.reducers import REDUCERS
from raymnist.metrics import GENERATOR_METRICS
from raymnist.models import MODELS, features, networks


def blobs(rng, count, dims=6):
    labels = np.arange(count) % 4
    return (rng.normal(size=(count, dims)) + 8 * np.eye(4, dims)[labels]).astype(np.float32), labels


@pytest.mark.parametrize("name", sorted(REDUCERS))
def test_a_listed_reducer_places_new_points_among_the_fitted_ones(name, rng):
    part = reducers.resolve(Part(name=name), "test")
    (fitted, labels), (other, other_labels) = blobs(rng, 120), blobs(rng, 40)
    coordinates, (placed,) = reducers.reduce(part, fitted, [other], seed=0)
    dims = part.options.get("dims", 6)
    assert coordinates.shape == (120, dims)
    assert placed.shape == (40, dims)
    assert coordinates.dtype == placed.dtype == np.float32
    centres = np.stack([coordinates[labels == label].mean(0) for label in range(4)])
    nearest = np.argmin(((placed[:, None] - centres) ** 2).sum(-1), 1)
    assert (nearest == other_labels).mean() > 0.95
    again, (placed_again,) = reducers.reduce(part, fitted, [other], seed=0)
    np.testing.assert_array_equal(coordinates, again)
    np.testing.assert_array_equal(placed, placed_again)


def test_pca_equals_the_singular_value_decomposition(rng):
    points, _ = blobs(rng, 50)
    part = reducers.resolve(Part(name="pca", options={"dims": 2}), "test")
    coordinates, _ = reducers.reduce(part, points, [], seed=0)
    left, values, _ = np.linalg.svd(points - points.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(coordinates), np.abs(left[:, :2] * values[:2]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(REDUCERS))
def test_a_listed_reducer_has_a_name_with_its_dimensions(name):
    part = reducers.resolve(Part(name=name), "test")
    assert reducers.label(part) == {"none": "none", "pca": "pca3", "tsne": "tsne2", "umap": "umap2"}[name]


@pytest.mark.parametrize("name", sorted(CLUSTERERS))
def test_a_listed_clusterer_finds_separate_groups_and_repeats_itself(name, rng):
    part = clusterers.resolve(Part(name=name), "test")
    points, labels = blobs(rng, 200)
    clusters = clusterers.cluster(part, points, classes=4, seed=0)
    assert clusters.dtype == np.int64
    assert metrics.adjusted_rand_score(labels, clusters) == pytest.approx(1)
    np.testing.assert_array_equal(clusters, clusterers.cluster(part, points, classes=4, seed=0))


@pytest.mark.parametrize("name", sorted(REDUCERS))
def test_a_listed_reducer_works_on_codes_narrower_than_its_dimensions(name, rng):
    part = reducers.resolve(Part(name=name), "test")
    points = rng.normal(size=(60, 1)).astype(np.float32)
    coordinates, (placed,) = reducers.reduce(part, points, [points[:20]], seed=0)
    assert (len(coordinates), len(placed)) == (60, 20)
    assert np.isfinite(coordinates).all()


def test_kmeans_takes_the_number_of_clusters_from_its_options(rng):
    part = clusterers.resolve(Part(name="kmeans", options={"clusters": 7}), "test")
    assert len(np.unique(clusterers.cluster(part, blobs(rng, 200)[0], classes=4, seed=0))) == 7


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An untrained autoencoder and generator, as their trials would save them."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("networks")
    made = {}
    for name in ("conv_autoencoder", "conv_gan"):
        settings = {key: value for key, value in a_trial(name).model.items() if key != "name"}
        made[name] = MODELS[name](MODELS[name].Settings(**settings), Train(), (28, 28, 1))
        made[name].network.save(folder / f"{name}.keras")
    encoder = Network("autoencoder", "autoencoder-01", str(folder / "conv_autoencoder.keras"), key="")
    generator = Network("gan", "gan-02", str(folder / "conv_gan.keras"), key="")
    return made["conv_autoencoder"], made["conv_gan"], encoder, generator


def test_the_pipeline_embeds_what_the_networks_embed(ray_session, saved, tmp_path, rng):
    """More than one chunk of each source, so that several blocks and seeds take part."""
    autoencoder, gan, encoder, generator = saved
    images, labels = rng.integers(0, 256, (300, 28, 28, 1), dtype=np.uint8), np.arange(300) % 10
    target = tmp_path / "points"
    statistics = embedding.embed(images, labels, encoder, None, [generator], ["code", "pixels"], 7, target)
    assert "MapBatches(Embed)" in statistics
    assert len(list(target.glob("*.parquet"))) > 1
    points = embedding.read_points(target, ["code", "pixels"])
    np.testing.assert_array_equal(points.ids, np.arange(600))
    np.testing.assert_array_equal(points.is_fake, np.arange(600) >= 300)
    np.testing.assert_array_equal(points.labels, np.concatenate([labels, np.full(300, -1)]))
    assert set(points.trial_id[points.is_fake]) == {"gan-02"}
    assert set(points.study[~points.is_fake]) == {""}
    fakes = networks.generate(gan.generator, 300, seed=7)
    both = np.concatenate([images, fakes])
    np.testing.assert_array_equal(np.rint(points.features["pixels"] * 255), both.reshape(600, -1))
    np.testing.assert_allclose(points.features["code"], networks.encode(autoencoder.encoder, both), atol=1e-5)
    first = embedding.read_points(target, ["code"], first=20)
    np.testing.assert_array_equal(first.ids, [*range(20), *range(300, 320)])
    np.testing.assert_array_equal(
        embedding.read_pixels(target, first.ids[::-1]), both.reshape(600, -1)[first.ids[::-1]]
    )


def some_points(rng):
    """60 real points and 40 fakes of each of two generators, which lie apart from each other."""
    is_fake = np.arange(140) >= 60
    generator = np.where(is_fake, np.where(np.arange(140) < 100, "a-00", "b-00"), "")
    study = np.array([name[:1] for name in generator], dtype=object)
    code = blobs(rng, 140)[0] + 30 * (generator == "b-00")[:, None].astype(np.float32)
    labels = np.where(is_fake, -1, np.arange(140) % 4)
    return Points(np.arange(140), is_fake, study, generator.astype(object), labels, {"code": code}, None)


def evaluation(**settings):
    made = Evaluation(features=["code"], **settings)
    resolved = [reducers.resolve(part, "") for part in made.reducers]
    return made.model_copy(update={"reducers": resolved, "clusterers": [clusterers.resolve(Part(name="kmeans"), "")]})


@pytest.mark.parametrize("fit_on", ["real", "both"])
def test_a_reducer_is_fitted_on_what_was_asked(ray_session, rng, tmp_path, fit_on):
    points = some_points(rng)
    chosen = evaluation(reducers=[Part(name="none"), Part(name="pca")], fit_on=fit_on)
    spaces.reduce_all(chosen, points, seed=0, target=tmp_path / "c")
    coordinates = spaces.read_coordinates(tmp_path / "c")
    found = {(s.population, s.trial_id, s.reducer): s for s in spaces.spaces(chosen, points, coordinates)}
    assert len(found) == 2 * 5
    code, real = points.features["code"], ~points.is_fake
    for trial_id in ("a-00", "b-00"):
        fake = points.trial_id == trial_id
        pca = PCA(3).fit(code[real] if fit_on == "real" else code[real | fake])
        space = found["both", trial_id, "pca3"]
        np.testing.assert_array_equal(space.rows, np.flatnonzero(real | fake))
        np.testing.assert_allclose(np.abs(space.xyz), np.abs(pca.transform(code[space.rows])), rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(found["fake", trial_id, "pca3"].xyz, space.xyz[60:])
        np.testing.assert_array_equal(found["both", trial_id, "none"].xyz, code[real | fake])
    real_alone = np.abs(PCA(3).fit_transform(code[real]))
    np.testing.assert_allclose(np.abs(found["real", "", "pca3"].xyz), real_alone, rtol=1e-3, atol=1e-3)


def test_mixing_is_high_for_fakes_among_the_real_images_and_low_for_others(ray_session, rng):
    points = some_points(rng)
    chosen = evaluation(reducers=[Part(name="none")])
    rows = scores.score_all(scores.cluster_all(chosen, points, [], 4, 0), points, "encoder", 0)
    table = pd.DataFrame(rows).set_index(["trial_id", "population", "metric"])["value"]
    assert table["a-00", "both", "mixing"] > 0.9
    assert table["b-00", "both", "mixing"] < 0.1
    assert table["", "real", "mixing"] > 0.9


def test_unlabelled_points_have_no_rows_of_label_scores(ray_session, rng):
    points = some_points(rng)
    points.labels[:] = -1
    chosen = evaluation(reducers=[Part(name="none")])
    rows = scores.score_all(scores.cluster_all(chosen, points, [], 4, 0), points, "encoder", 0)
    assert {row["metric"] for row in rows} == {"silhouette", "mixing"}


def test_the_files_of_a_run_have_the_columns_of_the_contract(tiny_run):
    embeddings = tiny_run.folder.embeddings
    points, coordinates, clusters = (pd.read_parquet(embeddings / n) for n in ("points", "coordinates", "clusters"))
    embedded = ["pixels", "code", "classifier", "logits"]
    assert list(points.columns) == ["id", "source", "study", "trial_id", "label", *embedded]
    assert list(coordinates.columns) == ["id", "study", "trial_id", "fit_on", "features", "reducer", "xyz"]
    assert list(clusters.columns) == [
        "id", "study", "trial_id", "population", "features", "reducer", "clusterer", "cluster",
    ]  # fmt: skip
    assert sorted(points["id"]) == list(range(200))  # 100 of each kind are scored
    assert points.groupby("source").size().to_dict() == {"fake": 100, "real": 100}
    assert sorted(coordinates["id"]) == [*range(60), *range(100, 160)]  # of which 60 are clustered
    assert clusters.groupby("population").size().to_dict() == {"real": 120, "fake": 120, "both": 240}


def test_the_table_equals_scikit_learn_on_the_same_points(tiny_run):
    points = pd.read_parquet(tiny_run.folder.embeddings / "points").sort_values("id")
    points = points[points["id"] % 100 < 60]
    code = np.stack(points["code"].to_list())
    real, labels = (points["source"] == "real").to_numpy(), points["label"].to_numpy()[:60].astype(int)
    table = tiny_run.table.set_index(["population", "reducer", "metric"])["value"]
    coordinates = PCA(3).fit(code[real])
    for reducer, xyz in (("none", code), ("pca3", coordinates.transform(code))):
        clusters = KMeans(10, n_init=4, random_state=0).fit_predict(xyz[real])
        assert table["real", reducer, "ari"] == pytest.approx(metrics.adjusted_rand_score(labels, clusters), abs=0.02)
        assert table["real", reducer, "silhouette"] == pytest.approx(
            metrics.silhouette_score(xyz[real], clusters), abs=0.02
        )
    stored = pd.read_parquet(tiny_run.folder.embeddings / "clusters")
    both = stored[(stored["population"] == "both") & (stored["reducer"] == "none")].sort_values("id")
    homogeneity = metrics.homogeneity_score(~real, both["cluster"])
    assert table["both", "none", "mixing"] == pytest.approx(1 - homogeneity)
    assert table["both", "none", "silhouette"] == pytest.approx(
        metrics.silhouette_score(code, both["cluster"]), abs=1e-5
    )


def test_the_table_has_the_rows_of_the_contract(tiny_run):
    table = tiny_run.table
    assert tuple(table.columns) == scores.COLUMNS
    generator, encoder = (tiny_run.best(study).config.trial_id for study in ("gan", "autoencoder"))
    scored = table[table["clusterer"] == ""]
    table = table[table["clusterer"] != ""]
    by_population = table.groupby(["population", "reducer"])["metric"].apply(set).to_dict()
    labelled = {"silhouette", "ari", "nmi", "ami", "acc", "mixing"}
    for reducer in ("none", "pca3"):
        assert by_population["real", reducer] == labelled
        assert by_population["fake", reducer] == {"silhouette"}
        assert by_population["both", reducer] == {"silhouette", "mixing"}
    real = table[table["population"] == "real"]
    assert (real["trial_id"] == "").all()
    assert (table[table["population"] != "real"]["trial_id"] == generator).all()
    assert (table["encoder"] == encoder).all()
    assert table[table["population"] == "both"]["n_images"].unique() == [120]
    undefined = {"fid_infinity"}  # of 100 images in 64 dimensions
    for population, trial_id in (("fake", generator), ("real", "")):
        rows = scored[scored["population"] == population]
        assert set(rows["metric"]) == set(GENERATOR_METRICS) - undefined
        assert (rows["trial_id"] == trial_id).all()
    assert (scored[["features", "encoder", "reducer"]] == ["classifier", "", ""]).all(axis=None)
    assert (scored["n_images"] == 100).all()
    assert (scored["ci_low"] <= scored["value"]).all()
    assert (scored["value"] <= scored["ci_high"]).all()
    sha256 = hashlib.sha256((features.WEIGHTS / "digits.keras").read_bytes()).hexdigest()
    assert (scored["classifier"] == sha256).all()
    assert (tiny_run.table["selection"] == "").all()
