"""The page: the experiments in some folders, those that run first, each with its leaderboard and trials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from raymnist import folder, lock
from raymnist.config import TrialConfig
from raymnist.errors import InputError
from raymnist.folder import Folder
from raymnist.results import Results
from raymnist.sweep.outcome import read
from raymnist.tables import short, with_spread


@dataclass(frozen=True)
class Shown:
    """One results folder as the page shows it.

    owner: of the run that is at it, or nothing. problem: why it cannot be read, or nothing.
    """

    path: Path
    manifest: dict[str, Any]
    owner: str
    leaderboard: pd.DataFrame
    trials: pd.DataFrame
    problem: str = ""

    @property
    def status(self) -> str:
        """The status, which a run that was killed could not write."""
        noted = str(self.manifest.get("status", "begun"))
        return "ended from outside" if noted == "running" and not self.owner else noted

    @property
    def address(self) -> str | None:
        """Where its report is served; None without one."""
        found = Folder(self.path).report.is_file()
        return f"/raymnist/{self.path.name}/report.html" if found else None


def render(place: Path) -> str:
    """Write the page about all experiments in the folder `place`, or about `place` if it is a results folder itself."""
    shown = [_read(path) for path in experiments(place)]
    shown.sort(key=lambda one: str(one.manifest.get("started")), reverse=True)
    shown.sort(key=lambda one: one.status != "running")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["short"] = short
    environment.filters["moment"] = _moment
    template = environment.from_string(files("raymnist.dashboard").joinpath("templates/page.html").read_text("utf-8"))
    return template.render(shown=shown, place=place, are_running=any(one.status == "running" for one in shown))


def report(place: Path, name: str) -> Path | None:
    """Find the report of one of the experiments by its name; None for one that the page does not list."""
    found = [Folder(path).report for path in experiments(place) if path.name == name]
    return found[0] if found and found[0].is_file() else None


def experiments(place: Path) -> list[Path]:
    """List the results folders in a folder, itself included."""
    inside = sorted(place.iterdir()) if place.is_dir() else []
    return [path for path in (place, *inside) if _is_one(path)]


def _is_one(path: Path) -> bool:
    try:
        return "raymnist" in Folder(path).manifest.get("versions", {})
    except (OSError, ValueError, AttributeError):  # whatever else lies there under that name
        return False


def _read(path: Path) -> Shown:
    manifest, owner, nothing = Folder(path).manifest, lock.owner(path), pd.DataFrame()
    try:
        results = Results(path)
        board = with_spread(results.leaderboard.round({"minutes": 1}))
        trials = pd.DataFrame(list(_trials(results, bool(owner))))
    except (InputError, OSError, KeyError, ValueError) as error:  # of a run that just begins, or of another version
        return Shown(path, manifest, owner, nothing, nothing, f"{type(error).__name__}: {error}")
    return Shown(path, manifest, owner, board, trials)


def _moment(written: Any) -> str:
    """Shorten a time to the minute, in UTC as it was written."""
    return str(written)[:16].replace("T", " ") + " UTC"


def _open(path: Path, is_running: bool) -> str:
    """Say how a trial stands that has not ended: its worker marks the folder before its first epoch."""
    if (path / folder.WORKER).is_file():
        return "training" if is_running else "unfinished"
    return "waiting" if is_running else "not begun"


def _trials(results: Results, is_running: bool) -> Iterator[dict[str, Any]]:
    """List the trials, as their folders have them, also while they train."""
    for study in results.experiment.studies:
        for path in sorted(results.folder.study(study).glob(f"{study}-*")):
            stored = folder.read_json(path / "config.json")
            if not stored:
                continue
            key = stored.pop("key")
            outcome = read(TrialConfig.model_validate(stored), key, path)
            best, last = outcome.best or {}, (outcome.history or [{}])[-1]
            yield {
                "trial": outcome.trial.trial_id,
                "status": outcome.status if outcome.status != "pending" else _open(path, is_running),
                "epoch": f"{last.get('epoch', 0)} of {outcome.trial.train.epochs}",
                "settings": ", ".join(f"{name} {short(value)}" for name, value in outcome.settings.items()),
                "objective": outcome.trial.metric,
                "best": best.get(outcome.trial.metric),
                "last": last.get(outcome.trial.metric),
                "images/s": last.get("images_per_second"),
                "seconds": round(outcome.seconds, 1),
                "host": outcome.ran_on.get("hostname", ""),
                "error": outcome.error,
            }
