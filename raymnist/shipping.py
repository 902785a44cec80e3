"""What a job needs of this machine: the project's source, the experiment, and the files that it names."""

from __future__ import annotations

import shutil
from pathlib import Path

from raymnist import experiment_file, folder, provenance
from raymnist.config import Experiment

FILES = "files"


def ship(experiment: Experiment, target: Path) -> str:
    """Copy the source and the experiment into the folder `target`; returns the experiment's file, relative to it.

    Data sets and generators that are files here go with it; what is a name, such as `mnist`, is found there.
    """
    package = Path(__file__).parent
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, target / package.name, ignore=without)
    bundled = next(iter(experiment_file.bundled().values())).parent
    if bundled.parent != package:
        shutil.copytree(bundled, target / bundled.name, ignore=without)
    (target / provenance.COMMIT).write_text(provenance.git_commit() or "", encoding="utf-8")
    shipped = _with_files(experiment, target / FILES)
    file = target / f"{experiment.name}.yaml"
    folder.write_text(file, shipped.to_yaml())
    return file.name


def _with_files(experiment: Experiment, target: Path) -> Experiment:
    """Copy the files that an experiment names, and name the copies, as they lie beside it."""

    def copied(name: str) -> str:
        path = Path(name)
        if not path.exists():
            return name
        target.mkdir(exist_ok=True)
        place = target / str(len(list(target.iterdir())))  # one for each, as the tables call a generator by its file
        place.mkdir()
        if path.is_dir():
            shutil.copytree(path, place / path.name)
        else:
            shutil.copy(path, place)
        return f"{FILES}/{place.name}/{path.name}"

    dataset, evaluation = experiment.dataset, experiment.evaluation
    if dataset.name.endswith(".npz"):
        dataset = dataset.model_copy(update={"name": copied(dataset.name)})
    if evaluation and evaluation.generators:
        generators = [
            chosen.model_copy(update={"name": copied(chosen.name)}) if chosen.is_file else chosen
            for chosen in evaluation.generators
        ]
        evaluation = evaluation.model_copy(update={"generators": generators})
    return experiment.model_copy(update={"dataset": dataset, "evaluation": evaluation})
