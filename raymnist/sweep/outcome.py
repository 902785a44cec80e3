"""How a trial ended, read from its folder."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from raymnist import folder
from raymnist.config import TrialConfig
from raymnist.metrics import METRICS

Status = Literal["pending", "finished", "stopped", "out_of_time", "skipped", "failed"]
HISTORY: dict[str, type] = {"epoch": int, "taken_from": str}  # the columns that are not floats
RAN_ON = ("hostname", "pid", "cuda_visible_devices")


@dataclass(frozen=True)
class Outcome:
    """A trial and what became of it.

    key: stands for all that its training depends on; empty while its settings are left to Optuna.
    status: `finished` trained to its end, `stopped` was ended early by the scheduler, `out_of_time` as the time was
    over, before which `skipped` had not begun.
    history: a row per epoch. path: its folder. error: one line, or empty.
    ran_on: the host, the process and the CUDA devices it saw last. is_lost: it failed with its worker or node.
    """

    trial: TrialConfig
    key: str
    path: Path
    status: Status = "pending"
    history: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    ran_on: dict[str, Any] = field(default_factory=dict)
    is_lost: bool = False

    @property
    def is_ended(self) -> bool:
        """Whether the trial needs no more training."""
        return self.status in ("finished", "stopped", "out_of_time", "skipped")

    @property
    def best(self) -> dict[str, Any] | None:
        """The first epoch with the best objective, whose network was kept; None before the first look at it."""
        metric = self.trial.metric
        rows = [row for row in self.history if metric in row and self.trial.is_due(row["epoch"])]
        if not rows:
            return None
        return min(rows, key=lambda row: METRICS[metric].sign * row[metric])

    @property
    def settings(self) -> dict[str, Any]:
        """The searched settings; those that changed as the trial went on, as they were at its best epoch."""
        best = self.best or {}
        return {name: best.get(name, value) for name, value in self.trial.searched.items()}

    @property
    def seconds(self) -> float:
        """Seconds spent in training and scoring."""
        return sum(row["seconds"] for row in self.history)

    def out_of_time(self) -> Outcome:
        """Take an open trial as ended, where there is no more time."""
        return self if self.status != "pending" else replace(self, status="out_of_time" if self.best else "skipped")


def read(trial: TrialConfig, key: str, path: Path) -> Outcome:
    """Read how a trial stands by its folder; what bears another key counts as not begun."""
    config = folder.read_json(path / "config.json") or {}
    status = folder.read_json(path / "status.json") or {}
    if config.get("key") != key:
        return Outcome(trial, key, path)
    history_file = path / "history.csv"
    history: list[dict[str, Any]] = []
    if history_file.is_file():
        with history_file.open(encoding="utf-8", newline="") as file:
            history = [
                {name: HISTORY.get(name, float)(value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    ran_on = {name: status[name] for name in RAN_ON if name in status}
    error, is_lost = status.get("error", ""), status.get("lost", False)
    return Outcome(trial, key, path, status.get("status", "pending"), history, error, ran_on, is_lost)


def write_config(outcome: Outcome) -> TrialConfig:
    """Write what a trial is into its folder, for the worker that trains it; returns it.

    What another key has left is removed, and how an earlier attempt ended. The rates that population-based training has
    given an unfinished trial stay.
    """
    (outcome.path / "status.json").unlink(missing_ok=True)
    stored = folder.read_json(outcome.path / "config.json") or {}
    if stored.pop("key", None) == outcome.key:
        return TrialConfig.model_validate(stored)
    folder.remove(outcome.path)
    folder.write_json(outcome.path / "config.json", {"key": outcome.key, **outcome.trial.model_dump(mode="json")})
    return outcome.trial
