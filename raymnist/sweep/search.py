"""Hands a plan's open trials to Ray Tune."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from raymnist.config import Study
from raymnist.datasets import Images
from raymnist.folder import Folder
from raymnist.metrics import METRICS
from raymnist.sweep.callback import Progress, Report
from raymnist.sweep.outcome import Outcome
from raymnist.sweep.resources import Request
from raymnist.sweep.session import environment
from raymnist.sweep.trainable import StudyTrainable

TUNES_WAYS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files: the trial's folder has them
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C ends this study as if all was well, and the next one begins
}


def train_open(
    study: Study,
    outcomes: list[Outcome],
    images: Images,
    results: Folder,
    request: Request,
    progress: Progress,
) -> None:
    """Train the trials among `outcomes` that have not ended, each in its folder under `results`.

    A trial that fails is noted in its folder and does not stop the others.
    """
    planned = [
        {
            "trial": outcome.trial.model_dump(mode="json"),
            "key": outcome.key,
            "path": str(outcome.path.resolve()),
            "resources": asdict(request),
        }
        for outcome in outcomes
        if not outcome.is_ended
    ]
    if not planned:
        return
    metric = outcomes[0].trial.metric
    with tempfile.TemporaryDirectory(prefix="raymnist-") as storage, environment(TUNES_WAYS):
        tune.Tuner(
            tune.with_parameters(StudyTrainable, images=images),
            param_space={"planned": tune.grid_search(planned)},
            tune_config=tune.TuneConfig(
                metric=metric,
                mode=METRICS[metric].direction,
                scheduler=_scheduler(study, outcomes),
                reuse_actors=True,
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
            ),
            run_config=tune.RunConfig(
                name=outcomes[0].trial.study,
                storage_path=storage,
                callbacks=[Report(results, progress)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()


def _scheduler(study: Study, outcomes: list[Outcome]) -> TrialScheduler:
    if study.sweep is None or study.sweep.scheduler.name == "fifo":
        return FIFOScheduler()
    scheduler, epochs = study.sweep.scheduler, max(outcome.trial.train.epochs for outcome in outcomes)
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min(epochs, scheduler.grace_epochs or math.ceil(epochs / 4)),
        reduction_factor=scheduler.reduction_factor,
    )


def _trial_id(trial: tune.experiment.Trial) -> str:
    return str(trial.config["planned"]["trial"]["trial_id"])
