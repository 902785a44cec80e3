"""Hands a plan's open trials to Ray Tune."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import Searcher

from raymnist.config import FIFO, PBT, MedianStopping
from raymnist.datasets import Images
from raymnist.folder import Folder
from raymnist.metrics import METRICS
from raymnist.models.features import ClassifierFile
from raymnist.sweep import nodes
from raymnist.sweep.budget import Deadline, Stopwatch
from raymnist.sweep.callback import Bookkeeper, Progress
from raymnist.sweep.gauges import Gauges
from raymnist.sweep.loggers import Logging
from raymnist.sweep.outcome import Outcome, write_config
from raymnist.sweep.plan import Plan, last_name
from raymnist.sweep.population import population
from raymnist.sweep.resources import Request
from raymnist.sweep.session import environment
from raymnist.sweep.trainable import CheckpointPlace, StudyTrainable

TUNES_WAYS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files: the trial's folder has them
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C ends this study as if all was well, and the next one begins
}


@dataclass(frozen=True)
class Search:
    """What the training of a study's trials needs beside them.

    classifier: of the images, for objectives that need it. request: what a trial occupies. at_once: how many trials the
    nodes have room for, where their number is known.
    """

    plan: Plan
    images: Images
    classifier: ClassifierFile | None
    results: Folder
    checkpoints: CheckpointPlace
    request: Request
    at_once: int | None
    logging: Logging
    gauges: Gauges

    def train(self, outcomes: Sequence[Outcome], progress: Progress, part: str) -> None:
        """Train the trials among `outcomes` that have not ended, each in its own folder.

        A trial that fails is noted in its folder and does not stop the others. part: of the manifest's seconds.
        """
        to_train = [outcome for outcome in outcomes if not outcome.is_ended]
        if not to_train:
            return
        metric, begun = to_train[0].trial.metric, dict[str, Outcome]()
        scheduler = scheduler_for(self.plan, to_train)
        deadline = Deadline(math.inf if to_train[0].trial.confirms else self.plan.seconds_left(self.results))
        if deadline.is_over:
            return
        stopwatch, tally = Stopwatch(self.results, part), self.gauges.stage(part)
        tally.pieces = sum(outcome.trial.train.epochs for outcome in to_train)
        is_open = any(not outcome.key for outcome in to_train) or math.isfinite(deadline.end)
        if is_open and not isinstance(scheduler, PopulationBasedTraining):  # which needs all of them at hand
            searcher, planned = InOrder(self.plan, to_train, self.results, deadline, begun), {}
        else:
            searcher = None
            planned = {"planned": tune.grid_search([_begin(outcome, begun) for outcome in to_train])}
        place = self.results.study(self.plan.name).resolve()
        place.mkdir(parents=True, exist_ok=True)
        # Population-based training hands weights from trial to trial by way of Tune's storage, which nodes must share.
        with contextlib.ExitStack() as until:
            until.callback(stopwatch.tick, every=0)
            storage = until.enter_context(tempfile.TemporaryDirectory(prefix=".exchange-", dir=place))
            until.enter_context(environment(TUNES_WAYS))
            trainable = tune.with_parameters(
                StudyTrainable,
                images=self.images,
                place=place,
                checkpoints=self.checkpoints,
                classifier=self.classifier,
                versions=nodes.versions(),
            )
            trainable.__qualname__ = StudyTrainable.__qualname__  # the actors' class in the dashboard
            tune.Tuner(
                trainable,
                param_space={"request": asdict(self.request), **planned},
                tune_config=tune.TuneConfig(
                    metric=metric,
                    mode=METRICS[metric].direction,
                    search_alg=searcher,
                    scheduler=scheduler,
                    num_samples=len(to_train) if searcher else 1,
                    max_concurrent_trials=self._most() if searcher else self.plan.study.resources.max_concurrent,
                    reuse_actors=True,
                    trial_name_creator=_trial_id,
                    trial_dirname_creator=_trial_id,
                ),
                run_config=tune.RunConfig(
                    name=self.plan.name,
                    storage_path=storage,
                    stop=deadline,
                    callbacks=[Bookkeeper(begun, progress, self.logging, stopwatch, deadline, self.gauges, tally)],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, num_to_keep=4),
                    verbose=0,
                ),
            ).fit()

    def _most(self) -> int | None:
        """Count the trials to hand out one by one; one that waits for room would not know what others reach."""
        limits = [limit for limit in (self.plan.study.resources.max_concurrent, self.at_once) if limit]
        return min(limits, default=None)


def _begin(outcome: Outcome, begun: dict[str, Outcome]) -> dict[str, Any]:
    """Write what a trial is to its folder, where its worker reads it; returns its part of Tune's configuration."""
    begun[outcome.trial.trial_id] = outcome
    trial = write_config(outcome)
    return {"trial_id": trial.trial_id, "rates": {name: getattr(trial.train, name) for name in trial.perturbed}}


class InOrder(Searcher):
    """Hands the open trials to Tune in their order, until the time is over.

    A trial that is left to Optuna gets its settings as it begins, from what the others have reached by then.
    """

    def __init__(
        self,
        plan: Plan,
        to_train: Sequence[Outcome],
        results: Folder,
        deadline: Deadline,
        begun: dict[str, Outcome],
    ):
        """`begun` gets the trials by their ids."""
        super().__init__()
        self.plan, self.results, self.deadline, self.begun = plan, results, deadline, begun
        self.waiting = list(to_train)

    def __getstate__(self) -> dict[str, Any]:
        """Leave all behind: Tune pickles its searcher for a restore that is not used."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Begin the next trial."""
        if not self.waiting or self.deadline.is_over:
            return Searcher.FINISHED
        outcome = self.waiting.pop(0)
        if not outcome.key:
            outcome = self._suggested(outcome)
        return {"planned": _begin(outcome, self.begun)}

    def _suggested(self, outcome: Outcome) -> Outcome:
        from raymnist.sweep import tpe  # Optuna is an extra

        outcomes = self.plan.outcomes(self.results)
        number = [other.trial.trial_id for other in outcomes].index(outcome.trial.trial_id)
        values = tpe.suggest(self.plan, number, [other for other in outcomes if other.key])
        return self.plan.outcome(self.plan.trial(number, values), self.results)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Leave it to the trial's folder."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a search goes on from the trials' folders."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


def scheduler_for(plan: Plan, outcomes: Sequence[Outcome]) -> TrialScheduler:
    """Make Tune's scheduler for trials of a plan; nothing ends confirmations early."""
    if plan.study.sweep is None or isinstance(plan.study.sweep.scheduler, FIFO) or outcomes[0].trial.confirms:
        return FIFOScheduler()
    scheduler, epochs = plan.study.sweep.scheduler, max(outcome.trial.train.epochs for outcome in outcomes)
    if isinstance(scheduler, PBT):
        domains = {last_name(path): domain for path, domain in plan.study.domains.items()}
        return population(scheduler, domains, epochs, plan.study.sweep.every, outcomes[0].trial.seed)
    if isinstance(scheduler, MedianStopping):
        return MedianStoppingRule(
            time_attr="epoch",
            grace_period=scheduler.grace(epochs),
            min_samples_required=scheduler.least_trials,
            min_time_slice=math.inf,  # else it pauses trials to let others catch up, at the cost of a restore each
        )
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=scheduler.grace(epochs),
        reduction_factor=scheduler.reduction_factor,
    )


def _trial_id(trial: tune.experiment.Trial) -> str:
    return str(trial.config["planned"]["trial_id"])
