"""What loggers write is shown by the tools themselves."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from dataclasses import replace

import pytest
from sweeps import Silent, study_with, tune

from raymnist.errors import InputError
from raymnist.folder import Folder
from raymnist.sweep.loggers import LOGGERS, Logging, check

SETS = {"studies.gan.sweep.trials": 2, "studies.gan.train.epochs": 2, "studies.gan.sweep.images": 60}


@pytest.fixture(scope="module")
def logged(ray_session, digits, tmp_path_factory):
    """Two trials, logged as they trained: the experiment, the results folder, and the outcomes."""
    place = tmp_path_factory.mktemp("logged")
    experiment = study_with(place, {**SETS, "loggers": ["tensorboard", "mlflow"]})
    outcomes, told = tune(experiment, digits, Folder(place / "r"))
    assert not [line for is_problem, line in told.lines if is_problem]
    return experiment, Folder(place / "r"), outcomes


class Server:
    """TensorBoard on the loopback."""

    def __init__(self, path):
        words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(path), "--port", "0", "--host", "127.0.0.1"]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        lines = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in self.process.stderr)
        self.address = next(filter(None, lines))[0]

    def ask(self, path, body=None):
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.address + path, data, headers), timeout=60) as answer:
            return json.load(answer)


@pytest.fixture
def tensorboard(logged):
    server = Server(logged[1].path / "studies")
    yield server
    server.process.terminate()
    server.process.wait(20)
    server.process.stderr.close()


def test_tensorboard_shows_each_trials_epochs_and_settings(tensorboard, logged):
    _, _, outcomes = logged
    tags = {}
    while len(tags) < 2:  # it reads the files in the background
        tags = tensorboard.ask("/data/plugin/scalars/tags")
    assert set(tags) == {"gan/gan-00", "gan/gan-01"}
    for outcome in outcomes:
        run = f"gan/{outcome.trial.trial_id}"
        assert {"fid", "generator_loss", "discriminator_loss", "seconds"} <= set(tags[run])
        points = tensorboard.ask(f"/data/plugin/scalars/scalars?run={run}&tag=fid")
        assert [(step, value) for _, step, value in points] == [
            (row["epoch"], pytest.approx(row["fid"], rel=1e-6)) for row in outcome.history
        ]
    shown = {"startIndex": 0, "sliceSize": 100, "colParams": [], "allowedStatuses": ["STATUS_SUCCESS"]}
    groups = tensorboard.ask("/data/plugin/hparams/session_groups", shown)["sessionGroups"]
    found = {group["sessions"][0]["name"]: group for group in groups}
    for outcome in outcomes:
        group = found[f"gan/{outcome.trial.trial_id}"]
        assert group["hparams"] == {**outcome.trial.searched, "seed": outcome.trial.seed}
        fid = next(value for value in group["metricValues"] if value["name"]["tag"] == "fid")
        assert fid["value"] == pytest.approx(outcome.history[-1]["fid"], rel=1e-6)


def runs_of(path):
    """Read MLflow's store as a database, without MLflow: a row per run, and one per metric and epoch."""
    with sqlite3.connect(path) as store:
        runs = store.execute("select run_uuid, name, status from runs").fetchall()
        metrics = store.execute("select run_uuid, key, step, value from metrics").fetchall()
        params = store.execute("select run_uuid, key, value from params").fetchall()
    store.close()
    return runs, metrics, params


def test_mlflows_store_has_each_trials_epochs_and_settings(logged):
    _, results, outcomes = logged
    runs, metrics, params = runs_of(results.path / "mlflow.db")
    assert sorted((name, status) for _, name, status in runs) == [("gan-00", "FINISHED"), ("gan-01", "FINISHED")]
    names = {run: name for run, name, _ in runs}
    for outcome in outcomes:
        trial_id = outcome.trial.trial_id
        logged_fid = {step: v for run, key, step, v in metrics if (names[run], key) == (trial_id, "fid")}
        assert logged_fid == {row["epoch"]: row["fid"] for row in outcome.history}
        settings = {key: v for run, key, v in params if names[run] == trial_id}
        assert float(settings["train.learning_rate"]) == outcome.trial.train.learning_rate
        assert settings["model.latent_dim"] == str(outcome.trial.model["latent_dim"])
    rows = [(run, key, step) for run, key, step, _ in metrics]
    assert len(rows) == len(set(rows))


def test_what_was_logged_once_is_not_logged_again_and_what_is_new_is(logged, tmp_path):
    """As a run that goes on with trials which another had begun."""
    experiment, results, outcomes = logged
    shutil.copytree(results.path, tmp_path / "r")
    copied = Folder(tmp_path / "r")
    before = runs_of(copied.path / "mlflow.db")
    events = {path.name: path.read_bytes() for path in copied.path.rglob("events.*")}
    again = Logging(experiment.loggers, experiment.name, copied, Silent().say)
    for outcome in outcomes:
        again.log(replace(outcome, path=copied.trial("gan", outcome.trial.trial_id)))
    again.close()
    assert runs_of(copied.path / "mlflow.db") == before
    assert {path.name: path.read_bytes() for path in copied.path.rglob("events.*")} == events


def test_a_trial_that_goes_on_is_logged_on(logged, tmp_path):
    experiment, results, outcomes = logged
    shutil.copytree(results.path, tmp_path / "r")
    place = results.path / "mlflow.db"
    copied = Folder(tmp_path / "r")
    for left in ("mlflow.json", "tensorboard.json"):  # as of a trial that no run has logged yet
        (copied.trial("gan", "gan-00") / left).unlink()
    new = replace(outcomes[0], path=copied.trial("gan", "gan-00"))
    for step in (replace(new, history=new.history[:1], status="pending"), new):  # each by a run of its own
        logging = Logging(experiment.loggers, experiment.name, copied, Silent().say)
        logging.log(step)
        logging.close()
    runs, metrics, _ = runs_of(copied.path / "mlflow.db")
    (run,) = {run for run, _, _ in runs} - {run for run, _, _ in runs_of(place)[0]}
    assert sorted(step for r, key, step, _ in metrics if (r, key) == (run, "fid")) == [1, 2]
    assert len(list(new.path.glob("events.*"))) == 1


def test_a_logger_that_fails_says_so_and_the_trials_train_on(ray_session, digits, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mlflow.db").write_text("no database")
    experiment = study_with(tmp_path, {**SETS, "studies.gan.sweep.trials": 1, "loggers": ["mlflow"]})
    outcomes, told = tune(experiment, digits, Folder(tmp_path / "r"))
    assert [o.status for o in outcomes] == ["finished"]
    (problem,) = [line for is_problem, line in told.lines if is_problem]
    assert problem.startswith("logger mlflow failed and is left out: DatabaseError: ")


def test_a_logger_that_failed_is_not_tried_again(monkeypatch, tmp_path):
    class Full:
        def __init__(self, experiment, results):
            pass

        def log(self, outcome):
            raise OSError("no space left")

    monkeypatch.setitem(LOGGERS, "full", Full)
    told = Silent()
    logging = Logging(["full"], "e", Folder(tmp_path), told.say)
    logging.log(None)
    logging.log(None)
    assert told.lines == [(True, "logger full failed and is left out: OSError: no space left")]


def test_a_logger_that_is_not_there_is_refused(monkeypatch):
    with pytest.raises(InputError, match="loggers: unknown logger 'wandb'; choose from mlflow, tensorboard"):
        check(["wandb"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"loggers: mlflow is not installed; expected `pip install 'raymnist\[mlflow\]'`"
    ):
        check(["mlflow"])
