"""The command line: exit statuses, one-line errors, and what each command prints and writes."""

import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from raymnist.experiment_file import bundled
from raymnist.metrics import METRICS
from raymnist.models import MODELS


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from raymnist import cli; sys.argv = ['raymnist', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'tensorflow', 'keras', 'umap', 'sklearn', 'pandas', 'matplotlib', 'numpy', 'pydantic'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "loaded: []" in shown
    for name in ("run", "show", "report", "generate", "reconstruct", "list"):
        assert f" {name} " in shown


def test_wrong_input_is_one_line_and_status_2(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = command("run", "quickstart", "--set", "studies.gan.train.epochs=ten")
    assert (status, out) == (2, "")
    assert err == "raymnist: quickstart: studies.gan.train.epochs: expected a valid integer, received 'ten'\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml: expected an experiment file, found none"),
        (["run", "quickstar"], "unknown experiment 'quickstar'; choose from"),
        (["run", "quickstart", "--set", "name"], "--set name: expected key=value"),
        (["run", "quickstart", "--set", "seed=[1"], "--set seed=[1"),
        (["run", "quickstart", "--fresh", "vae"], "--fresh: unknown study 'vae'; choose from autoencoder, gan"),
        (["run", "quickstart", "gan"], "gan: a study is named after --fresh only"),
        (["show", "nothing"], "nothing: expected a results folder"),
        (["report", "nothing"], "nothing: expected a results folder"),
        (["generate", "nothing", "--out", "a.png"], "nothing: expected a results folder"),
        (["generate", "nothing", "--out", "a.jpg"], "--out: expected a file that ends in .png or .npz, received a.jpg"),
        (
            ["generate", "nothing", "--out", "/dev/null/a.png"],
            "--out: expected a file to write, received /dev/null/a.png",
        ),
        (["reconstruct", "nothing", "--out", "a.npz"], "--out: expected a file that ends in .png, received a.npz"),
        (["list", "colours"], "unknown kind of part 'colours'; choose from"),
    ],
)
def test_each_command_refuses_wrong_input_in_one_line(command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = command(*arguments)
    assert status == 2
    assert err.startswith(f"raymnist: {message}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_set_reads_values_as_yaml():
    from raymnist.cli.run import parse_sets

    sets = parse_sets(["a.b=1e-4", "c={choice: [1, 2]}", "d=null", "e=text=more"])
    assert sets == {"a.b": 1e-4, "c": {"choice": [1, 2]}, "d": None, "e": "text=more"}


def test_run_ends_with_the_leaderboard_and_the_reports_path(command, tiny_file, tiny_run):
    status, out, _ = command("run", tiny_file, "--results", tiny_run.folder.path.parent)
    assert status == 0
    assert "nothing to do" in out
    assert "mixing" in out
    assert out.splitlines()[-1] == f"report: {tiny_run.folder.report}"


def test_run_exits_with_1_when_a_trial_failed(command, tiny_file, ray_session, tmp_path):
    sets = [
        "studies={g: {model: conv_gan, train: {epochs: 1, learning_rate: 1e+30, batch_size: 32}}}",
        "evaluation=null",
    ]
    status, out, _ = command("run", tiny_file, "--results", tmp_path, "--set", sets[0], "--set", sets[1])
    assert status == 1
    assert "g-00 failed: FloatingPointError" in out
    assert "failed" in (tmp_path / "tiny" / "trials.csv").read_text()


def test_fresh_forgets_all_or_the_named_studies(command, tiny_file, tiny_run, monkeypatch):
    asked = []
    monkeypatch.setattr("raymnist.pipeline.run", lambda *_, fresh, **__: asked.append(fresh) or tiny_run)
    for arguments in (["--fresh"], ["--fresh", "gan"], ["--fresh", "gan", "autoencoder"], []):
        assert command("run", tiny_file, *arguments)[0] == 0
    assert asked == [True, ["gan"], ["gan", "autoencoder"], False]


def test_dry_run_prints_the_plan(command, tiny_file, ray_session):
    status, out, _ = command("run", tiny_file, "--dry-run", "--set", "studies.gan.sweep.metric=generator_loss")
    assert status == 0
    assert "gan: 2 of 2 trials of conv_gan x 6 epochs" in out
    assert "warning: studies.gan.sweep.metric: generator_loss does not rank" in out


def test_show_prints_table_and_leaderboard_of_several_folders(command, tiny_run):
    status, out, _ = command("show", tiny_run.folder.path, tiny_run.folder.path)
    assert status == 0
    assert out.count("results table") == 2
    assert len(re.findall(r"fid \d", out)) == 2  # the objective of each


def test_report_draws_again(command, tiny_run, tmp_path):
    import shutil

    shutil.copytree(tiny_run.folder.path, tmp_path / "tiny")
    (tmp_path / "tiny" / "report.html").unlink()
    shutil.rmtree(tmp_path / "tiny" / "figures")
    status, out, _ = command("report", tmp_path / "tiny")
    assert (status, out.strip()) == (0, str(tmp_path / "tiny" / "report.html"))
    assert (tmp_path / "tiny" / "report.html").is_file()
    assert (tmp_path / "tiny" / "figures" / "samples_gan.png").is_file()


def test_generate_writes_a_grid_or_arrays(command, tiny_run, tmp_path):
    assert command("generate", tiny_run.folder.path, "-n", 30, "--out", tmp_path / "grid.png")[0] == 0
    assert imread(tmp_path / "grid.png").shape[:2] == (3 * 56, 560)
    assert command("generate", tiny_run.folder.path, "-n", 7, "--seed", 3, "--out", tmp_path / "x.npz")[0] == 0
    with np.load(tmp_path / "x.npz") as stored:
        np.testing.assert_array_equal(stored["x"], tiny_run.best("gan").generate(7, seed=3))


def test_generate_takes_a_saved_generator_alone(command, tiny_run, tmp_path):
    trial = tiny_run.best("gan")
    file = trial.path / "model.keras"
    assert command("generate", file, "-n", 7, "--seed", 3, "--out", tmp_path / "x.npz")[0] == 0
    with np.load(tmp_path / "x.npz") as stored:
        np.testing.assert_array_equal(stored["x"], trial.generate(7, seed=3))
    stated = ["--output-range", "-1", "1", "-n", 7, "--seed", 3, "--out", tmp_path / "half.npz"]
    assert command("generate", file, *stated)[0] == 0
    with np.load(tmp_path / "half.npz") as stored:
        brighter = (trial.generate(7, seed=3).astype(float) / 255 + 1) / 2 * 255
        assert np.abs(stored["x"] - brighter).max() <= 1
    status, _, err = command("generate", file, *stated[:5], "--out", "/proc/x.png")
    assert (status, err.count("\n")) == (2, 1)
    assert "--out: expected a file to write, received /proc/x.png; " in err
    for arguments, message in (
        ([file, "--study", "gan"], "--study: belongs to a results folder, received"),
        ([tiny_run.folder.path, "--output-range", "0", "1"], "--output-range: belongs to a file, received"),
        ([tmp_path / "none.h5"], "expected a saved Keras model, found none"),
    ):
        status, _, err = command("generate", *arguments, "--out", tmp_path / "y.png")
        assert (status, err.count("\n")) == (2, 1)
        assert message in err


def test_reconstruct_draws_pairs_of_test_images(command, tiny_run, tmp_path):
    assert command("reconstruct", tiny_run.folder.path, "-n", 20, "--out", tmp_path / "pairs.png")[0] == 0
    assert imread(tmp_path / "pairs.png").shape[:2] == (4 * 56, 560)


def test_a_study_of_the_wrong_kind_is_refused(command, tiny_run, tmp_path):
    status, _, err = command("generate", tiny_run.folder.path, "--study", "autoencoder", "--out", tmp_path / "grid.png")
    assert status == 2
    assert "--study: unknown generator study 'autoencoder'; choose from gan" in err


def test_list_names_every_part(command):
    _, out, _ = command("list")
    for name in (*MODELS, *METRICS, *bundled(), "digits", "umap", "kmeans"):
        assert f"  {name} " in out
    _, out, _ = command("list", "models")
    assert out.splitlines()[0] == "models"
    assert "umap" not in out
