"""Embed, reduce, cluster, score: the files and the table against scikit-learn on the same points."""

import hashlib
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import a_trial
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from raymnist.config import Chain, Evaluation, Train
from raymnist.evaluation import clusterers, coordinates, embedding, points, reducers, scores, spaces
from raymnist.evaluation.embedded import Column, Embedded
from raymnist.evaluation.sources import Fakes, Network, real_source
from raymnist.metrics import GENERATOR_METRICS, PROJECTION_METRICS
from raymnist.models import MODELS, features, networks
from raymnist.sweep.gauges import Tally
from raymnist.sweep.resources import Request

ONE_CPU = Request(1, 0)


def blobs(rng, count, dims=6):
    labels = np.arange(count) % 4
    return (rng.normal(size=(count, dims)) + 8 * np.eye(4, dims)[labels]).astype(np.float32), labels


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
    """More than one chunk of each source, so that several parts and seeds take part; then again, on half a GPU."""
    autoencoder, gan, encoder, generator = saved
    images, labels = rng.integers(0, 256, (300, 28, 28, 1), dtype=np.uint8), np.arange(300) % 10
    fakes = networks.generate(gan.generator, 300, seed=7)
    both = np.concatenate([images, fakes])
    for target, wanted in ((tmp_path / "points", ONE_CPU), (tmp_path / "again", Request(0.5, 0.5))):
        sources = [real_source(images, labels), Fakes("gan", "gan-02", 300, None, generator)]
        statistics = embedding.embed(
            sources, (28, 28, 1), [encoder], None, ["code", "pixels"], 7, wanted, target, Tally()
        )
        assert "MapBatches(Embed)" in statistics
        assert len(list(target.glob("*.parquet"))) > 2
        table = pq.read_table(target).sort_by("id").to_pandas()
        np.testing.assert_array_equal(table["id"], np.arange(600))
        np.testing.assert_array_equal(table["source"] == "fake", np.arange(600) >= 300)
        real, (fake,) = points.read_points(target)
        assert (real.study, real.trial_id, fake.study, fake.trial_id) == ("", "", "gan", "gan-02")
        np.testing.assert_array_equal(np.concatenate([real.ids, fake.ids]), np.arange(600))
        np.testing.assert_array_equal(real.labels, labels)
        assert (fake.labels == -1).all()
        pixels, code = (np.concatenate([o.blocks(name).array() for o in (real, fake)]) for name in ("pixels", "code"))
        np.testing.assert_array_equal(np.rint(pixels * 255), both.reshape(600, -1))
        np.testing.assert_allclose(code, networks.encode(autoencoder.encoder, both), atol=1e-5)
    places = np.array([299, 3, 4])
    np.testing.assert_array_equal(points.read_pixels(fake.first(300), places), fakes.reshape(300, -1)[places])
    np.testing.assert_array_equal(fake.first(20).blocks("code").array(), code[300:320])


def test_large_columns_are_read_in_several_blocks_in_the_order_of_the_ids(ray_session, tmp_path, monkeypatch, rng):
    values = rng.normal(size=(90, 4)).astype(np.float32)
    for name, rows in (("b", slice(0, 30)), ("c", slice(60, 90)), ("a", slice(30, 60))):
        ids, lists = np.arange(90)[rows][::-1], pa.array(list(values[rows][::-1]), pa.list_(pa.float32(), 4))
        pq.write_table(pa.table({"id": ids, "code": lists}), tmp_path / f"{name}.parquet")
    monkeypatch.setattr(points, "BLOCK", 4 * 4 * 40)
    files = [tmp_path / f"{name}.parquet" for name in "bac"]
    blocks = points.read_blocks(files, "code", 10, 85)
    assert blocks.lengths == (40, 35)
    np.testing.assert_array_equal(blocks.array(), values[10:85])


def a_population(rng, spread=30):
    """60 real points and 40 fakes of each of two generators, of which the second lies apart."""
    count = np.array([60, 40, 40])
    code = blobs(rng, 140)[0] + spread * (np.arange(140) >= 100)[:, None].astype(np.float32)
    return np.split(code, np.cumsum(count)[:2])


def written(path, parts, labels=None):
    """Write embedded points as the pipeline does: the real ones and those of two generators."""
    path.mkdir(parents=True)
    first = 0
    for number, (trial_id, code) in enumerate(zip(("", "a-00", "b-00"), parts, strict=True)):
        count = len(code)
        known = [None] * count if trial_id else list(np.arange(count) % 4 if labels is None else labels)
        columns = {
            "id": np.arange(first, first + count),
            "source": pa.array(["fake" if trial_id else "real"] * count),
            "study": pa.array([trial_id[:1]] * count),
            "trial_id": pa.array([trial_id] * count),
            "label": pa.array(known, pa.int64()),
            "error": pa.nulls(count, pa.string()),
            "code": pa.array(list(code), pa.list_(pa.float32(), code.shape[1])),
        }
        pq.write_table(pa.table(columns), path / f"{number}.parquet")
        first += count
    return points.read_points(path)


CODE = Column("code", "code", "encoder-00", 0)


def evaluation(**settings):
    made = Evaluation(features=["code"], **settings)
    reducing = [reducers.resolve(Chain.model_validate(chain), "") for chain in settings.get("reducers", ["none"])]
    clustering = [clusterers.resolve(part, "") for part in made.clusterers]
    return made.model_copy(update={"reducers": reducing, "clusterers": clustering})


def reduced_and_scored(chosen, origins, target):
    """Reduce and score as the stages do: the spaces' points by population, trial and reducer; rows; failures."""
    embedded = Embedded.of(*origins, chosen)
    failed = coordinates.reduce_all(chosen, embedded, [CODE], target, Tally())
    found = spaces.Map(chosen.fit_on, embedded, *coordinates.read_coordinates(target))
    every = list(spaces.spaces(chosen, embedded, [CODE]))
    clusterings, rows, errors = scores.score_all(chosen, every, found, 4, Tally())
    table = pd.DataFrame(rows, columns=scores.COLUMNS)
    return {(s.population, s.trial_id, s.reducer): (s, found) for s in every}, clusterings, table, failed, errors


@pytest.mark.parametrize("fit_on", ["real", "both"])
def test_a_reducer_is_fitted_on_what_was_asked(ray_session, rng, tmp_path, fit_on):
    parts = a_population(rng)
    chosen = evaluation(reducers=["none", "pca"], fit_on=fit_on)
    found, *_ = reduced_and_scored(chosen, written(tmp_path / "points", parts), tmp_path / "c")
    assert len(found) == 2 * 5
    real = parts[0]
    for trial_id, fake in (("a-00", parts[1]), ("b-00", parts[2])):
        both = np.concatenate([real, fake])
        pca = PCA(3).fit(real if fit_on == "real" else both)
        space, points_of = found["both", trial_id, "pca3"]
        xyz = points_of.points(space).array()
        assert space.is_fake.sum() == 40
        np.testing.assert_allclose(xyz, pca.transform(both), rtol=1e-3, atol=1e-3)
        of_fakes, _ = found["fake", trial_id, "pca3"]
        np.testing.assert_array_equal(points_of.points(of_fakes).array(), xyz[60:])
        unreduced, _ = found["both", trial_id, "none"]
        np.testing.assert_array_equal(points_of.points(unreduced).array(), both)
    of_real, points_of = found["real", "", "pca3"]
    np.testing.assert_allclose(points_of.points(of_real).array(), PCA(3).fit_transform(real), rtol=1e-3, atol=1e-3)


def test_a_chain_reduces_what_the_reducer_before_it_made(ray_session, rng, tmp_path):
    parts = a_population(rng)
    chosen = evaluation(reducers=[[{"pca": 4}, {"pca": 2}], {"pca": 2}])
    found, *_ = reduced_and_scored(chosen, written(tmp_path / "points", parts), tmp_path / "c")
    (chained, points_of), (alone, _) = found["both", "a-00", "pca4-pca2"], found["both", "a-00", "pca2"]
    np.testing.assert_allclose(
        np.abs(points_of.points(chained).array()), np.abs(points_of.points(alone).array()), rtol=1e-3, atol=1e-3
    )


def test_mixing_is_high_for_fakes_among_the_real_images_and_low_for_others(ray_session, rng, tmp_path):
    origins = written(tmp_path / "points", a_population(rng))
    *_, rows, failed, errors = reduced_and_scored(evaluation(), origins, tmp_path / "c")
    table = rows.set_index(["trial_id", "population", "metric"])["value"]
    assert table["a-00", "both", "mixing"] > 0.9
    assert table["b-00", "both", "mixing"] < 0.1
    assert table["", "real", "mixing"] > 0.9
    assert (failed, errors) == ([], [])


@pytest.mark.parametrize("labels", [[None] * 60, [7] * 60], ids=["unlabelled", "a single class"])
def test_there_are_no_label_scores_where_labels_say_nothing(ray_session, rng, tmp_path, labels):
    origins = written(tmp_path / "points", a_population(rng), labels)
    *_, rows, _, errors = reduced_and_scored(evaluation(), origins, tmp_path / "c")
    assert errors == []
    clustered = rows[rows["clusterer"] != ""]
    assert set(clustered["metric"]) == {"silhouette", "mixing", "clusters"}


def test_codes_that_are_not_finite_name_the_trial_and_stop_their_rows_only(ray_session, rng, tmp_path):
    parts = a_population(rng)
    parts[1][[3, 8], 2] = np.nan, np.inf
    origins = written(tmp_path / "points", parts)
    chosen = evaluation(reducers=["none", "pca"])
    _, clusterings, rows, failed, errors = reduced_and_scored(chosen, origins, tmp_path / "c")
    (line,) = failed
    (said,) = errors
    assert said.startswith(f"{line} (fake a-00, none of encoder-00; both a-00, none of encoder-00; ")
    assert line == "encoder-00: expected finite features, received NaN or infinity for 2 of 40 images of a-00"
    broken = rows[rows["error"].notna()]
    assert set(broken["error"]) == {line}
    assert sorted(zip(broken["population"], broken["reducer"], strict=True)) == [
        ("both", "none"), ("both", "pca3"), ("fake", "none"), ("fake", "pca3"),
    ]  # fmt: skip
    assert (broken["trial_id"] == "a-00").all()
    assert broken["value"].isna().all()
    assert len(clusterings) == 2 * 3
    whole = reduced_and_scored(chosen, written(tmp_path / "whole", a_population(rng)), tmp_path / "d")[2]
    assert set(rows.loc[rows["trial_id"] != "a-00", "metric"]) == set(whole.loc[whole["trial_id"] != "a-00", "metric"])


def test_fewer_different_points_than_clusters_stop_their_rows_only(ray_session, rng, tmp_path):
    parts = a_population(rng)
    parts[2][:] = parts[2][0]  # a generator that has collapsed
    origins = written(tmp_path / "points", parts)
    _, clusterings, rows, _, errors = reduced_and_scored(evaluation(), origins, tmp_path / "c")
    assert errors == [
        "kmeans: expected at least 4 different points, one for each cluster, received 1 (fake b-00, none of encoder-00)"
    ]
    (broken,) = rows[rows["error"].notna()].to_dict("records")
    assert (broken["population"], broken["trial_id"], broken["clusterer"]) == ("fake", "b-00", "kmeans")
    assert len(clusterings) == 4


def test_the_files_of_a_run_have_the_columns_of_the_contract(tiny_run):
    embeddings = tiny_run.folder.embeddings
    points, coordinates, clusters = (pd.read_parquet(embeddings / n) for n in ("points", "coordinates", "clusters"))
    embedded = ["pixels", "code", "classifier", "logits"]
    assert list(points.columns) == ["id", "source", "study", "trial_id", "label", "error", *embedded]
    assert points["error"].isna().all()
    assert list(coordinates.columns) == ["id", "study", "trial_id", "encoder", "fit_on", "features", "reducer", "xyz"]
    assert list(clusters.columns) == [
        "id", "study", "trial_id", "encoder", "population", "features", "reducer", "clusterer", "cluster",
    ]  # fmt: skip
    assert sorted(points["id"]) == list(range(160))
    assert points.groupby("source").size().to_dict() == {"fake": 100, "real": 60}  # 100 fakes are scored
    assert sorted(coordinates["id"]) == list(range(120))  # of which 60 are clustered
    assert clusters.groupby("population").size().to_dict() == {"real": 120, "fake": 120, "both": 240}


def test_the_table_equals_scikit_learn_on_the_same_points(tiny_run):
    points = pd.read_parquet(tiny_run.folder.embeddings / "points").sort_values("id")
    points = points[points["id"] < 120]
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
    scored = table[table["metric"].isin(GENERATOR_METRICS)]
    quality = (
        table[table["metric"].isin(PROJECTION_METRICS)]
        .set_index(["population", "reducer", "metric"])["value"]
        .sort_index()
    )
    of_reducers = {"trustworthiness", "knn_recall"}
    assert set(quality["real", "pca3"].index) == {*of_reducers, "knn_accuracy"}
    assert set(quality["fake", "pca3"].index) == set(quality["both", "pca3"].index) == of_reducers
    assert set(quality["real", "none"].index) == {"knn_accuracy"}
    table = table[table["clusterer"] != ""]
    by_population = table.groupby(["population", "reducer"])["metric"].apply(set).to_dict()
    labelled = {"silhouette", "clusters", "ari", "nmi", "ami", "acc", "mixing"}
    for reducer in ("none", "pca3"):
        assert by_population["real", reducer] == labelled
        assert by_population["fake", reducer] == {"silhouette", "clusters"}
        assert by_population["both", reducer] == {"silhouette", "clusters", "mixing"}
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
    assert (tiny_run.table[["selection", "error"]] == "").all(axis=None)


def test_points_are_found_from_any_working_directory_of_the_workers(ray_session, rng, tmp_path, monkeypatch):
    written(tmp_path / "points", a_population(rng))
    monkeypatch.chdir(tmp_path)  # after the workers began in another
    origins = points.read_points(Path("points"))
    *_, rows, failed, errors = reduced_and_scored(evaluation(reducers=["none", "pca"]), origins, Path("c"))
    assert (failed, errors) == ([], [])
    assert len(rows) > 10


def test_clusterings_without_clusters_do_not_agree():
    real = points.Origin("", "", np.arange(8), np.arange(8) % 2, (), "")
    space = spaces.Space("real", real, None, CODE, "none", False)
    all_noise, split = np.full(8, -1), np.arange(8) % 2
    for clusters, expected in ((all_noise, []), (split, [1.0])):
        runs = [scores.Clustering(space, "hdbscan", clusters, []) for _ in range(2)]
        assert [row["value"] for row in scores._agreements(runs)] == expected
