"""A run goes on with what is there, and does nothing twice."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import raymnist
from raymnist import datasets, experiment_file, folder, pipeline
from raymnist.cli.look import print_leaderboard, show
from raymnist.config import Dataset
from raymnist.errors import InputError
from raymnist.metrics import GENERATOR_METRICS
from raymnist.models import features
from raymnist.standing import Standing


@pytest.fixture
def copied(tiny_run, tmp_path):
    """A folder above a copy of the finished run; the folder's place is no part of any key."""
    shutil.copytree(tiny_run.folder.path, tmp_path / "results" / "tiny")
    return tmp_path / "results"


def stamps(path, pattern="*"):
    return {file: file.stat().st_mtime_ns for file in Path(path).rglob(pattern) if file.is_file()}


def test_a_run_leaves_what_the_contract_names(tiny_run):
    names = {path.name for path in tiny_run.folder.path.iterdir()}
    assert names == {
        "experiment.yaml", "manifest.json", "log.txt", "trials.csv", "history.csv", "results.csv", "leaderboard.md",
        "studies", "embeddings", "figures", "report.html", "classes.csv", "classifier.keras",
    }  # fmt: skip
    assert tiny_run.manifest["status"] == "complete"
    assert set(tiny_run.manifest["seconds"]) == {"autoencoder", "gan", "points", "coordinates", "scores", "report"}
    assert len(tiny_run.trials) == 4
    assert set(tiny_run.trials["status"]) == {"finished"}
    assert {"latent_dim", "learning_rate", "best_val_loss", "best_fid"} <= set(tiny_run.trials.columns)
    epochs = tiny_run.history.groupby("trial_id").size().to_dict()
    assert epochs == {"autoencoder-00": 2, "autoencoder-01": 2, "gan-00": 6, "gan-01": 6}


def test_the_log_has_rays_statistics_and_the_lines_of_the_run(tiny_run):
    log = tiny_run.folder.log.read_text()
    assert "Operator 1 MapBatches(Embed)" in log
    assert "gan: training 2 of 2 trials" in log


def test_the_autoencoder_reports_both_losses_and_the_gan_its_game(tiny_run):
    autoencoder = tiny_run.best("autoencoder").history
    assert autoencoder[["loss", "val_loss"]].notna().all(axis=None)
    gan = tiny_run.best("gan").history
    assert gan[["discriminator_loss", "generator_loss", "accuracy_real", "accuracy_fake"]].notna().all(axis=None)
    for score in ("fid", "frechet_pixels"):  # at every second epoch
        assert gan[score].notna().tolist() == [False, True] * 3


def test_the_same_command_again_does_nothing_and_says_so(tiny_file, copied, capsys):
    before = stamps(copied)
    raymnist.run(tiny_file, results=copied)
    assert "tiny is complete" in capsys.readouterr().out
    assert stamps(copied) == before


def test_the_resolved_file_is_the_same_experiment(tiny_run, copied, capsys):
    raymnist.run(tiny_run.folder.experiment, results=copied)
    assert "nothing to do" in capsys.readouterr().out


def test_a_changed_evaluation_is_redone_from_the_saved_trials(tiny_file, copied):
    before = stamps(copied / "tiny" / "studies", "*-0?/**/*")
    points = stamps(copied / "tiny" / "embeddings" / "points")
    results = raymnist.run(tiny_file, {"evaluation.reducers": ["none", {"pca": {"dims": 2}}]}, results=copied)
    assert len(before) > 20
    assert stamps(copied / "tiny" / "studies", "*-0?/**/*") == before
    assert stamps(copied / "tiny" / "embeddings" / "points") == points
    assert set(results.table["reducer"]) == {"none", "pca2", ""}  # without one: the scores of generators
    assert "pca2" in results.folder.report.read_text()


def test_a_second_evaluation_of_the_same_trials_gives_the_same_table(tiny_file, copied):
    target = folder.Folder(copied / "tiny")
    table, tables = target.table.read_bytes(), pd.read_parquet(target.embeddings / "clusters")
    target.note(complete={})
    target.table.unlink()
    shutil.rmtree(target.embeddings)
    raymnist.run(tiny_file, results=copied)
    assert target.table.read_bytes() == table
    pd.testing.assert_frame_equal(pd.read_parquet(target.embeddings / "clusters"), tables)


def test_another_change_of_a_study_stops_with_one_line_and_touches_nothing(tiny_file, copied):
    before = stamps(copied)
    with pytest.raises(InputError, match=r"tiny: gan changed: train\.epochs 6 -> 3; use --fresh gan$"):
        raymnist.run(tiny_file, {"studies.gan.train.epochs": 3}, results=copied)
    assert stamps(copied) == before


def test_fresh_trains_one_study_again_and_leaves_the_other(tiny_file, copied):
    autoencoder = stamps(copied / "tiny" / "studies" / "autoencoder", "model.keras")
    changed = {"studies.gan.train.epochs": 3}
    results = raymnist.run(tiny_file, changed, results=copied, fresh="gan")
    assert stamps(copied / "tiny" / "studies" / "autoencoder", "model.keras") == autoencoder
    assert len(results.best("gan").history) == 3
    assert results.manifest["status"] == "complete"


def test_more_trials_train_only_the_new_ones(tiny_file, copied):
    before = stamps(copied / "tiny" / "studies", "*.keras")
    results = raymnist.run(tiny_file, {"studies.gan.sweep.trials": 3}, results=copied)
    after = stamps(copied / "tiny" / "studies", "*.keras")
    assert {path.parts[-3 if path.parent.name == "generators" else -2] for path in set(after) - set(before)} == {
        "gan-02"
    }
    assert {path: after[path] for path in before} == before
    assert results.trials["trial_id"].tolist() == ["autoencoder-00", "autoencoder-01", "gan-00", "gan-01", "gan-02"]


@pytest.mark.long
def test_an_interrupted_run_says_so_and_goes_on_to_the_same_table(tiny_file, tiny_run, tmp_path, aside):
    """The signal comes with a look at a GAN, when its trial has a checkpoint and no end."""
    words = [sys.executable, "-m", "raymnist", "run", str(tiny_file), "--results", str(tmp_path / "stopped")]

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs inherit that it is ignored

    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=os.environ | aside, start_new_session=True, preexec_fn=listen
    ) as running:
        for line in running.stdout:
            if line.startswith("gan-0") and " epoch 2 " in line and running.poll() is None:
                os.kill(running.pid, signal.SIGINT)
        assert running.wait(60) != 0
    assert raymnist.open(tmp_path / "stopped" / "tiny").manifest["status"] == "interrupted"
    assert not (tmp_path / "stopped" / "tiny" / ".lock").exists()
    again = raymnist.run(tiny_file, results=tmp_path / "stopped")
    assert again.manifest["status"] == "complete"
    timings = ["seconds", "scoring_seconds", "images_per_second"]
    pd.testing.assert_frame_equal(again.history.drop(columns=timings), tiny_run.history.drop(columns=timings))
    pd.testing.assert_frame_equal(again.table, tiny_run.table, rtol=1e-6)


def test_confirmations_are_trained_after_the_search_and_their_means_shown(tiny_file, copied, ray_session, capsys):
    """Without a change of the search: what is confirmed is no part of the trials that are there."""
    results = raymnist.run(tiny_file, {"studies.gan.confirm": {"top": 2, "seeds": 2}}, results=copied)
    assert "gan: training 4 of 4 confirmations" in capsys.readouterr().out
    runs = results.trials[results.trials["confirms"] != ""]
    assert sorted(runs["trial_id"]) == ["gan-00-s1", "gan-00-s2", "gan-01-s1", "gan-01-s2"]
    assert (runs["epochs_done"] == 6).all()
    board = results.leaderboard[results.leaderboard["study"] == "gan"]
    means = runs.groupby("confirms")["best_fid"].agg(["mean", "std"]).sort_values("mean")
    assert board["best"].to_list() == means.index.to_list()
    np.testing.assert_allclose(board[["value", "value_sd"]], means, rtol=1e-6)
    assert board["n"].to_list() == [2, 2]
    first = runs[runs["confirms"] == board["best"].iloc[0]]
    scored = results.table[(results.table["metric"] == "fid") & (results.table["population"] == "fake")]
    assert sorted(scored["trial_id"]) == sorted(first["trial_id"])
    assert board["fid"].iloc[0] == pytest.approx(scored["value"].mean())
    assert board["fid_sd"].iloc[0] == pytest.approx(scored["value"].std(ddof=1))
    assert np.isnan(board["fid"].iloc[1])
    assert results.best("gan").config.trial_id == first.set_index("trial_id")["best_fid"].idxmin()
    drawn = {path.name for path in results.folder.figures.iterdir()}
    assert {f"nearest_{results.best('gan').config.trial_id}.png"} == {n for n in drawn if n.startswith("nearest")}
    assert "confirmations_gan.png" in drawn
    assert "over n fresh seeds" in results.folder.report.read_text()
    assert "±" in results.folder.leaderboard.read_text()
    print_leaderboard([results])
    said = capsys.readouterr().out
    assert "over 2 seeds" in said
    raymnist.run(tiny_file, {"studies.gan.confirm": {"top": 2, "seeds": 2}}, results=copied)
    assert "nothing to do" in capsys.readouterr().out


def test_a_search_with_more_time_has_its_evaluation_done_again(tiny_file, ray_session, tmp_path, capsys):
    """The trial that was cut off goes on under its key, and may still be the best."""
    sets = {
        "studies": {
            "gan": {
                "model": {"name": "dense_gan", "latent_dim": 4, "generator_units": [8], "discriminator_units": [8]},
                "train": {"epochs": 6, "batch_size": 32, "learning_rate": {"grid": [1e-2, 1e30]}},
                "sweep": {"searcher": "grid", "trials": 1, "minutes": 0.02, "images": 100},
                "resources": {"max_concurrent": 1},
            }
        },
        "evaluation.reducers": ["none"],
    }
    first = raymnist.run(tiny_file, sets, results=tmp_path)
    assert "gan: the time is over with 1 cut short; more `sweep.minutes`" in capsys.readouterr().out
    assert first.trials["status"].to_list() == ["out_of_time"]
    assert first.trials["hostname"].all()
    assert first.manifest["status"] == "complete"
    before = first.table.set_index(["population", "metric", "clusterer"])["value"]
    sets["studies"]["gan"]["sweep"]["minutes"] = 10
    second = raymnist.run(tiny_file, sets, results=tmp_path)
    assert second.trials["epochs_done"].to_list() == [6]
    assert second.history["epoch"].to_list() == [1, 2, 3, 4, 5, 6]
    after = second.table.set_index(["population", "metric", "clusterer"])["value"]
    assert after["fake", "fid", ""] != before["fake", "fid", ""]
    assert second.best("gan").scores is not None
    sets["studies"]["gan"]["sweep"]["minutes"] = 20
    raymnist.run(tiny_file, sets, results=tmp_path)
    assert "training" not in capsys.readouterr().out.split("finished after epoch 6")[-1]


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


def test_a_killed_run_that_only_lacked_its_last_note_is_brought_to_its_end(tiny_file, copied, capsys):
    target = folder.Folder(copied / "tiny")
    target.note(status="running")
    target.trials.unlink()
    results = raymnist.run(tiny_file, results=copied)
    assert results.manifest["status"] == "complete"
    assert len(results.trials) == 4
    assert "training" not in capsys.readouterr().out


def test_a_folder_that_a_killed_run_had_only_begun_is_no_obstacle(tiny_file, tmp_path):
    experiment, images = pipeline.prepare(tiny_file)
    target = folder.Folder(tmp_path / "tiny")
    target.note(status="running", versions={"raymnist": "0.1.0"})
    folder.write_text(target.experiment, experiment.to_yaml())
    standing = Standing.read(experiment, images, target, fresh="gan")
    standing.forget()
    assert not standing.is_complete()
    target.note(status="complete")
    target.experiment.unlink()
    assert not Standing.read(experiment, images, target, fresh=False).is_complete()


def test_files_that_were_deleted_are_made_again(tiny_file, copied):
    target = folder.Folder(copied / "tiny")
    table = target.table.read_bytes()
    target.table.unlink()
    shutil.rmtree(target.embeddings / "coordinates")
    raymnist.run(tiny_file, results=copied)
    assert target.table.read_bytes() == table
    assert any((target.embeddings / "coordinates").iterdir())


def test_without_an_evaluation_no_table_is_left_behind(tiny_file, copied):
    results = raymnist.run(tiny_file, {"evaluation": None}, results=copied)
    assert results.table.empty
    assert not results.folder.embeddings.exists()
    assert results.manifest["status"] == "complete"


def test_an_evaluation_without_reducers_is_drawn_and_needs_no_git(tiny_file, copied, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    results = raymnist.run(tiny_file, {"evaluation.reducers": ["none"]}, results=copied)
    assert set(results.table["reducer"]) == {"none", ""}
    assert results.folder.report.is_file()
    assert results.manifest["git_commit"] is None


def test_a_failed_trial_leaves_the_tables_and_is_tried_again(tiny_file, copied, capsys):
    broken = {
        "studies.gan.train.learning_rate": {"grid": [1e-3, 1e30]},
        "studies.gan.model.latent_dim": 4,
        "studies.gan.sweep": {"searcher": "grid"},
        "studies.gan.train.epochs": 1,
    }
    results = raymnist.run(tiny_file, broken, results=copied, fresh="gan")
    assert results.manifest["status"] == "incomplete"
    assert results.trials["status"].tolist() == ["finished", "finished", "finished", "failed"]
    assert "FloatingPointError" in results.trials["error"].iloc[3]
    assert not results.table.empty
    assert "gan-01: FloatingPointError" in results.folder.report.read_text()
    shown = capsys.readouterr().out
    assert shown.index("gan-01 failed: FloatingPointError") < shown.index("failed: gan-01: FloatingPointError")
    raymnist.run(tiny_file, broken, results=copied)
    assert "gan: training 1 of 2 trials" in capsys.readouterr().out


def test_other_files_in_the_way_are_left_alone(tiny_file, ray_session, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("years of work")
    shutil.copy(tiny_file, tmp_path / "tiny" / "experiment.yaml")
    for fresh in (False, True):
        with pytest.raises(InputError, match="expected a results folder or nothing, found something else"):
            raymnist.run(tiny_file, results=tmp_path, fresh=fresh)
    assert {path.name for path in (tmp_path / "tiny").iterdir()} == {"thesis.txt", "experiment.yaml"}
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="file: expected a folder for results, found a file"):
        raymnist.run(tiny_file, results=tmp_path / "file")
    with pytest.raises(InputError, match="/proc/raymnist/tiny: expected a folder to write to"):
        raymnist.run(tiny_file, results="/proc/raymnist")


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (
            {"studies.gan.resources.gpus": 1, "studies.gan.resources.cpus": 99},
            "cpus: expected at most 2, the most that any",
        ),
        ({"dataset": "missing.npz"}, r"missing\.npz: expected an \.npz file, found none"),
    ],
)
def test_wrong_input_writes_nothing(tiny_file, ray_session, tmp_path, sets, line):
    with pytest.raises(InputError, match=line):
        raymnist.run(tiny_file, sets, results=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_would_run_and_writes_nothing(tiny_file, ray_session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = pipeline.dry_run(tiny_file, {"studies.gan.resources.gpus": 0.5})
    assert lines == [
        "tiny: 270 training, 30 validation and 360 test images of digits, 28x28x1",
        "autoencoder: 2 of 2 trials of conv_autoencoder x 2 epochs, each on 1 CPU and 0 GPU, 1 at a time",
        "gan: 2 of 2 trials of conv_gan x 6 epochs, each on 1 CPU and 0.5 GPU, 1 at a time",
        "evaluation: 60 real images and as many fakes of each of gan; 100 of each are scored on classifier features",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_holds_the_plan_against_what_is_there(tiny_file, copied):
    assert pipeline.dry_run(tiny_file, {"studies.gan.sweep.trials": 5}, results=copied)[1:] == [
        "autoencoder: all 2 trials have ended",
        "gan: 3 of 5 trials of conv_gan x 6 epochs, each on 1 CPU and 0 GPU, 1 at a time",
        "evaluation: 60 real images and as many fakes of each of gan; 100 of each are scored on classifier features",
    ]
    sets = {
        "studies.gan.confirm": {"top": 2, "seeds": 3},
        "studies.gan.sweep.minutes": 3,
        "studies.gan.sweep.trials": 5,
        "studies.gan.resources.max_concurrent": None,
    }
    lines = pipeline.dry_run(tiny_file, sets, results=copied)
    assert re.fullmatch(r"gan: 3 of 5 trials .*, 2 at a time, for 2\.\d+ minutes at most", lines[2])  # some are spent
    assert lines[3] == "gan: then up to 6 confirmations, of which there are 0 for those that are best now"
    with pytest.raises(InputError, match=r"gan changed: train\.epochs 6 -> 3"):
        pipeline.dry_run(tiny_file, {"studies.gan.train.epochs": 3}, results=copied)


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
    assert set(results.table["metric"]) == {"silhouette", "mixing"} | scored
    assert set(results.table["features"]) == {"code", "pixels"}
    assert set(results.table.loc[results.table["metric"] == "fid", "encoder"]) == {"autoencoder-00"}  # its code
    assert not results.table["classifier"].any()
    assert results.leaderboard.set_index("study").loc["dense", "settings"].startswith("generator_units [8")
    assert results.best("dense").generate(5).shape == (5, 13, 10, 3)
    assert results.table["n_images"].max() == 120


# By the demo, the README's test (real_vs_fake_small, which has the parts of real_vs_fake) and the notebook's.
RUN_ELSEWHERE = {"quickstart", "real_vs_fake_small", "real_vs_fake", "clustering"}


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
        short |= {"evaluation": {"images": 30, "reducers": parts}}
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


def test_an_encoder_chosen_by_labels_is_marked_as_supervised(tiny_file, tiny_run, tmp_path, capsys):
    study = {
        "model": {"name": "conv_autoencoder", "latent_dim": {"choice": [2, 3]}, "filters": 2},
        "train": {"epochs": 1, "batch_size": 64},
        "sweep": {"trials": 2, "metric": "ari"},
    }
    evaluation = {"images": 40, "features": ["code", "classifier"], "reducers": ["none"]}
    results = raymnist.run(tiny_file, {"studies": {"encoder": study}, "evaluation": evaluation}, results=tmp_path)
    table = results.table.set_index(["features", "metric"])
    assert (table.loc["code", "selection"] == "supervised selection").all()
    assert (table.loc["classifier", "selection"] == "").all()  # which no study has chosen
    assert table.loc[("classifier", "ari"), "value"] > 0.8 > table.loc[("code", "ari"), "value"]
    assert results.leaderboard["objective"].to_list() == ["ari (supervised)"]
    print_leaderboard([results, tiny_run])
    assert re.findall("scored on [a-z]+", capsys.readouterr().out) == ["scored on classifier"]  # the GAN alone


@pytest.fixture
def pretrained(tiny_run, tmp_path):
    """An experiment without studies: a saved generator, named from the experiment's own folder."""
    shutil.copy(tiny_run.best("gan").path / "model.keras", tmp_path / "old.keras")
    text = """
name: pretrained
dataset: {name: digits, limit: 100}
evaluation: {generators: [old.keras], images: 50, scored_images: 50, reducers: [{pca: {dims: 3}}], fit_on: both}
"""
    (tmp_path / "pretrained.yaml").write_text(text)
    return tmp_path / "pretrained.yaml"


def test_saved_generators_are_evaluated_without_any_study(pretrained, tiny_run, ray_session, tmp_path, capsys):
    results = raymnist.run(pretrained, results=tmp_path / "results")
    assert results.manifest["status"] == "complete"
    fakes = results.table[results.table["population"] != "real"]
    assert set(fakes["trial_id"]) == {"old.keras"}
    assert set(fakes["study"]) == {"old"}
    line, floor = results.leaderboard.to_dict("records")
    assert (floor["study"], floor["best"]) == ("floor", "real images")
    assert line["fid"] > floor["fid"]
    both = results.table[(results.table["population"] == "both") & (results.table["metric"] == "mixing")]
    assert (line["study"], line["mixing"]) == ("old", both["value"].item())
    assert "| old | old.keras |" in results.folder.leaderboard.read_text()
    points = pd.read_parquet(results.folder.embeddings / "points")
    pixels = np.stack(points[points["source"] == "fake"].sort_values("id")["pixels"].to_list())
    expected = tiny_run.best("gan").generate(50, seed=0).reshape(50, -1)
    np.testing.assert_array_equal(pixels, expected)

    raymnist.run(pretrained, results=tmp_path / "results")
    assert "nothing to do" in capsys.readouterr().out
    (tmp_path / "old.keras").write_bytes((tiny_run.best("gan").path / "generators/epoch_0001.keras").read_bytes())
    raymnist.run(pretrained, results=tmp_path / "results")
    assert "embedded 50 real images and 50 fakes by old.keras" in capsys.readouterr().out

    # and two files of one name are told apart by their labels
    gan = tiny_run.best("gan").path
    both = [{"name": str(gan / "model.keras"), "label": "kept"}, str(gan / "model.keras")]
    started = results.manifest["started"]
    results = raymnist.run(pretrained, {"evaluation.generators": both}, results=tmp_path / "results", fresh=True)
    assert results.manifest["started"] > started
    assert results.leaderboard["best"].to_list() == ["kept.keras", "model.keras", "real images"]
    assert set(results.table["study"]) == {"", "kept", "model"}
    mixing = results.leaderboard["mixing"]
    assert 0 <= mixing[0] == mixing[1]
    with pytest.raises(
        InputError, match=r"different names in the table, received model\.keras, model\.keras; .*`label`"
    ):
        raymnist.run(pretrained, {"evaluation.generators": [both[1], both[1]]}, results=tmp_path / "results")


def test_a_saved_generator_that_cannot_be_used_is_refused_before_anything_is_written(
    pretrained, ray_session, tmp_path, rng
):
    images = rng.integers(0, 256, (40, 13, 10), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", x_train=images, x_test=images)
    for dry in (pipeline.dry_run, raymnist.run):
        with pytest.raises(InputError, match=r"old\.keras: expected images \(13, 10, 1\), as those of the data set"):
            dry(pretrained, {"dataset": str(tmp_path / "small.npz")}, results=tmp_path / "results")
    (tmp_path / "old.keras").write_text("no model")
    with pytest.raises(InputError, match=r"generators: .*old\.keras: expected a saved Keras model, received"):
        raymnist.run(pretrained, results=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_results_open_to_trials_that_generate_and_reconstruct(tiny_run, digits):
    results = raymnist.open(tiny_run.folder.path)
    gan, autoencoder = results.best("gan"), results.best("autoencoder")
    images = gan.generate(100, seed=0)
    assert (images.shape, images.dtype) == ((100, 28, 28, 1), np.uint8)
    np.testing.assert_array_equal(images[:10], gan.generate(10, seed=0))
    assert not np.array_equal(images, gan.generate(100, seed=1))
    assert autoencoder.reconstruct(digits.test[:3]).shape == (3, 28, 28, 1)
    assert set(gan.scores["population"]) == {"fake", "both"}
    assert set(autoencoder.scores["population"]) == {"real"}
    with pytest.raises(InputError, match="expected a generator, received an autoencoder"):
        autoencoder.generate(1)
    with pytest.raises(InputError, match="unknown study 'vae'; choose from autoencoder, gan"):
        results.best("vae")
    with pytest.raises(InputError, match="expected a results folder"):
        raymnist.open(tiny_run.folder.path / "studies")


def test_the_leaderboard_has_a_line_per_study_with_the_floor_beside_the_score(tiny_run):
    board = tiny_run.leaderboard.set_index("study")
    table = tiny_run.table[tiny_run.table["reducer"] == "none"].set_index(["population", "metric"])["value"]
    assert board.loc["autoencoder", "ari"] == table["real", "ari"]
    assert board.loc["gan", "mixing"] == table["both", "mixing"]
    assert board.loc["floor", "mixing"] == table["real", "mixing"]
    scored = tiny_run.table[tiny_run.table["clusterer"] == ""].set_index(["population", "metric"])["value"]
    for metric in ("fid", "precision", "recall"):
        assert board.loc["gan", metric] == scored["fake", metric]
        assert board.loc["floor", metric] == scored["real", metric]
    assert np.isnan(board.loc["gan", "ari"])
    assert np.isnan(board.loc["autoencoder", "fid"])
    assert tiny_run.folder.leaderboard.read_text().count("\n| ") == 5


def test_the_figures_are_drawn_and_the_report_shows_them_without_a_network(tiny_run):
    drawn = sorted(path.name for path in tiny_run.folder.figures.iterdir())
    gan, gan_grid = tiny_run.best("gan").config.trial_id, tiny_run.best("gan").path / "samples" / "best.png"
    assert drawn == sorted(
        [
            "curves_autoencoder.png", "curves_gan.png", f"map_code_pca3_{gan}.png", f"scatter3d_code_pca3_{gan}.png",
            "samples_autoencoder.png", "samples_gan.png", f"nearest_{gan}.png", f"classes_{gan}.png",
        ]
    )  # fmt: skip
    for name in drawn:
        picture = imread(tiny_run.folder.figures / name)
        if name == "samples_gan.png":  # whose fakes are still grey
            np.testing.assert_allclose(picture[..., :3], imread(gan_grid)[..., :3], atol=1 / 255)
        else:
            assert picture[..., :3].std() > 0.01, f"{name} shows nothing"
    page = tiny_run.folder.report.read_text()
    assert page.count("data:image/png;base64,") == len(drawn)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)  # a picture's letters may spell anything
    for trial_id in tiny_run.trials["trial_id"]:
        assert trial_id in page
