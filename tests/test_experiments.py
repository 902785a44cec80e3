"""Experiments of every kind run to their ends."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

import raymnist
from raymnist import datasets, experiment_file
from raymnist.cli.look import show
from raymnist.config import Dataset
from raymnist.metrics import GENERATOR_METRICS
from raymnist.models import features


def test_a_search_with_more_time_has_its_evaluation_done_again(tiny_file, ray_session, tmp_path, capsys):
    """The trial that was cut off goes on under its key, and may still be the best."""
    sets = {
        "studies": {
            "gan": {
                "model": {"name": "dense_gan", "latent_dim": 4, "generator_units": [8], "discriminator_units": [8]},
                "train": {"epochs": 3, "batch_size": 32, "learning_rate": {"grid": [1e-2, 1e30]}},
                "sweep": {"searcher": "grid", "trials": 1, "minutes": 0.02, "images": 100},
                "resources": {"max_concurrent": 1},
            }
        },
        "evaluation": {"images": 60, "scored_images": 100, "features": ["pixels"], "reducers": ["none"]},
    }
    first = raymnist.run(tiny_file, sets, results=tmp_path)
    assert "gan: the time is over with 1 cut short; more `sweep.minutes`" in capsys.readouterr().out
    assert first.trials["status"].to_list() == ["out_of_time"]
    assert first.trials["hostname"].all()
    assert first.manifest["status"] == "complete"
    before = first.table.set_index(["population", "metric", "clusterer"])["value"]
    sets["studies"]["gan"]["sweep"]["minutes"] = 10
    second = raymnist.run(tiny_file, sets, results=tmp_path)
    assert second.trials["epochs_done"].to_list() == [3]
    assert second.history["epoch"].to_list() == [1, 2, 3]
    after = second.table.set_index(["population", "metric", "clusterer"])["value"]
    assert after["fake", "fid", ""] != before["fake", "fid", ""]
    assert second.best("gan").scores is not None
    sets["studies"]["gan"]["sweep"]["minutes"] = 20
    raymnist.run(tiny_file, sets, results=tmp_path)
    assert "training" not in capsys.readouterr().out.split("finished after epoch 3")[-1]


def test_a_pareto_front_is_in_the_table_the_terminal_and_the_report(tiny_file, ray_session, tmp_path, capsys):
    study = {
        "model": {"name": "dense_gan", "latent_dim": 4, "generator_units": [8], "discriminator_units": [8]},
        "train": {"epochs": 1, "batch_size": 32, "learning_rate": {"loguniform": [1e-4, 1e-1]}},
        "sweep": {"trials": 4, "metric": ["fid", "modes_kl"], "images": 100},
    }
    results = raymnist.run(tiny_file, {"studies": {"gan": study}, "evaluation": None}, results=tmp_path)
    trials = results.trials.set_index("trial_id")
    values = trials[["best_fid", "best_modes_kl"]]
    beaten = {
        name for name, own in values.iterrows() for _, other in values.iterrows()
        if (other <= own).all() and (other < own).any()
    }  # fmt: skip
    assert set(trials.index[trials["pareto_front"] == "yes"]) == set(trials.index) - beaten
    front = results.pareto_front("gan")
    assert set(front["trial_id"]) == set(trials.index) - beaten
    assert front["fid"].is_monotonic_increasing
    assert front["fid"].iloc[0] == values["best_fid"].min()
    assert (results.folder.figures / "pareto_gan.png").is_file()
    capsys.readouterr()
    show([results.folder.path])
    assert "Pareto front of gan" in capsys.readouterr().out


def test_unlabelled_colour_images_of_another_size_go_the_whole_way(ray_session, tmp_path, rng):
    images = rng.integers(0, 256, (160, 13, 10, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x_train=images[:100], x_test=images[100:])
    text = f"""
name: colour
dataset: {tmp_path / "noise.npz"}
studies:
  autoencoder:
    model: {{name: conv_autoencoder, latent_dim: 3, filters: 4}}
    train: {{epochs: 1, batch_size: 16}}
  dense:
    model: {{name: dense_gan, latent_dim: 3, generator_units: {{choice: [[8], [8, 4]]}}, discriminator_units: [8]}}
    train: {{epochs: 1, batch_size: 16}}
    sweep: {{trials: 2}}
evaluation: {{features: [code, pixels], reducers: [none, pca], fit_on: both}}
"""
    (tmp_path / "colour.yaml").write_text(text)
    results = raymnist.run(tmp_path / "colour.yaml", results=tmp_path / "results")
    assert results.manifest["status"] == "complete"
    scored = {name for name, metric in GENERATOR_METRICS.items() if metric.needs != "logits"}
    of_clusters, of_maps = {"silhouette", "mixing", "clusters"}, {"trustworthiness", "knn_recall"}
    assert set(results.table["metric"]) == of_clusters | of_maps | scored
    assert set(results.table["features"]) == {"code", "pixels"}
    assert set(results.table.loc[results.table["metric"] == "fid", "encoder"]) == {"autoencoder-00"}  # its code
    assert not results.table["classifier"].any()
    assert results.leaderboard.set_index("study").loc["dense", "settings"].startswith("generator_units [8")
    assert results.best("dense").generate(5).shape == (5, 13, 10, 3)
    assert results.table["n_images"].max() == 120


# By the demo, the README's test (real_vs_fake_small, which has the parts of real_vs_fake), the notebook's, and below.
RUN_ELSEWHERE = {"quickstart", "real_vs_fake_small", "real_vs_fake", "clustering", "clustering_best"}


@pytest.mark.parametrize("name", sorted(set(experiment_file.bundled()) - RUN_ELSEWHERE))
def test_a_bundled_experiment_runs_to_its_end(name, ray_session, tmp_path):
    """As it is but for few images and epochs; one GAN alone is trained, several are also compared."""
    studies = experiment_file.load(name).studies
    short = {
        "dataset": {"name": "digits", "limit": 100},
        "studies.*.train.epochs": 1,
        "studies.*.train.batch_size": 32,
        "evaluation": None,
    }
    if name in ("autoencoder", "compare_gans"):
        parts = ["none", {"pca": {"dims": 3}}]
        short |= {"evaluation": {"images": 30, "scored_images": 50, "reducers": parts}}
    for study, settings in studies.items():
        if settings.sweep:
            short |= {f"studies.{study}.sweep.trials": 2, f"studies.{study}.sweep.images": 100}
    if name == "confirmed":
        short |= {"studies.gan.confirm": {"seeds": 2}}
    if name == "pbt_dcgan":
        exchanges = {"studies.gan.sweep.every": 1, "studies.gan.sweep.scheduler.perturb_every": 1}
        short |= {"studies.gan.train.epochs": 2, **exchanges}
    results = raymnist.run(name, short, results=tmp_path)
    assert results.manifest["status"] == "complete"
    assert results.leaderboard["study"].to_list() == [*studies, *(["floor"] if name == "compare_gans" else [])]
    assert set(results.trials["status"]) == {"finished"}
    if short["evaluation"]:
        assert {"silhouette", "ari", "nmi"} <= set(results.table["metric"])
        assert set(results.table["study"]) == {"", *(study for study in studies if name == "compare_gans")}


def test_a_folder_keeps_the_classifier_that_it_began_with(tiny_run, ray_session, tmp_path, monkeypatch, capsys):
    """One trained since then, or gone, would change what the trials were chosen by."""
    whole = datasets.load_digits()
    np.savez(
        tmp_path / "d.npz", x_train=whole.x_train[::-1], y_train=whole.y_train[::-1], x_test=whole.x_test[:60],
        y_test=whole.y_test[:60],
    )  # fmt: skip
    (tmp_path / "e.yaml").write_text(
        "{name: e, dataset: d.npz, studies: {gan: {model: {name: dense_gan, generator_units: [4], "
        "discriminator_units: [4]}, train: {epochs: 1}}}, evaluation: null}"
    )
    monkeypatch.setenv("RAYMNIST_CACHE", str(tmp_path / "cache"))
    first = raymnist.run(tmp_path / "e.yaml", results=tmp_path)
    assert first.best("gan").config.metric == "frechet_pixels"
    features.keep(features.WEIGHTS / "digits.keras", datasets.load(Dataset(name=str(tmp_path / "d.npz"))))
    again = raymnist.run(tmp_path / "e.yaml", results=tmp_path)
    assert "nothing to do" in capsys.readouterr().out
    assert again.best("gan").config.metric == "frechet_pixels"
    fresh = raymnist.run(tmp_path / "e.yaml", results=tmp_path, fresh=True)
    assert fresh.best("gan").config.metric == "fid"
    shutil.rmtree(tmp_path / "cache")
    raymnist.run(tmp_path / "e.yaml", results=tmp_path)
    assert "nothing to do" in capsys.readouterr().out
    assert fresh.folder.classifier.read_bytes() == (features.WEIGHTS / "digits.keras").read_bytes()


def test_a_classifier_is_kept_for_its_data_set_again_where_it_is_gone(ray_session, tmp_path, monkeypatch, capsys):
    whole = datasets.load_digits()
    np.savez(
        tmp_path / "d.npz", x_train=whole.x_train[200::-1], y_train=whole.y_train[200::-1], x_test=whole.x_test[:60],
        y_test=whole.y_test[:60],
    )  # fmt: skip
    monkeypatch.setenv("RAYMNIST_CACHE", str(tmp_path / "cache"))
    sweep = {"trials": 1, "metric": "val_accuracy"}
    train = {"epochs": 1, "batch_size": {"choice": [32]}}
    sets = {"dataset": str(tmp_path / "d.npz"), "studies.classifier": {"model": "classifier", "train": train}}
    for _ in range(2):
        results = raymnist.run("classifier", {**sets, "studies.classifier.sweep": sweep}, results=tmp_path)
        assert "classifier: kept for scores in" in capsys.readouterr().out
        assert results.best("classifier").config.metric == "val_accuracy"
        kept = features.find(datasets.load(Dataset(name=str(tmp_path / "d.npz"))))
        assert kept.data == (results.best("classifier").path / "model.keras").read_bytes()
        shutil.rmtree(tmp_path / "cache")


def test_clusterings_are_chosen_without_labels_among_those_of_all_confirmations(ray_session, tmp_path, capsys):
    short = {
        "dataset": {"name": "digits", "limit": 200},
        "studies.autoencoder.train": {"epochs": 2, "batch_size": 32},
        "studies.autoencoder.confirm": {"seeds": 2},
        "evaluation.images": 300,
        "evaluation.reducers": [{"pca": 2}, {"pca": 4}],
        "evaluation.clusterers": ["kmeans", {"hdbscan": 5}],
    }
    results = raymnist.run("clustering_best", short, results=tmp_path)
    assert results.manifest["status"] == "complete"
    table = results.table
    assert (table["n_images"] == 300).sum() > 0  # of 200 to train and validate, and 360 to test
    clustered = table[(table["clusterer"] != "") & (table["encoder"] != "")]
    assert set(clustered["encoder"]) == {"autoencoder-00-s1", "autoencoder-00-s2"}
    assert clustered.groupby("encoder")["seed"].unique().map(list).to_list() in ([[0], [1]], [[1], [0]])
    points = pd.read_parquet(results.folder.embeddings / "points")
    first, second = (np.stack(points[name].to_list()) for name in points if name.startswith("code"))
    assert np.abs(first - second).max() > 0.1
    clusters = pd.read_parquet(results.folder.embeddings / "clusters")

    def score(runs, metric):
        return runs.loc[runs["metric"] == metric, "value"]

    found = results.candidates.set_index(["reducer", "clusterer"])
    assert len(found) == 4
    for (reducer, clusterer), line in found.iterrows():
        rows = table[(table["reducer"] == reducer) & (table["clusterer"] == clusterer)]
        one, other = (
            of_run.sort_values("id")["cluster"]
            for _, of_run in clusters[(clusters["reducer"] == reducer) & (clusters["clusterer"] == clusterer)].groupby(
                "encoder"
            )
        )
        assert line["agreement"] == pytest.approx(metrics.adjusted_rand_score(one, other))
        assert score(rows, "agreement").item() == pytest.approx(line["agreement"])
        assert line["ari"] == pytest.approx(score(rows, "ari").mean())
        assert line["ari_sd"] == pytest.approx(score(rows, "ari").std(ddof=1))
        assert line["n"] == 2
    assert found["agreement"].is_monotonic_decreasing
    assert results.leaderboard["ari"].item() == pytest.approx(found["ari"].iloc[0])
    assert results.leaderboard["ari_sd"].item() == pytest.approx(found["ari_sd"].iloc[0])
    show([results.folder.path])
    assert "clusterings of real codes by agreement, the chosen one first" in " ".join(capsys.readouterr().out.split())
    assert "the chosen one first" in results.folder.leaderboard.read_text()
