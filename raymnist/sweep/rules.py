"""What may stand together in a study: what cannot work is refused before anything is scheduled."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from typing import Any

from raymnist import search_space
from raymnist.config import PBT, MedianStopping, Stopping, Study, Sweep, Train
from raymnist.datasets import Images
from raymnist.errors import InputError
from raymnist.metrics import CLUSTERING_METRICS
from raymnist.models import MODELS
from raymnist.sweep.objective import Scored, check, default_objective
from raymnist.sweep.plan import NETWORK_RATES, concrete, kind_of

DEFAULT_TRIALS = 8
# What may change while a model trains: it takes part in no variable's shape, and only there where it is read each step.
PERTURBABLE = ("train.learning_rate", *(f"train.{rate}" for rate in NETWORK_RATES))


def resolve(name: str, study: Study, scored: Scored) -> Study:
    """Put the model's defaults where the file says nothing, and check every value that the search may reach.

    scored: what the images have to score with. Raises InputError, which names the key, for an unknown model or metric,
    or a value that the model refuses.
    """
    where = f"studies.{name}"
    kind = kind_of(study, where)
    try:
        domains = study.domains
    except InputError as error:
        raise InputError(f"{where}.{error}") from None
    for path, domain in domains.items():
        if domain.kind == "grid" and (study.sweep is None or study.sweep.searcher != "grid"):
            raise InputError(f"{where}.{path}: a grid domain needs `searcher: grid`; for draws and Optuna write choice")
        if not domain.finite and study.sweep and study.sweep.searcher == "grid":
            raise InputError(f"{where}.{path}: `searcher: grid` needs grid or choice, received {domain}")
    defaults = {key: field.default for key, field in kind.Settings.model_fields.items()}
    train_defaults = {key: field.default for key, field in Train.model_fields.items()} | kind.defaults
    sweep = study.sweep
    if sweep is not None:
        metrics = sweep.metrics or [default_objective(kind, scored)]
        for metric in metrics:
            check(metric, kind, scored, f"{where}.sweep.metric")
        update = {"metric": metrics if len(metrics) > 1 else metrics[0], "trials": _count(study, sweep, where)}
        sweep = sweep.model_copy(update=update)
    resolved = study.model_copy(
        update={
            "model": {"name": study.model["name"], **defaults, **study.model},
            "train": train_defaults | study.train,
            "sweep": sweep,
        }
    )
    for values in search_space.corners(resolved.domains) if resolved.domains else [{}]:
        concrete(resolved, values, where)
    _check_rates(resolved, where)
    if sweep is None and resolved.domains:
        path = next(iter(resolved.domains))
        raise InputError(f"{where}.{path}: a search domain needs a sweep, such as `sweep: {{trials: 8}}`")
    if sweep is not None and not resolved.domains:
        raise InputError(
            f"{where}.sweep: nothing is searched; put a domain where a value stands, or take the sweep out"
        )
    if sweep is not None:
        _check_objectives(sweep, where)
        _check_searcher(sweep, where)
        if isinstance(sweep.scheduler, PBT):
            _check_population(resolved, sweep, sweep.scheduler, where)
    _check_confirmation(resolved, where)
    return resolved


def _check_rates(study: Study, where: str) -> None:
    """Refuse a searched rate that no network takes."""
    if "train.learning_rate" in study.domains and all(study.train[rate] is not None for rate in NETWORK_RATES):
        raise InputError(f"{where}.train.learning_rate: searched, but both networks have rates of their own")


def _check_objectives(sweep: Sweep, where: str) -> None:
    metrics, scheduler = sweep.metrics, sweep.scheduler.name
    if len(set(metrics)) < len(metrics):
        raise InputError(f"{where}.sweep.metric: expected objectives that differ, received {', '.join(metrics)}")
    if len(metrics) > 1 and scheduler != "fifo":
        raise InputError(
            f"{where}.sweep.scheduler: {scheduler} compares trials by one objective; expected fifo with several, "
            f"received {', '.join(metrics)}"
        )


def _check_searcher(sweep: Sweep, where: str) -> None:
    if sweep.searcher == "optuna" and importlib.util.find_spec("optuna") is None:
        raise InputError(f"{where}.sweep.searcher: optuna is not installed; expected `pip install 'raymnist[optuna]'`")
    if sweep.searcher != "random" and isinstance(sweep.scheduler, PBT):
        raise InputError(f"{where}.sweep.searcher: pbt draws its settings anew as it goes on; expected random")


def _extremes(study: Study, setting: str) -> list[Any]:
    """List the values of a setting of the training of which the others lie between."""
    domain = study.domains.get(f"train.{setting}")
    return list(domain.extremes()) if domain else [study.train[setting]]


def _check_population(study: Study, sweep: Sweep, scheduler: PBT, where: str) -> None:
    for path, domain in study.domains.items():
        if path not in PERTURBABLE or domain.kind not in ("choice", "uniform", "loguniform"):
            raise InputError(
                f"{where}.{path}: pbt changes settings while a model trains; expected choice, uniform or loguniform of "
                f"{', '.join(PERTURBABLE)}, received {domain}"
            )
    if study.train["patience"] is not None:
        raise InputError(f"{where}.train.patience: a trial that ends early would leave its population; expected none")
    if study.resources.max_concurrent is not None:
        raise InputError(
            f"{where}.resources.max_concurrent: pbt needs its whole population at hand; to train fewer at the same "
            "time, give each more `cpus`"
        )
    every, epochs = sweep.every, study.train["epochs"]
    first = math.ceil(scheduler.interval(every, epochs) / every) * every
    if first >= epochs:
        raise InputError(
            f"{where}.sweep: pbt exchanges weights every `scheduler.perturb_every` epochs, at a look (`every` {every});"
            f" expected the first exchange before the last of {epochs} epochs, received {first}"
        )
    if (sweep.trials or DEFAULT_TRIALS) < 2:
        raise InputError(f"{where}.sweep.trials: pbt needs a population; expected at least 2, received 1")


def _check_confirmation(study: Study, where: str) -> None:
    if study.confirm is None:
        return
    if study.sweep and isinstance(study.sweep.scheduler, PBT):
        raise InputError(
            f"{where}.confirm: what pbt arrives at is no configuration, but weights and rates that went from trial to "
            "trial; it cannot be trained again"
        )
    trials = study.sweep.trials or DEFAULT_TRIALS if study.sweep else 1
    if study.confirm.top > trials:
        raise InputError(f"{where}.confirm.top: expected at most {trials}, the trials, received {study.confirm.top}")


def check_images(name: str, study: Study, images: Images) -> None:
    """Check that a resolved study's batch sizes and model fit the data set; raises InputError."""
    if MODELS[study.model["name"]].kind == "classifier" and images.train_labels is None:
        raise InputError(f"studies.{name}.model: classifier needs labels, and the data set {images.name} has none")
    clusterings = [metric for metric in study.sweep.metrics if metric in CLUSTERING_METRICS] if study.sweep else []
    if study.sweep and clusterings:
        count = min(study.sweep.images, len(images.validation))
        if count <= images.classes:
            raise InputError(
                f"studies.{name}.sweep.metric: {clusterings[0]} needs more validation images than the "
                f"{images.classes} clusters, received {count}"
            )
    for values in search_space.corners(study.domains) if study.domains else [{}]:
        batch_size = concrete(study, values, f"studies.{name}")[1].batch_size
        if batch_size > len(images.train):
            raise InputError(
                f"studies.{name}.train.batch_size: expected at most {len(images.train)}, the training images, "
                f"received {batch_size}"
            )


def warnings(name: str, study: Study) -> list[str]:
    """List what a resolved study may do, but hardly means."""
    kind = kind_of(study, f"studies.{name}")
    found = [
        f"sweep.metric: {metric} does not rank the trials of a GAN, whose networks are measured against each other; "
        f"fid and {kind.objective} do"
        for metric in (study.sweep.metrics if study.sweep else [])
        if metric in kind.unsuitable
    ]
    found += _what_never_acts(study)
    return [f"studies.{name}.{line}" for line in found]


def _what_never_acts(study: Study) -> Iterator[str]:
    """Find what would end trials early, but cannot: no error, as a first try has few epochs and trials."""
    epochs, patience = _extremes(study, "epochs"), [n for n in _extremes(study, "patience") if n is not None]
    if patience and max(patience) >= min(epochs):
        yield f"train.patience: {max(patience)} epochs are never waited for in a training of {min(epochs)}"
    sweep = study.sweep
    if sweep is None or not isinstance(sweep.scheduler, Stopping):
        return
    name, trials = sweep.scheduler.name, sweep.trials or DEFAULT_TRIALS
    first = math.ceil(sweep.scheduler.grace(max(epochs)) / sweep.every) * sweep.every
    if first >= max(epochs):
        yield (
            f"sweep.scheduler: {name} may stop a trial from epoch {first} on (`scheduler.grace_epochs`, `every`), and "
            f"so stops none of {max(epochs)} epochs"
        )
    least = sweep.scheduler.least_trials + 1 if isinstance(sweep.scheduler, MedianStopping) else 2
    if trials < least:
        yield f"sweep.scheduler: {name} compares at least {least} trials, and so stops none of {trials}"


def _count(study: Study, sweep: Sweep, where: str) -> int:
    if sweep.searcher != "grid":
        return sweep.trials or DEFAULT_TRIALS
    points = math.prod(len(domain.arguments) for domain in study.domains.values())
    if sweep.trials and sweep.trials > points:
        raise InputError(f"{where}.sweep.trials: expected at most {points}, the points of the grid, not {sweep.trials}")
    return sweep.trials or points
