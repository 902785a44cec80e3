"""What a training leaves in its trial's folder, and how it goes on from there."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

from raymnist import folder
from raymnist.config import TrialConfig
from raymnist.datasets import Images
from raymnist.models.features import ClassifierFile
from raymnist.training import samples
from raymnist.training.checkpoints import CheckpointFolder
from raymnist.training.loop import Row, Training


class TrialFolder:
    """What a training leaves in its trial's folder."""

    def __init__(self, path: Path, key: str, checkpoints: CheckpointFolder | None = None):
        """`key` stands for all that the training depends on. Without a place for checkpoints they lie in the folder."""
        self.path = path
        self.key = key
        self.checkpoints = checkpoints or CheckpointFolder.local(path / "checkpoints", best=1)
        self.mark, self.is_marked = uuid.uuid4().hex, False

    def begin(self, training: Training) -> None:
        """Write the configuration, and go on from the checkpoint that bears the same key, or start anew.

        The configuration may differ from the written one in its perturbed settings.
        """
        config = self.path / "config.json"
        if (folder.read_json(config) or {}).get("key") != self.key:
            folder.remove(self.path)
        elif (self.path / "history.csv").is_file():  # else what a checkpoint elsewhere goes with is gone
            self.checkpoints.restore(training)
        folder.write_json(config, {"key": self.key, **training.trial.model_dump(mode="json")})

    def take_over(self, training: Training, path: Path) -> None:
        """Go on with the variables of a checkpoint, and keep that at once."""
        training.take_over(path)
        self.checkpoints.save_last(training)

    def epoch(self, training: Training) -> Row:
        """Train one epoch and write what is due: samples, the saved generator, the best network, the checkpoint.

        Raises RuntimeError where another process trains in the folder: a node that was cut off may still reach it. One
        that has only begun does not count, as Tune begins with workers that it then has no use for.
        """
        if not self.is_marked:
            folder.write_text(self.path / folder.WORKER, self.mark)
            self.is_marked = True
        row = training.epoch()
        if (self.path / folder.WORKER).read_text(encoding="utf-8") != self.mark:
            raise RuntimeError(f"{self.path}: expected the folder as this process left it, found that of another")
        number, trial = training.epochs_done, training.trial
        told = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in row.items()
            if name != "epoch"
        )
        print(f"{trial.trial_id} epoch {number} of {trial.train.epochs}: {told}", flush=True)
        if trial.is_sampled(number) or training.is_done:
            self._save_sample(training, f"epoch_{number:04d}")
            if training.model.kind == "generator":
                self._save_network(training, self.path / "generators" / f"epoch_{number:04d}", trial.samples.save)
        if training.best is row:
            self._save_network(training, self.path / "model", {"keras": None, **dict.fromkeys(trial.samples.save)})
            self._save_sample(training, "best")
        if trial.is_due(number):
            columns = list(dict.fromkeys(name for past in training.history for name in past))
            folder.write_csv(self.path / "history.csv", columns, training.history)
            self.checkpoints.save(training)
        return row

    def _save_sample(self, training: Training, name: str) -> None:
        picture = training.sample()
        if picture is not None:
            samples.save_png(self.path / "samples" / f"{name}.png", picture)

    def _save_network(self, training: Training, path: Path, formats: Iterable[str]) -> None:
        for suffix in formats:
            with folder.replacing(path.with_name(f"{path.name}.{suffix}")) as draft:
                training.model.network.save(draft)


def train(
    trial: TrialConfig, images: Images, path: Path, key: str = "", classifier: ClassifierFile | None = None
) -> Training:
    """Train a trial to its end in the folder `path`, going on from what is there."""
    training = Training(trial, images, classifier)
    trial_folder = TrialFolder(path, key)
    trial_folder.begin(training)
    while not training.is_done:
        trial_folder.epoch(training)
    return training
