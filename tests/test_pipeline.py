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

import raymnist
from raymnist import folder, pipeline
from raymnist.cli.look import print_leaderboard
from raymnist.errors import InputError
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

    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=os.environ | aside, start_new_session=True
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


def test_fresh_trains_one_study_again_and_a_trial_that_fails_in_it_is_tried_again(tiny_file, copied, capsys):
    broken = {
        "studies.gan.train.learning_rate": {"grid": [1e-3, 1e30]},
        "studies.gan.model.latent_dim": 4,
        "studies.gan.sweep": {"searcher": "grid"},
        "studies.gan.train.epochs": 1,
    }
    autoencoder = stamps(copied / "tiny" / "studies" / "autoencoder", "model.keras")
    results = raymnist.run(tiny_file, broken, results=copied, fresh="gan")
    assert stamps(copied / "tiny" / "studies" / "autoencoder", "model.keras") == autoencoder
    assert len(results.best("gan").history) == 1
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
