"""A study is a plan: its trials are drawn from the seed up front, in order, each with a key for what it depends on."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

import numpy as np

from raymnist import folder, search_space
from raymnist.config import SCORED, Experiment, Study, Train, TrialConfig
from raymnist.errors import InputError, choices
from raymnist.folder import Folder
from raymnist.metrics import CLUSTERING_METRICS, GENERATOR_METRICS
from raymnist.models import MODELS, Model
from raymnist.settings import validate
from raymnist.sweep.objective import Scored, objectives
from raymnist.sweep.outcome import Outcome, read

NETWORK_RATES = ("generator_learning_rate", "discriminator_learning_rate")
NO_CHANGE: Any = {"resources": True, "confirm": True, "sweep": {"minutes"}}  # for trials that are there
SAMPLED = GENERATOR_METRICS.keys() | CLUSTERING_METRICS.keys()  # looked at on `sweep.images` images
STARTUP_TRIALS = 5  # drawn at random before Optuna suggests; with its own default of 10 it would never in a sweep of 8


@dataclass(frozen=True)
class Plan:
    """A resolved study, and what its trials depend on beside it: the experiment's seed and the data set.

    scored: what the images have to score with. dataset_sha256: of the images.
    """

    name: str
    study: Study
    seed: int
    scored: Scored
    dataset_sha256: str

    @property
    def count(self) -> int:
        """How many trials are searched, confirmations apart."""
        return self.study.sweep.trials or 1 if self.study.sweep else 1

    def trials(self) -> list[TrialConfig]:
        """Draw the trials up front; the first 8 of 12 are the 8 of 8.

        With `searcher: optuna` only the first few are drawn; the settings of the others are left open.
        """
        return [self.trial(number) for number in range(self.count)]

    def is_open(self, number: int) -> bool:
        """Tell whether a trial's settings are left to Optuna, which needs the results of others for them."""
        return self.study.sweep is not None and self.study.sweep.searcher == "optuna" and number >= STARTUP_TRIALS

    def trial(self, number: int, values: Mapping[str, Any] | None = None) -> TrialConfig:
        """Make a trial of its number, from 0, and the values of the domains by their paths.

        Without values they are drawn: they depend on (seed, study's name, number) alone, as the trial's seed does. Of a
        trial that is left to Optuna they only hold the place, and `searched` is empty.
        """
        study, domains, metrics = self.study, self.study.domains, objectives(self.study, self.scored)
        rng = np.random.default_rng([self.seed, zlib.crc32(self.name.encode()), number])
        trial_seed = int(rng.integers(2**31))
        drawn = values if values is not None else self._draw(number, rng)
        model, train = concrete(study, drawn, f"studies.{self.name}")
        is_population = study.sweep is not None and study.sweep.scheduler.name == "pbt"
        is_left_open = values is None and self.is_open(number)
        return TrialConfig(
            study=self.name,
            trial_id=f"{self.name}-{number:02d}",
            seed=trial_seed,
            model=model,
            train=train,
            samples=study.samples,
            metric=metrics[0],
            other_metrics=metrics[1:],
            every=study.sweep.every if study.sweep else 1,
            images=study.sweep.images if study.sweep and SAMPLED.intersection(metrics) else SCORED,
            classifier=self.scored.classifier if GENERATOR_METRICS.keys() & metrics else "",
            searched={} if is_left_open else {last_name(path): drawn[path] for path in domains},
            perturbed=[last_name(path) for path in domains] if is_population else [],
        )

    def pending(self, results: Folder) -> list[Outcome]:
        """List the searched trials as not begun."""
        return [self._pending(number, results) for number in range(self.count)]

    def outcomes(self, results: Folder) -> list[Outcome]:
        """Read how the searched trials stand; once the time is over, what has not ended is stopped or skipped."""
        outcomes = [self._as_it_stands(number, results) for number in range(self.count)]
        return [outcome.out_of_time() for outcome in outcomes] if self.seconds_left(results) <= 0 else outcomes

    def seconds_left(self, results: Folder) -> float:
        """Count the seconds that are left for the search; infinitely many where it has no budget."""
        if self.study.sweep is None or self.study.sweep.minutes is None:
            return math.inf
        spent: float = results.manifest.get("seconds", {}).get(self.name, 0.0)
        return self.study.sweep.minutes * 60 - spent

    def outcome(self, trial: TrialConfig, results: Folder) -> Outcome:
        """Read how a trial stands."""
        return read(trial, trial_key(trial, self.dataset_sha256), results.trial(self.name, trial.trial_id))

    def _pending(self, number: int, results: Folder) -> Outcome:
        trial = self.trial(number)
        key = "" if self.is_open(number) else trial_key(trial, self.dataset_sha256)
        return Outcome(trial, key, results.trial(self.name, trial.trial_id))

    def _as_it_stands(self, number: int, results: Folder) -> Outcome:
        pending = self._pending(number, results)
        if pending.key:
            return self.outcome(pending.trial, results)
        drawn = (folder.read_json(pending.path / "config.json") or {}).get("searched", {})
        if drawn.keys() != {last_name(domain) for domain in self.study.domains}:
            return pending
        values = {domain: drawn[last_name(domain)] for domain in self.study.domains}
        return self.outcome(self.trial(number, values), results)

    def _draw(self, number: int, rng: np.random.Generator) -> Mapping[str, Any]:
        if self.study.sweep and self.study.sweep.searcher == "grid":
            return next(itertools.islice(search_space.grid(self.study.domains), number, None))
        return search_space.draw(self.study.domains, rng)


def trial_key(trial: TrialConfig, dataset_sha256: str) -> str:
    """Hash all that a trial's training depends on, the code and the libraries that train it included."""
    dependent = trial.model_dump(mode="json", exclude={"study", "trial_id", "searched", "confirms"})
    scores = (
        ("metrics",) if SAMPLED.intersection(trial.metrics) else ("metrics/frechet.py", "metrics/frechet_pixels.py")
    )
    code = folder.digest_of_code("datasets.py", "models", "training", *scores)
    return folder.key_of(dependent, dataset_sha256, code, version("keras"), version("tensorflow"))


def changes(before: Experiment, after: Experiment, names: list[str]) -> str | None:
    """Say in one line what changed that the trials of the studies `names` depend on; None if nothing did.

    More trials are not a change, as the plan of fewer is its beginning; nor are the resources, the time and what is
    confirmed, nor where the file of the data lies, as its content is in the trials' keys.
    """
    for part in ("seed", "dataset"):
        old, new = (_wherever(experiment.model_dump(mode="json")[part]) for experiment in (before, after))
        if old != new:
            return f"{part} changed: {_short(old)} -> {_short(new)}; use --fresh"
    for name in names:
        if name not in before.studies:
            continue
        old, new = (_flat(e.studies[name].model_dump(mode="json", exclude=NO_CHANGE)) for e in (before, after))
        if (old.get("sweep.trials") or 0) < (new.get("sweep.trials") or 0):
            old["sweep.trials"] = new["sweep.trials"]
        different = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if different:
            key = different[0]
            return f"{name} changed: {key} {_short(old.get(key))} -> {_short(new.get(key))}; use --fresh {name}"
    return None


def _wherever(part: Any) -> Any:
    """Leave the folder out, where a data set is a file."""
    return part | {"name": PurePath(part["name"]).name} if isinstance(part, dict) else part


def kind_of(study: Study, where: str) -> type[Model]:
    """Find a study's model; raises InputError, which names the key under `where`."""
    if study.model["name"] not in MODELS:
        raise InputError(f"{where}.model.name: {choices('model', study.model['name'], MODELS)}")
    return MODELS[study.model["name"]]


def concrete(study: Study, values: Mapping[str, Any], where: str) -> tuple[dict[str, Any], Train]:
    """Put values in the domains' places; returns the model's settings and the training's. Raises InputError."""
    kind = kind_of(study, where)
    filled = search_space.fill({"model": study.model, "train": study.train}, values)
    settings = {key: value for key, value in filled["model"].items() if key != "name"}
    model = validate(kind.Settings, settings, f"{where}.model.")
    train = validate(Train, filled["train"], f"{where}.train.")
    for key in NETWORK_RATES:
        if kind.kind != "generator" and getattr(train, key) is not None:
            raise InputError(f"{where}.train.{key}: belongs to a GAN, received it for {study.model['name']}")
    return {"name": study.model["name"], **model.model_dump()}, train


def last_name(path: str) -> str:
    """Shorten a setting's path to its last part, by which tables name it."""
    return path.rpartition(".")[2]


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
