"""Hands a plan's open trials to Ray Tune."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from raymnist import folder
from raymnist.config import FIFO, PBT, Study, TrialConfig
from raymnist.datasets import Images
from raymnist.folder import Folder
from raymnist.metrics import METRICS
from raymnist.models.features import ClassifierFile
from raymnist.sweep.callback import Progress, Report
from raymnist.sweep.outcome import Outcome
from raymnist.sweep.population import population
from raymnist.sweep.resources import Request
from raymnist.sweep.session import environment
from raymnist.sweep.trainable import Plan, StudyTrainable

TUNES_WAYS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files: the trial's folder has them
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C ends this study as if all was well, and the next one begins
}


def train_open(
    study: Study,
    outcomes: list[Outcome],
    images: Images,
    classifier: ClassifierFile | None,
    results: Folder,
    request: Request,
    progress: Progress,
) -> None:
    """Train the trials among `outcomes` that have not ended, each in its folder under `results`.

    classifier: of these images, for objectives that need it. A trial that fails is noted in its folder and does not
    stop the others.
    """
    plans = {
        outcome.trial.trial_id: Plan(_as_it_stands(outcome), outcome.key, outcome.path.resolve())
        for outcome in outcomes
        if not outcome.is_ended
    }
    if not plans:
        return
    planned = [
        {"trial_id": trial_id, "rates": {name: getattr(plan.trial.train, name) for name in plan.trial.perturbed}}
        for trial_id, plan in plans.items()
    ]
    metric = outcomes[0].trial.metric
    # Population-based training hands weights from trial to trial by way of Tune's storage, which nodes must share.
    place = results.study(outcomes[0].trial.study)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exchange-", dir=place.resolve()) as storage, environment(TUNES_WAYS):
        tune.Tuner(
            tune.with_parameters(StudyTrainable, images=images, plans=plans, classifier=classifier),
            param_space={"planned": tune.grid_search(planned), "resources": asdict(request)},
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
                callbacks=[Report(plans, progress)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, num_to_keep=4),
                verbose=0,
            ),
        ).fit()


def _scheduler(study: Study, outcomes: list[Outcome]) -> TrialScheduler:
    if study.sweep is None or isinstance(study.sweep.scheduler, FIFO):
        return FIFOScheduler()
    scheduler, epochs = study.sweep.scheduler, max(outcome.trial.train.epochs for outcome in outcomes)
    if isinstance(scheduler, PBT):
        domains = {path.rpartition(".")[2]: domain for path, domain in study.domains.items()}
        return population(scheduler, domains, epochs, study.sweep.every, outcomes[0].trial.seed)
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min(epochs, scheduler.grace_epochs or math.ceil(epochs / 4)),
        reduction_factor=scheduler.reduction_factor,
    )


def _as_it_stands(outcome: Outcome) -> TrialConfig:
    """Read the rates that population-based training has given an unfinished trial; else they are the planned ones."""
    stored = folder.read_json(outcome.path / "config.json") or {}
    if stored.pop("key", None) != outcome.key:
        return outcome.trial
    return TrialConfig.model_validate(stored)


def _trial_id(trial: tune.experiment.Trial) -> str:
    return str(trial.config["planned"]["trial_id"])
