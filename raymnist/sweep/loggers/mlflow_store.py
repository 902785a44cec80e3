"""Runs in an MLflow store."""

from __future__ import annotations

import os
import time
from typing import Any

from raymnist.folder import Folder
from raymnist.sweep.outcome import Outcome

ROWS = 40  # of at most 25 metrics: MLflow takes 1,000 at once


class MLflow:
    """Writes a run per trial to the store that $MLFLOW_TRACKING_URI names, else to `mlflow.db` in the results folder.

    A run is known by the trial's key: one that went on later is continued.
    """

    PACKAGE = "mlflow"

    def __init__(self, experiment: str, results: Folder):
        """Find or begin the MLflow experiment of this name."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read as MLflow is imported
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results.path.resolve() / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(experiment)
        place = (results.path.resolve() / "mlflow").as_uri()
        self.experiment = found.experiment_id if found else self.client.create_experiment(experiment, place)
        self.runs: dict[str, str] = {}
        self.epochs: dict[str, int] = {}

    def log(self, outcome: Outcome) -> None:
        """Add the epochs that are not there yet, and the end."""
        from mlflow.entities import Metric

        if outcome.key not in self.runs:
            self._find_or_begin(outcome)
        run_id, now = self.runs[outcome.key], int(time.time() * 1000)
        rows = [row for row in outcome.history if row["epoch"] > self.epochs[outcome.key]]
        for start in range(0, len(rows), ROWS):  # whole rows at once, so that a killed run leaves no half of one
            batch = [
                Metric(name, value, now, row["epoch"])
                for row in rows[start : start + ROWS]
                for name, value in row.items()
                if isinstance(value, float)
            ]
            self.client.log_batch(run_id, batch)
        self.epochs[outcome.key] = len(outcome.history)
        status = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}.get(outcome.status, "RUNNING")
        if self.client.get_run(run_id).info.status != status:
            self.client.update_run(run_id, status=status)

    def _find_or_begin(self, outcome: Outcome) -> None:
        from mlflow.entities import Param

        trial = outcome.trial
        named = f"tags.`raymnist.key` = '{outcome.key}' and tags.`raymnist.trial_id` = '{trial.trial_id}'"
        found = self.client.search_runs([self.experiment], named, max_results=1)
        if found:
            run_id = found[0].info.run_id
            logged = self.client.get_metric_history(run_id, "seconds")  # which every epoch has
            self.epochs[outcome.key] = max((metric.step for metric in logged), default=0)
        else:
            tags = {"raymnist.key": outcome.key, "raymnist.study": trial.study, "raymnist.trial_id": trial.trial_id}
            run_id = self.client.create_run(self.experiment, tags=tags, run_name=trial.trial_id).info.run_id
            settings: dict[str, Any] = {
                **{f"model.{key}": value for key, value in trial.model.items()},
                **{f"train.{key}": value for key, value in trial.train.model_dump().items()},
                "seed": trial.seed,
            }
            self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in settings.items()])
            self.epochs[outcome.key] = 0
        self.runs[outcome.key] = run_id

    def close(self) -> None:
        """Do nothing: every batch is written as it is logged."""
