"""What the driver does as trials go on: it notes how each ended, and tells the user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ray import cloudpickle, tune
from ray.exceptions import RayActorError

from raymnist import folder
from raymnist.metrics import METRICS
from raymnist.sweep.budget import Deadline, Stopwatch
from raymnist.sweep.gauges import Gauges, Tally
from raymnist.sweep.loggers import Logging
from raymnist.sweep.outcome import RAN_ON, Outcome, read


class Progress(Protocol):
    """Where a sweep tells how far it is."""

    def advance(self, epochs: int) -> None:
        """So many more epochs are done, or will not be needed."""

    def look(self, line: str) -> None:
        """Tell how a trial stands, where a bar does not."""

    def say(self, line: str, *, problem: bool = False) -> None:
        """Show a line."""


class Bookkeeper(tune.Callback):
    """Writes each trial's `status.json`, and names a failed trial at once."""

    def __init__(
        self,
        begun: Mapping[str, Outcome],
        progress: Progress,
        logging: Logging,
        stopwatch: Stopwatch,
        deadline: Deadline,
        gauges: Gauges,
        tally: Tally,
    ):
        """`begun` has the trials by their ids, as soon as Tune has them; `tally` counts their epochs."""
        self.stopwatch, self.deadline = stopwatch, deadline
        self.begun = begun
        self.gauges, self.tally = gauges, tally
        self.logging = logging
        self.progress = progress
        self.epochs: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave all behind: Tune pickles its callbacks for a restore that is not used, and a terminal has no pickle."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Move the progress on."""
        planned = self.begun[str(trial)].trial
        before = self.epochs.get(planned.trial_id, 0)
        self.epochs[planned.trial_id] = result["epoch"]
        self._advance(result["epoch"] - before)
        self.gauges.look(planned, result)
        told = ", ".join(f"{name} {value:.4g}" for name, value in result.items() if name in METRICS)
        self.progress.look(f"{planned.trial_id} epoch {result['epoch']} of {planned.train.epochs}: {told}")
        self._log(planned.trial_id)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Note the time spent, between the trials' looks too."""
        self.stopwatch.tick()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count a trial that has got its worker."""
        planned = self.begun[str(trial)].trial
        self.gauges.count(planned.study, planned.trial_id, "running")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note a trial that trained to its end, or that the scheduler stopped.

        One that was cut off as the time was over stays open: it goes on where there is more time.
        """
        planned, result = self.begun[str(trial)].trial, trial.last_result
        if self.deadline.is_over and not result["trained"]:
            self._note(trial, "pending", **_where(result))
            self.progress.say(f"{planned.trial_id} ended after epoch {result['epoch']}, as the time is over")
            return
        status = "finished" if result["trained"] else "stopped"
        self._note(trial, status, **_where(result))
        self._advance(planned.train.epochs - result["epoch"])
        changed = {name: result[name] for name in planned.perturbed}
        settings = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                             for name, value in {**planned.searched, **changed}.items())  # fmt: skip
        best = self._as_it_stands(planned.trial_id).best or result
        score = f"{planned.metric} {result[planned.metric]:.4g}"
        if best["epoch"] != result["epoch"]:
            score += f", best {best[planned.metric]:.4g} at epoch {best['epoch']}"
        told = f"  ({settings})" if settings else ""
        self.progress.say(f"{planned.trial_id} {status} after epoch {result['epoch']}: {score}{told}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note and name a trial that failed; the others go on."""
        planned = self.begun[str(trial)].trial
        cause = _error_of(trial)
        # Not what failed as it began: that is the trial's own doing.
        is_lost = isinstance(cause, RayActorError) and not getattr(cause, "actor_init_failed", False)
        error = one_line(cause)
        self._note(trial, "failed", error=error, lost=is_lost, **_where(trial.last_result or {}))
        self._advance(planned.train.epochs - self.epochs.get(planned.trial_id, 0))
        self.progress.say(f"{planned.trial_id} failed: {error}", problem=True)

    def _note(self, trial: Any, status: str, **facts: Any) -> None:
        outcome = self.begun[str(trial)]
        folder.write_json(outcome.path / "status.json", {"status": status, **facts})
        self.gauges.count(outcome.trial.study, outcome.trial.trial_id, status)
        self._log(outcome.trial.trial_id)

    def _advance(self, epochs: int) -> None:
        self.progress.advance(epochs)
        self.tally.done += epochs

    def _log(self, trial_id: str) -> None:
        if not self.logging.loggers:
            return
        self.logging.log(self._as_it_stands(trial_id))

    def _as_it_stands(self, trial_id: str) -> Outcome:
        outcome = self.begun[trial_id]
        return read(outcome.trial, outcome.key, outcome.path)


def _where(result: Mapping[str, Any]) -> dict[str, Any]:
    """Say where a trial ran, as far as is known."""
    return {name: result[name] for name in RAN_ON if name in result}


def one_line(error: BaseException | str) -> str:
    """Give an error's type and the first line of its message; the traceback stands in the log.

    Of a worker that fails as it begins, Ray tells the error as the text of a traceback, which ends with it.
    """
    cause = getattr(error, "cause", None) or error
    if getattr(cause, "actor_init_failed", False):
        raised = re.search(r"^(?:\w+\.)*(\w+: .+)$", str(cause).rpartition("  File ")[2], re.MULTILINE)
        if raised:
            return raised[1]
    first = next((line.strip() for line in str(cause).splitlines() if line.strip()), "no message")
    return first if isinstance(cause, str) else f"{type(cause).__name__}: {first}"


def _error_of(trial: Any) -> BaseException | str:
    """Read the error where Tune has just written it; `trial.get_error()` looks where it will be copied later."""
    if trial.pickled_error_file:
        error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        return error
    return Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "no error was recorded"
