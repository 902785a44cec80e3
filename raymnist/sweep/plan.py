"""A study is a plan: its trials are drawn from the seed up front, in order, each with a key for what it depends on."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from raymnist import folder, search_space
from raymnist.config import PBT, SCORED, Experiment, Study, Sweep, Train, TrialConfig
from raymnist.datasets import Images
from raymnist.errors import InputError, choices
from raymnist.metrics import CLUSTERING_METRICS, GENERATOR_METRICS
from raymnist.models import MODELS, Model
from raymnist.settings import validate
from raymnist.sweep.objective import Scored, check, default_objective, objective

DEFAULT_TRIALS = 8
NETWORK_RATES = ("generator_learning_rate", "discriminator_learning_rate")
SAMPLED = GENERATOR_METRICS.keys() | CLUSTERING_METRICS.keys()  # looked at on `sweep.images` images
# What may change while a model trains: it takes part in no variable's shape, and only there where it is read each step.
PERTURBABLE = ("train.learning_rate", *(f"train.{rate}" for rate in NETWORK_RATES))


def resolve(name: str, study: Study, scored: Scored) -> Study:
    """Put the model's defaults where the file says nothing, and check every value that the search may reach.

    scored: what the images have to score with. Raises InputError, which names the key, for an unknown model or metric,
    or a value that the model refuses.
    """
    where = f"studies.{name}"
    kind = _kind(study, where)
    try:
        domains = study.domains
    except InputError as error:
        raise InputError(f"{where}.{error}") from None
    for path, domain in domains.items():
        if domain.kind == "grid" and (study.sweep is None or study.sweep.searcher == "random"):
            raise InputError(f"{where}.{path}: a grid domain needs `searcher: grid`; for random draws write choice")
        if not domain.finite and study.sweep and study.sweep.searcher == "grid":
            raise InputError(f"{where}.{path}: `searcher: grid` needs grid or choice, received {domain}")
    defaults = {key: field.default for key, field in kind.Settings.model_fields.items()}
    train_defaults = {key: field.default for key, field in Train.model_fields.items()} | kind.defaults
    sweep = study.sweep
    if sweep is not None:
        metric = sweep.metric or default_objective(kind, scored)
        check(metric, kind, scored, f"{where}.sweep.metric")
        sweep = sweep.model_copy(update={"metric": metric, "trials": _count(study, sweep, where)})
    resolved = study.model_copy(
        update={
            "model": {"name": study.model["name"], **defaults, **study.model},
            "train": train_defaults | study.train,
            "sweep": sweep,
        }
    )
    for values in search_space.corners(resolved.domains) if resolved.domains else [{}]:
        _concrete(resolved, values, where)
    _refuse_what_does_nothing(resolved, where)
    if sweep is None and resolved.domains:
        path = next(iter(resolved.domains))
        raise InputError(f"{where}.{path}: a search domain needs a sweep, such as `sweep: {{trials: 8}}`")
    if sweep is not None and not resolved.domains:
        raise InputError(
            f"{where}.sweep: nothing is searched; put a domain where a value stands, or take the sweep out"
        )
    return resolved


def _refuse_what_does_nothing(study: Study, where: str) -> None:
    """Refuse a searched rate that no network takes, and what population-based training cannot perturb."""
    domains = study.domains
    if "train.learning_rate" in domains and all(study.train[rate] is not None for rate in NETWORK_RATES):
        raise InputError(f"{where}.train.learning_rate: searched, but both networks have rates of their own")
    if study.sweep is None or not isinstance(study.sweep.scheduler, PBT):
        return
    if study.sweep.searcher == "grid":
        raise InputError(f"{where}.sweep.searcher: pbt draws its settings anew as it goes on; expected random")
    for path, domain in domains.items():
        if path not in PERTURBABLE or domain.kind not in ("choice", "uniform", "loguniform"):
            raise InputError(
                f"{where}.{path}: pbt changes settings while a model trains; expected choice, uniform or loguniform of "
                f"{', '.join(PERTURBABLE)}, received {domain}"
            )
    every, epochs = study.sweep.every, study.train["epochs"]
    first = math.ceil(study.sweep.scheduler.interval(every, epochs) / every) * every
    if first >= epochs:
        raise InputError(
            f"{where}.sweep: pbt exchanges weights every `scheduler.perturb_every` epochs, at a look (`every` {every});"
            f" expected the first exchange before the last of {epochs} epochs, received {first}"
        )
    if (study.sweep.trials or DEFAULT_TRIALS) < 2:
        raise InputError(f"{where}.sweep.trials: pbt needs a population; expected at least 2, received 1")


def check_images(name: str, study: Study, images: Images) -> None:
    """Check that a resolved study's batch sizes and model fit the data set; raises InputError."""
    if MODELS[study.model["name"]].kind == "classifier" and images.train_labels is None:
        raise InputError(f"studies.{name}.model: classifier needs labels, and the data set {images.name} has none")
    if study.sweep and study.sweep.metric in CLUSTERING_METRICS:
        count = min(study.sweep.images, len(images.validation))
        if count <= images.classes:
            raise InputError(
                f"studies.{name}.sweep.metric: {study.sweep.metric} needs more validation images than the "
                f"{images.classes} clusters, received {count}"
            )
    for values in search_space.corners(study.domains) if study.domains else [{}]:
        batch_size = _concrete(study, values, f"studies.{name}")[1].batch_size
        if batch_size > len(images.train):
            raise InputError(
                f"studies.{name}.train.batch_size: expected at most {len(images.train)}, the training images, "
                f"received {batch_size}"
            )


def warnings(name: str, study: Study) -> list[str]:
    """List what a resolved study may do, but hardly means."""
    kind = _kind(study, f"studies.{name}")
    if study.sweep and study.sweep.metric in kind.unsuitable:
        return [
            f"studies.{name}.sweep.metric: {study.sweep.metric} does not rank the trials of a GAN, whose networks are "
            f"measured against each other; fid and {kind.objective} do"
        ]
    return []


def plan(name: str, study: Study, seed: int, scored: Scored) -> list[TrialConfig]:
    """Draw a resolved study's trials from the experiment's seed.

    scored: what the images have to score with. A trial's values depend on (seed, study's name, its number) alone: the
    first 8 of 12 trials are the 8 of 8.
    """
    domains = study.domains
    count = study.sweep.trials or 1 if study.sweep else 1
    is_population = study.sweep is not None and study.sweep.scheduler.name == "pbt"
    is_grid = study.sweep is not None and study.sweep.searcher == "grid"
    grid = list(itertools.islice(search_space.grid(domains), count)) if is_grid else []
    metric = objective(study, scored)
    trials = []
    for number in range(count):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
        trial_seed = int(rng.integers(2**31))
        values = grid[number] if is_grid else search_space.draw(domains, rng)
        model, train = _concrete(study, values, f"studies.{name}")
        trials.append(
            TrialConfig(
                study=name,
                trial_id=f"{name}-{number:02d}",
                seed=trial_seed,
                model=model,
                train=train,
                samples=study.samples,
                metric=metric,
                every=study.sweep.every if study.sweep else 1,
                images=study.sweep.images if study.sweep and metric in SAMPLED else SCORED,
                classifier=scored.classifier if metric in GENERATOR_METRICS else "",
                searched={path.rpartition(".")[2]: values[path] for path in domains},
                perturbed=[path.rpartition(".")[2] for path in domains] if is_population else [],
            )
        )
    return trials


def trial_key(trial: TrialConfig, dataset_sha256: str) -> str:
    """Hash all that a trial's training depends on, the code and the libraries that train it included."""
    dependent = trial.model_dump(mode="json", exclude={"study", "trial_id", "searched"})
    scores = ("metrics",) if trial.metric in SAMPLED else ("metrics/frechet.py", "metrics/frechet_pixels.py")
    code = folder.digest_of_code("datasets.py", "models", "training", *scores)
    return folder.key_of(dependent, dataset_sha256, code, version("keras"), version("tensorflow"))


def changes(before: Experiment, after: Experiment, names: list[str]) -> str | None:
    """Say in one line what changed that the trials of the studies `names` depend on; None if nothing did.

    More trials are not a change, as the plan of fewer is its beginning; nor are the resources.
    """
    for part in ("seed", "dataset"):
        old, new = (experiment.model_dump(mode="json")[part] for experiment in (before, after))
        if old != new:
            return f"{part} changed: {_short(old)} -> {_short(new)}; use --fresh"
    for name in names:
        if name not in before.studies:
            continue
        old, new = (_flat(e.studies[name].model_dump(mode="json", exclude={"resources"})) for e in (before, after))
        if (old.get("sweep.trials") or 0) < (new.get("sweep.trials") or 0):
            old["sweep.trials"] = new["sweep.trials"]
        different = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if different:
            key = different[0]
            return f"{name} changed: {key} {_short(old.get(key))} -> {_short(new.get(key))}; use --fresh {name}"
    return None


def _kind(study: Study, where: str) -> type[Model]:
    if study.model["name"] not in MODELS:
        raise InputError(f"{where}.model.name: {choices('model', study.model['name'], MODELS)}")
    return MODELS[study.model["name"]]


def _count(study: Study, sweep: Sweep, where: str) -> int:
    if sweep.searcher == "random":
        return sweep.trials or DEFAULT_TRIALS
    points = math.prod(len(domain.arguments) for domain in study.domains.values())
    if sweep.trials and sweep.trials > points:
        raise InputError(f"{where}.sweep.trials: expected at most {points}, the points of the grid, not {sweep.trials}")
    return sweep.trials or points


def _concrete(study: Study, values: Mapping[str, Any], where: str) -> tuple[dict[str, Any], Train]:
    kind = _kind(study, where)
    filled = search_space.fill({"model": study.model, "train": study.train}, values)
    settings = {key: value for key, value in filled["model"].items() if key != "name"}
    model = validate(kind.Settings, settings, f"{where}.model.")
    train = validate(Train, filled["train"], f"{where}.train.")
    for key in NETWORK_RATES:
        if kind.kind != "generator" and getattr(train, key) is not None:
            raise InputError(f"{where}.train.{key}: belongs to a GAN, received it for {study.model['name']}")
    return {"name": study.model["name"], **model.model_dump()}, train


def _flat(mapping: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        path = f"{key}.{name}" if key else name
        if isinstance(value, Mapping) and not search_space.is_domain(value):
            flat |= _flat(value, path)
        else:
            flat[path] = value
    return flat


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and value.get("limit", ...) is None:
        value = value["name"]
    return "nothing" if value is None else f"{value}"
