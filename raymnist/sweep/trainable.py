"""Ray Tune's face on an ordinary training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ray import tune

from raymnist.config import TrialConfig
from raymnist.datasets import Images
from raymnist.metrics import FrechetPixels


class StudyTrainable(tune.Trainable):
    """Trains planned trials, one after the other in the same process, which imports TensorFlow once.

    A step trains up to the next look at the objective. What was trained lies in the trial's own folder, so that any
    process goes on from it; Tune keeps no checkpoint.
    """

    def setup(self, config: dict[str, Any], *, images: Images) -> None:
        """Claim the devices for the life of this process, and begin the first trial."""
        from raymnist.training import devices

        devices.claim(**config["planned"]["resources"])
        self.images = images
        self.frechet: FrechetPixels | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process, where the last one must not keep its memory meanwhile."""
        del self.training
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        from raymnist.training.loop import Training, TrialFolder

        planned = config["planned"]
        self.training = Training(TrialConfig.model_validate(planned["trial"]), self.images, self.frechet)
        self.frechet = self.training.frechet
        self.folder = TrialFolder(Path(planned["path"]), planned["key"])
        self.folder.begin(self.training)

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
        resources = config["planned"]["resources"]
        return tune.PlacementGroupFactory([{"CPU": resources["cpus"], "GPU": resources["gpus"]}])

    def __repr__(self) -> str:
        """Name the study and the process, as the dashboard shows it; Ray asks once, when the worker starts."""
        return f"StudyTrainable(study={self.training.trial.study}, pid={os.getpid()})"
