"""Ray Tune's face on an ordinary training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from raymnist.config import TrialConfig
from raymnist.datasets import Images
from raymnist.models.features import ClassifierFile

if TYPE_CHECKING:
    from raymnist.training.judges import Judge


@dataclass(frozen=True)
class Plan:
    """A trial to train: its key, and the folder in which it goes on."""

    trial: TrialConfig
    key: str
    path: Path


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
        plans: Mapping[str, Plan],
        classifier: ClassifierFile | None,
    ) -> None:
        """Claim the devices for the life of this process, and begin the first trial."""
        from raymnist.training import devices

        self.images = images
        self.plans = plans
        self.classifier = classifier
        devices.claim(**config["resources"])
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
        plan = self.plans[self.trial_name]
        train = plan.trial.train.model_copy(update=config["planned"]["rates"])
        trial = plan.trial.model_copy(update={"train": train})
        self.training = Training(trial, self.images, self.classifier, self.judge)
        self.judge = self.training.judge
        self.folder = TrialFolder(plan.path, plan.key)
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
        return {**row, "done": training.is_done, "cuda_visible_devices": devices}

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Ask for the trial's CPUs and GPUs on one node."""
        resources = config["resources"]
        return tune.PlacementGroupFactory([{"CPU": resources["cpus"], "GPU": resources["gpus"]}])

    def __repr__(self) -> str:
        """Name the study and the process, as the dashboard shows it; Ray asks when the worker starts, or fails to."""
        study = next(iter(self.plans.values())).trial.study
        return f"StudyTrainable(study={study}, pid={os.getpid()})"
