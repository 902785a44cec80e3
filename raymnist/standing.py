"""How an experiment stands in its results folder: what is done, what is open, and what is in the way."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from raymnist import experiment_file, folder
from raymnist.config import Experiment, Generator
from raymnist.datasets import Images
from raymnist.errors import InputError, choices
from raymnist.evaluation.sources import Network, image_files
from raymnist.evaluation.stages import Stages
from raymnist.folder import Folder, remove
from raymnist.metrics import is_supervised
from raymnist.models import features
from raymnist.models.features import ClassifierFile
from raymnist.sweep.confirm import confirmations
from raymnist.sweep.objective import Scored
from raymnist.sweep.outcome import Outcome
from raymnist.sweep.plan import Plan, changes
from raymnist.sweep.ranking import ranking
from raymnist.training import checkpoints


def classifier_of(target: Folder, images: Images, anew: bool) -> ClassifierFile | None:
    """Find the classifier of a data set; a results folder keeps the one that it began with, or that there was none.

    Otherwise a classifier that is trained, trained again or deleted would change what its trials were chosen by.
    anew: whether the folder's results do not count.
    """
    noted = None if anew else target.manifest.get("classifier")
    if noted is None or (noted and not target.classifier.is_file()):
        return features.find(images)
    return ClassifierFile.read(target.classifier) if noted else None


def forgets_all(fresh: bool | str | list[str], experiment: Experiment) -> bool:
    """Tell whether `fresh` names every study."""
    names = [fresh] if isinstance(fresh, str) else fresh or []
    return fresh is True or (isinstance(names, list) and bool(names) and set(names) >= set(experiment.studies))


def saved_generator(chosen: Generator) -> Network:
    """Describe a saved generator, or images, that an evaluation names; the bytes are the key."""
    path, digest = Path(chosen.name), hashlib.sha256()
    for file in image_files(path) or [path]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return Network(chosen.study, chosen.title, chosen.name, digest.hexdigest(), chosen.output_range)


@dataclass(frozen=True)
class Standing:
    """A resolved experiment, its images, and every planned trial as its folder has it.

    forgotten: studies whose earlier trials do not count and will be deleted. all_forgotten: the evaluation neither.
    plans: each study's plan. outcomes: its trials in order, then its confirmations, where its search is over.
    classifier: of the images, or None.
    """

    experiment: Experiment
    images: Images
    folder: Folder
    forgotten: tuple[str, ...]
    all_forgotten: bool
    plans: dict[str, Plan]
    outcomes: dict[str, list[Outcome]]
    classifier: ClassifierFile | None

    @classmethod
    def read(cls, experiment: Experiment, images: Images, target: Folder, fresh: bool | str | list[str]) -> Self:
        """Read the folder; raises InputError for an unknown study in `fresh`, or if something is in the way."""
        names = [fresh] if isinstance(fresh, str) else list(experiment.studies if fresh is True else fresh or [])
        for name in names:
            if name not in experiment.studies:
                raise InputError(f"--fresh: {choices('study', name, experiment.studies)}")
        everything = forgets_all(fresh, experiment)
        _refuse_what_is_in_the_way(experiment, target, names, everything)
        classifier = classifier_of(target, images, everything)
        scored = Scored.of(images, classifier)
        plans = {
            name: Plan(name, study, experiment.seed, scored, images.sha256)
            for name, study in experiment.studies.items()
        }
        outcomes = {name: cls._outcomes(plan, target, name in names) for name, plan in plans.items()}
        standing = cls(experiment, images, target, tuple(names), everything, plans, outcomes, classifier)
        standing._refuse_other_keys()
        return standing

    @staticmethod
    def _outcomes(plan: Plan, target: Folder, is_forgotten: bool) -> list[Outcome]:
        if is_forgotten:
            return plan.pending(target)
        searched = plan.outcomes(target)
        return searched + [plan.outcome(trial, target) for trial in confirmations(plan, searched)]

    def reread(self, study: str) -> Self:
        """Read a study's trials again, after they were trained."""
        again = self._outcomes(self.plans[study], self.folder, is_forgotten=False)
        return replace(self, forgotten=(), all_forgotten=False, outcomes=self.outcomes | {study: again})

    @property
    def all_outcomes(self) -> list[Outcome]:
        """The trials of all studies."""
        return [outcome for outcomes in self.outcomes.values() for outcome in outcomes]

    @property
    def failures(self) -> list[str]:
        """Trials that did not end well, and studies that the evaluation had to leave out for it, a line each."""
        lines = [f"{o.trial.trial_id}: {o.error or o.status}" for o in self.all_outcomes if not o.is_ended]
        evaluation = self.experiment.evaluation
        generators = (evaluation.generators or []) if evaluation else []
        wanted = [generator.name for generator in generators if not generator.is_file]
        wanted += [evaluation.encoder] if evaluation and evaluation.encoder else []
        without = [name for name in wanted if not ranking(self.outcomes[name])]
        return lines + [f"evaluation without {name}: none of its trials ended" for name in without]

    def stages(self) -> Stages | None:
        """Choose the networks that take part in the evaluation; None if there is nothing to evaluate."""
        evaluation = self.experiment.evaluation
        if evaluation is None:
            return None
        encoders = self._networks(evaluation.encoder) if evaluation.encoder else []
        generators = [
            chosen
            for wanted in evaluation.generators or []
            for chosen in ([saved_generator(wanted)] if wanted.is_file else self._networks(wanted.name))
        ]
        features = [name for name in evaluation.features or [] if name != "code" or encoders]
        if not features:
            return None
        evaluation = evaluation.model_copy(update={"features": features})
        return Stages(evaluation, self.images, self.experiment.seed, encoders, self.classifier, generators, self.folder)

    def _networks(self, study: str) -> list[Network]:
        """Describe the runs of a study's best configuration, that with the best objective first."""
        ranked = ranking(self.outcomes[study])
        if not ranked:
            return []
        first = ranked[0]
        return [
            Network(study, run.trial.trial_id, str((run.path / "model.keras").resolve()),
                    folder.key_of(run.key, len(run.history)),  # a trial that got more time goes on under its key
                    is_supervised=is_supervised(run.trial.metric))
            for run in [first.best, *(run for run in first.runs if run is not first.best)]
        ]  # fmt: skip

    def is_complete(self) -> bool:
        """Tell whether nothing is left to train and to evaluate."""
        if self.forgotten or self.all_forgotten or self.failures or self.folder.manifest.get("status") != "complete":
            return False
        stages = self.stages()
        tables = not self.outcomes or (self.folder.trials.is_file() and self.folder.history.is_file())
        stored = self.folder.experiment
        is_the_same = stored.is_file() and experiment_file.load(stored) == self.experiment
        return tables and is_the_same and (stages is None or stages.is_complete())

    def forget(self) -> list[str]:
        """Delete what `fresh` named: the whole folder if it named every study, else the studies' folders.

        An evaluation of forgotten trials is forgotten too, as trials with the same key may end otherwise (ASHA). With
        or without `fresh`, no checkpoints stay in a place that the experiment no longer names. Returns what a user
        should know of it.
        """
        noted: dict[str, str] | None = self.folder.manifest.get("checkpoints")
        is_elsewhere = noted is not None and noted["uri"] != self.experiment.checkpoints.uri
        below = [""] if self.all_forgotten or is_elsewhere else [f"/{name}" for name in self.forgotten]
        notices = [checkpoints.remove(noted["uri"], noted["folder"] + name) for name in below] if noted else []
        if self.all_forgotten:
            self.folder.clear()
        if self.all_forgotten or not self.forgotten:
            return notices
        seconds = self.folder.manifest.get("seconds", {})  # none yet, where a run was killed in its first study
        kept = {part: spent for part, spent in seconds.items() if part.partition(" ")[0] not in self.forgotten}
        self.folder.note(complete={}, seconds=kept)
        for name in self.forgotten:
            remove(self.folder.study(name))
        return notices

    def _refuse_other_keys(self) -> None:
        for outcome in (outcome for name in self._kept for outcome in self.outcomes[name]):
            stored = folder.read_json(outcome.path / "config.json")
            if stored and stored["key"] != outcome.key:
                name = outcome.trial.study
                raise InputError(
                    f"{self.folder.path}: {name} changed: its data or settings, or the code or libraries that train "
                    f"it; use --fresh {name}"
                )

    @property
    def _kept(self) -> list[str]:
        return [name for name in self.experiment.studies if name not in self.forgotten]


def _refuse_what_is_in_the_way(experiment: Experiment, target: Folder, forgotten: list[str], everything: bool) -> None:
    """Refuse a place that is none for results, and a change of studies that are not forgotten; raises InputError."""
    path = target.path
    above = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        found = "one that cannot be written to" if above.is_dir() else "a file"
        raise InputError(f"{above}: expected a folder for results, found {found}")
    if not path.exists() or (path.is_dir() and not any(not entry.name.startswith(".") for entry in path.iterdir())):
        return
    if "raymnist" not in target.manifest.get("versions", {}):
        raise InputError(f"{path}: expected a results folder or nothing, found something else")
    if everything or not target.experiment.is_file():  # without one, a run was killed as it began
        return
    kept = [name for name in experiment.studies if name not in forgotten]
    change = changes(experiment_file.load(target.experiment), experiment, kept)
    if change:
        raise InputError(f"{path}: {change}")
