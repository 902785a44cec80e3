"""A run's numbers as Ray metrics, for Prometheus and the dashboard's Metrics tab."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

from ray.util.metrics import Gauge

from raymnist.config import TrialConfig
from raymnist.metrics import METRICS
from raymnist.sweep.outcome import Status

SECONDS = 5.0  # between two times that all are set: Ray drops a gauge some 20 s after it was set last

# Prometheus has them under these names with `ray_` before them; deploy/grafana/raymnist.json draws them.
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "raymnist_epoch": ("Epochs that a trial has trained", ("experiment", "study", "trial")),
    "raymnist_loss": ("A trial's loss at its last look", ("experiment", "study", "trial", "loss")),
    "raymnist_score": ("A trial's score at its last look", ("experiment", "study", "trial", "score")),
    "raymnist_images_per_second": ("Images that a trial trains on in a second", ("experiment", "study", "trial")),
    "raymnist_trials": ("Trials of a study by their status", ("experiment", "study", "status")),
    "raymnist_stage_progress": ("Share of a stage that is done, 0 to 1", ("experiment", "stage")),
}

STATUSES = ("running", *get_args(Status))


@dataclass
class Tally:
    """How many pieces of a stage are done; `counted` asks for them where nobody is told of each."""

    pieces: float = 0
    done: float = 0
    counted: Callable[[], float] | None = None

    @property
    def share(self) -> float:
        """The share that is done, 0 to 1."""
        done = self.counted() if self.counted else self.done
        return min(1.0, done / self.pieces) if self.pieces else 0.0


class Gauges:
    """The gauges of one run, set again and again until it ends, so that also a finished trial's stay to be seen."""

    def __init__(self, experiment: str):
        """Nothing is set yet."""
        self.experiment = experiment
        self.gauges = {name: Gauge(name, text, tags) for name, (text, tags) in GAUGES.items()}
        self.values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self.tallies: dict[str, Tally] = {}
        self.statuses: dict[str, dict[str, str]] = {}  # of each study's trials
        self.changing, self.is_over = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._repeat, name="raymnist gauges", daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.is_over.set()
        self.thread.join()

    def set(self, name: str, value: float, **tags: str) -> None:
        """Set one of `GAUGES`, by its tags but the experiment."""
        with self.changing:
            self.values[name, tuple(sorted(tags.items()))] = value

    def stage(self, name: str) -> Tally:
        """Begin a stage; the tally is looked at from now on."""
        with self.changing:
            self.tallies[name] = Tally()
            return self.tallies[name]

    def count(self, study: str, trial_id: str, status: str) -> None:
        """Note the status of a trial, and set how many of its study have which."""
        of_study = self.statuses.setdefault(study, {})
        of_study[trial_id] = status
        for known in STATUSES:
            self.set("raymnist_trials", list(of_study.values()).count(known), study=study, status=known)

    def look(self, trial: TrialConfig, row: Mapping[str, Any]) -> None:
        """Set what is known of a trial after an epoch."""
        of = {"study": trial.study, "trial": trial.trial_id}
        self.set("raymnist_epoch", row["epoch"], **of)
        self.set("raymnist_images_per_second", row["images_per_second"], **of)
        for name in METRICS.keys() & row:
            if name.endswith("loss"):
                self.set("raymnist_loss", row[name], loss=name, **of)
            else:
                self.set("raymnist_score", row[name], score=name, **of)

    def _repeat(self) -> None:
        while not self.is_over.wait(SECONDS):
            self._send()
        self._send()  # the last state is that of the end

    def _send(self) -> None:
        with self.changing:
            shares = {
                ("raymnist_stage_progress", (("stage", name),)): tally.share for name, tally in self.tallies.items()
            }
            values = self.values | shares
        for (name, tags), value in values.items():
            self.gauges[name].set(value, tags={"experiment": self.experiment, **dict(tags)})
