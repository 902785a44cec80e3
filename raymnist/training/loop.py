"""One trial's training, epoch by epoch: history, samples, the best network, and a checkpoint to go on from.

Ray is not needed here: `train` is an ordinary function.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np

from raymnist.config import TrialConfig
from raymnist.datasets import Images, Labels, Pixels
from raymnist.metrics import METRICS
from raymnist.models import MODELS, Model, networks
from raymnist.models.classifier import Classifier
from raymnist.models.features import ClassifierFile
from raymnist.models.gan import GAN
from raymnist.training import samples
from raymnist.training.engine import Engine, mean_over
from raymnist.training.judges import FOR_PIXELS, CodesJudge, FakesJudge, Judge, judge_for

Row = dict[str, Any]


class Training:
    """A model in training: what it is, how far it got, and what it reported.

    history: a row per epoch; the objective and other validation scores are there at every `trial.every`-th epoch and
        the last. best: the best row by the objective so far, or None. taken_from: the trial whose weights were taken
        over since the last epoch.
    """

    def __init__(
        self,
        trial: TrialConfig,
        images: Images,
        classifier: ClassifierFile | None = None,
        judge: Judge | None = None,
    ):
        """Build the model from the trial's seed. `judge` may be that of an earlier trial of the same study.

        classifier: of these images, where the objective needs it.
        """
        keras.backend.clear_session()
        keras.utils.set_random_seed(trial.seed)
        kind = MODELS[trial.model["name"]]
        settings = kind.Settings.model_validate({k: v for k, v in trial.model.items() if k != "name"})
        self.trial = trial
        self.images = images
        self.model = kind(settings, trial.train, images.shape, images.classes)
        classes, validation_classes = _classes(self.model, images)
        self.engine = Engine(self.model, images.train, trial.train.batch_size, trial.seed, classes)
        self.history: list[Row] = []
        self.best: Row | None = None
        self.judge = judge or judge_for(trial, images, classifier)
        self.taken_from: str | None = None
        if isinstance(self.model, Classifier):
            self._validate = mean_over(self.model.validate, images.validation, validation_classes)
        elif kind.kind == "autoencoder":
            loss = mean_over(self.model.phases()[0].loss, images.validation)
            self._validate = lambda: {"val_loss": loss()["loss"]}
        else:
            self._validate = lambda: {}

    @property
    def epochs_done(self) -> int:
        """Epochs trained so far."""
        return len(self.history)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are trained, or the objective has not become better for as many as it has patience."""
        number, patience = self.epochs_done, self.trial.train.patience
        if number >= self.trial.train.epochs:
            return True
        return bool(patience and self.best and self.trial.is_due(number) and number - self.best["epoch"] >= patience)

    def epoch(self) -> Row:
        """Train one epoch, and score it where the objective is due or samples are. Returns its row of the history.

        Raises FloatingPointError when a loss or score is no longer finite.
        """
        number = self.epochs_done + 1
        start = time.perf_counter()
        self.model.set_rates(number)
        row: Row = {"epoch": number, **self.engine.epoch(number)}
        seconds = time.perf_counter() - start
        due = self.trial.is_due(number)
        scored = time.perf_counter()
        if all(math.isfinite(value) for value in row.values()):
            row |= self._score(number)
        scoring_seconds = time.perf_counter() - scored
        for name, value in row.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{name} became {value} in epoch {number}; a lower learning_rate may help")
        row |= {name: getattr(self.trial.train, name) for name in self.trial.perturbed}
        if self.taken_from:
            row["taken_from"], self.taken_from = self.taken_from, None
        row["images_per_second"] = round(self.engine.steps * self.engine.batch_size / seconds, 1)
        row["scoring_seconds"] = round(scoring_seconds, 3)
        row["seconds"] = round(time.perf_counter() - start, 3)
        self.history.append(row)
        if due and (self.best is None or self._is_better(row, self.best)):
            self.best = row
        return row

    def _score(self, number: int) -> Row:
        due, sampled = self.trial.is_due(number), self.trial.is_sampled(number)
        row: Row = self._validate() if due else {}
        if isinstance(self.judge, CodesJudge) and due:
            row |= self.judge(self.model.network.get_layer("encoder"))
        if isinstance(self.judge, FakesJudge) and (due or sampled):
            fakes = self.generate(max(FOR_PIXELS, self.judge.count if due else 0))
            row |= self.judge(fakes) if due else {}
            if sampled and isinstance(self.model, GAN):
                row |= self.model.accuracies(self.images.validation[:FOR_PIXELS], fakes[:FOR_PIXELS])
        return row

    def _is_better(self, row: Row, other: Row) -> bool:
        metric = self.trial.metric
        return METRICS[metric].sign * row[metric] < METRICS[metric].sign * other[metric]

    def generate(self, count: int) -> Pixels:
        """Make uint8 fakes [count, H, W, C] from the trial's fixed noise."""
        return networks.generate(self.model.network, count, self.trial.seed)

    def sample(self) -> Pixels | None:
        """Draw the grid of this moment: 100 fakes, or 50 validation images above their reconstructions.

        None for a classifier, which makes no images.
        """
        if self.model.kind == "generator":
            return samples.mosaic(self.generate(100))
        if self.model.kind == "classifier":
            return None
        originals = self.images.validation[:50]
        return samples.in_pairs(originals, networks.reconstruct(self.model.network, originals))

    def save(self, file: Path | BinaryIO) -> None:
        """Write a checkpoint (`.npz`): every variable, the history and the trial's configuration."""
        state = {
            "history": self.history,
            "best": self.best,
            "taken_from": self.taken_from,
            "trial": self.trial.model_dump(mode="json"),
        }
        arrays = {f"{i:04d} {variable.path}": np.asarray(variable) for i, variable in enumerate(self.model.variables)}
        np.savez(file, allow_pickle=False, state=np.asarray(json.dumps(state)), **arrays)

    def restore(self, file: Path | BinaryIO) -> None:
        """Go on from a checkpoint of a model with the same variables.

        Raises ValueError if their shapes differ.
        """
        state = self._load(file)
        self.history, self.best, self.taken_from = state["history"], state["best"], state["taken_from"]

    def take_over(self, path: Path) -> None:
        """Go on with the variables of a checkpoint, which may be another trial's, at this trial's own rates.

        The history stays this trial's own. Raises ValueError as `restore` does.
        """
        donor = self._load(path)["trial"]["trial_id"]
        if donor != self.trial.trial_id:
            self.taken_from = donor

    def _load(self, file: Path | BinaryIO) -> dict[str, Any]:
        """Assign all variables; the optimizers' rates are set as an epoch begins."""
        with np.load(file, allow_pickle=False) as stored:
            state: dict[str, Any] = json.loads(str(stored["state"]))
            arrays = [stored[name] for name in sorted(set(stored.files) - {"state"})]
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in self.model.variables]:
            raise ValueError(
                f"checkpoint: expected the variables of {self.trial.model}, received those of {state['trial']}"
            )
        for variable, array in zip(self.model.variables, arrays, strict=True):
            variable.assign(array)
        return state


def _classes(model: Model, images: Images) -> tuple[Labels | None, Labels | None]:
    """Give a classifier the classes of the training and the validation images."""
    if not isinstance(model, Classifier):
        return None, None
    if images.train_labels is None or images.validation_labels is None:
        raise ValueError("classifier: expected labelled images, received unlabelled ones")
    return images.classes_of(images.train_labels), images.classes_of(images.validation_labels)
