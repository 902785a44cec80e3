"""Runs in an MLflow store."""

from __future__ import annotations

import os
import time

from raymnist import folder
from raymnist.folder import Folder
from raymnist.sweep.outcome import Outcome

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "out_of_time": "KILLED", "failed": "FAILED"}
ROWS = 40  # of at most 25 metrics: MLflow takes 1,000 at once


class MLflow:
    """Writes a run per trial to the store that $MLFLOW_TRACKING_URI names, else to `mlflow.db` in the results folder.

    The trial's folder notes its run, so that the run of a trial that goes on is continued.
    """

    PACKAGE = "mlflow"

    def __init__(self, experiment: str, results: Folder):
        """Find or begin the MLflow experiment of this name."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read as MLflow is imported
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow.tracking import MlflowClient

        own = f"sqlite:///{results.path.resolve() / 'mlflow.db'}"
        address = os.environ.get("MLFLOW_TRACKING_URI") or own
        self.uri = "" if address == own else address  # the folder may be moved, and its store with it
        self.client = MlflowClient(tracking_uri=address)
        found = self.client.get_experiment_by_name(experiment)
        place = (results.path.resolve() / "mlflow").as_uri()
        self.experiment = found.experiment_id if found else self.client.create_experiment(experiment, place)
        self.runs: dict[str, str] = {}
        self.epochs: dict[str, int] = {}

    def log(self, outcome: Outcome) -> None:
        """Add the epochs that are not there yet, and the end."""
        from mlflow.entities import Metric

        trial_id = outcome.trial.trial_id
        if trial_id not in self.runs:
            self.runs[trial_id] = self._begun_before(outcome) or self._begin(outcome)
            logged = self.client.get_metric_history(self.runs[trial_id], "seconds")  # which every epoch has
            self.epochs[trial_id] = max((metric.step for metric in logged), default=0)
        run_id, now = self.runs[trial_id], int(time.time() * 1000)
        rows = [row for row in outcome.history if row["epoch"] > self.epochs[trial_id]]
        for start in range(0, len(rows), ROWS):  # whole rows at once, so that a killed run leaves no half of one
            batch = [
                Metric(name, value, now, row["epoch"])
                for row in rows[start : start + ROWS]
                for name, value in row.items()
                if isinstance(value, float)
            ]
            self.client.log_batch(run_id, batch)
        self.epochs[trial_id] = len(outcome.history)
        status = STATUS.get(outcome.status, "RUNNING")
        if self.client.get_run(run_id).info.status != status:
            self.client.update_run(run_id, status=status)

    def _begun_before(self, outcome: Outcome) -> str | None:
        noted = folder.read_json(outcome.path / "mlflow.json") or {}
        return noted["run_id"] if noted.get("uri") == self.uri else None

    def _begin(self, outcome: Outcome) -> str:
        from mlflow.entities import Param

        trial = outcome.trial
        tags = {"raymnist.key": outcome.key, "raymnist.study": trial.study}
        run_id: str = self.client.create_run(self.experiment, tags=tags, run_name=trial.trial_id).info.run_id
        settings = {
            **{f"model.{key}": value for key, value in trial.model.items()},
            **{f"train.{key}": value for key, value in trial.train.model_dump().items()},
            "seed": trial.seed,
        }
        self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in settings.items()])
        folder.write_json(outcome.path / "mlflow.json", {"uri": self.uri, "run_id": run_id})
        return run_id

    def close(self) -> None:
        """Do nothing: every batch is written as it is logged."""
