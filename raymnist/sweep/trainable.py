"""Ray Tune's face on an ordinary training."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from raymnist import folder
from raymnist.config import TrialConfig
from raymnist.datasets import Images
from raymnist.errors import InputError
from raymnist.models.features import ClassifierFile
from raymnist.sweep import nodes
from raymnist.sweep.resources import Request

if TYPE_CHECKING:
    from raymnist.training.checkpoints import CheckpointFolder
    from raymnist.training.judges import Judge


@dataclass(frozen=True)
class CheckpointPlace:
    """Where a study's trials keep their checkpoints, and how many.

    uri: of a folder that holds a folder per trial `below` it; `None` stands for the trials' own folders.
    """

    uri: str | None
    below: str
    best: int

    def of(self, trial: Path) -> CheckpointFolder:
        """Open that of a trial, by its folder."""
        from raymnist.training.checkpoints import CheckpointFolder

        if self.uri is None:
            return CheckpointFolder.local(trial / "checkpoints", self.best)
        return CheckpointFolder.remote(self.uri, f"{self.below}/{trial.name}", self.best)


class StudyTrainable(tune.Trainable):
    """Trains planned trials, one after the other in the same process, which imports TensorFlow once.

    A step trains up to the next look at the objective. What was trained lies in the trial's own folder, so that any
    process goes on from it; Tune's checkpoints only hand weights from one trial to another.
    """

    def setup(
        self,
        config: dict[str, Any],
        *,
        images: Images,
        place: Path,
        checkpoints: CheckpointPlace,
        classifier: ClassifierFile | None,
        versions: dict[str, str],
    ) -> None:
        """Claim the devices for the life of this process, and begin the first trial.

        place: the study's folder, in which each planned trial's folder says what the trial is. versions: the driver's.
        Raises InputError where this node has others or does not see the folder: it may have come after the run began.
        """
        from raymnist.training import devices

        here = platform.node()
        if line := nodes.differs(here, versions, nodes.versions()):
            raise InputError(line)
        if not place.is_dir():
            raise InputError(f"{here}: expected the folder {place}, which all nodes share, found none")

        self.images = images
        self.place = place
        self.checkpoints = checkpoints
        self.classifier = classifier
        devices.claim(config["request"]["cpus"], config["request"]["gpus"])
        self.judge: Judge | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process, where the last one must not keep its memory meanwhile."""
        del self.training
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        from raymnist.training.loop import Training
        from raymnist.training.trial_folder import TrialFolder

        # A trial that takes over another's weights gets a copy of its configuration, identity and all: only the name
        # tells them apart, and only the rates are meant.
        path = self.place / self.trial_name
        planned = folder.read_json(path / "config.json")
        key = planned.pop("key")
        trial = TrialConfig.model_validate(planned)
        train = trial.train.model_copy(update=config["planned"]["rates"])
        self.training = Training(trial.model_copy(update={"train": train}), self.images, self.classifier, self.judge)
        self.judge = self.training.judge
        self.folder = TrialFolder(path, key, self.checkpoints.of(path))
        self.folder.begin(self.training)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Leave the weights for another trial."""
        self.training.save(Path(checkpoint_dir) / "state.npz")

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Take the weights of another trial, or its own again after a pause."""
        self.folder.take_over(self.training, Path(checkpoint_dir) / "state.npz")

    def step(self) -> dict[str, Any]:
        """Train until the objective is known again; nothing, if all epochs were already done."""
        training = self.training
        row = training.history[-1] if training.is_done else self.folder.epoch(training)
        while not training.trial.is_due(row["epoch"]):
            row = self.folder.epoch(training)
        devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        done = training.is_done
        return {**row, "done": done, "trained": done, "cuda_visible_devices": devices}  # Tune sets "done" for any end

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Ask for all that the trial occupies on one node."""
        return tune.PlacementGroupFactory([Request(**config["request"]).bundle])

    def __repr__(self) -> str:
        """Name the study and the process, as the dashboard shows it; Ray asks when the worker starts, or fails to."""
        return f"StudyTrainable(study={self.place.name}, pid={os.getpid()})"
