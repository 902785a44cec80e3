"""What a finished run has to show: tables, figures, networks to use."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import raymnist
from raymnist import pipeline
from raymnist.cli.look import print_leaderboard
from raymnist.errors import InputError
from raymnist.standing import Standing


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
    assert sorted(re.findall("scored on [a-z]+", capsys.readouterr().out)) == [
        "scored on classifier", "scored on none", "scored on none",
    ]  # fmt: skip


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
    is_headline = (results.table["metric"] == "mixing") & (results.table["reducer"] == "none")
    both = results.table[(results.table["population"] == "both") & is_headline]
    assert (line["study"], line["mixing"]) == ("old", both["value"].item())
    assert "| old | old.keras |" in results.folder.leaderboard.read_text()
    points = pd.read_parquet(results.folder.embeddings / "points")
    pixels = np.stack(points[points["source"] == "fake"].sort_values("id")["pixels"].to_list())
    expected = tiny_run.best("gan").generate(50, seed=0).reshape(50, -1)
    np.testing.assert_array_equal(pixels, expected)

    raymnist.run(pretrained, results=tmp_path / "results")
    assert "nothing to do" in capsys.readouterr().out
    (tmp_path / "old.keras").write_bytes((tiny_run.best("gan").path / "generators/epoch_0001.keras").read_bytes())
    experiment, images = pipeline.prepare(pretrained)
    assert not Standing.read(experiment, images, results.folder, fresh=False).is_complete()

    # what the file holds now is evaluated, and files of one name are told apart by their labels
    both = [{"name": str(tmp_path / "old.keras"), "label": "kept"}, str(tmp_path / "old.keras")]
    started = results.manifest["started"]
    results = raymnist.run(pretrained, {"evaluation.generators": both}, results=tmp_path / "results", fresh=True)
    assert results.manifest["started"] > started
    assert results.leaderboard["best"].to_list() == ["kept.keras", "old.keras", "real images"]
    assert set(results.table["study"]) == {"", "kept", "old"}
    mixing = results.leaderboard["mixing"]
    assert 0 <= mixing[0] == mixing[1]
    points = pd.read_parquet(results.folder.embeddings / "points")
    now = raymnist.open(tmp_path / "old.keras").generate(50, seed=0).reshape(50, -1)
    assert not np.array_equal(now, expected)
    for title in ("kept.keras", "old.keras"):
        fakes = points[(points["source"] == "fake") & (points["trial_id"] == title)].sort_values("id")
        np.testing.assert_array_equal(np.stack(fakes["pixels"].to_list()), now)
    with pytest.raises(InputError, match=r"different names in the table, received old\.keras, old\.keras; .*`label`"):
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
