"""What a job needs of this machine: the project's source, the experiment, and the files that it names."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raymnist import datasets, experiment_file, folder, provenance, search_space
from raymnist.config import Experiment
from raymnist.errors import InputError, choices
from raymnist.evaluation import choice
from raymnist.sweep.plan import concrete

FILES = "files"


def check(experiment: Experiment, source: str, studies: Sequence[str]) -> None:
    """Check what the cluster is not needed for, so that it is told here: settings of models and parts, and the files.

    source: the experiment's file or name. studies: those that are to be forgotten. Raises InputError.
    """
    for name in studies:
        if name not in experiment.studies:
            raise InputError(f"--fresh: {choices('study', name, experiment.studies)}")
    dataset, evaluation = experiment.dataset, experiment.evaluation
    if evaluation and evaluation.generators:
        here = [chosen for chosen in evaluation.generators if not _is_elsewhere(chosen.name)]
        evaluation = evaluation.model_copy(update={"generators": here})
    try:
        for name, study in experiment.studies.items():
            values = search_space.draw(study.domains, np.random.default_rng(0))
            concrete(study, values, f"studies.{name}")
        if dataset.name not in datasets.DATASETS and not _is_elsewhere(dataset.name):
            datasets.load(dataset)
        choice.resolve(experiment.model_copy(update={"evaluation": evaluation}), has_classifier=True)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _is_elsewhere(name: str) -> bool:
    """Tell whether a name can only be that of a file on the cluster: a full path that is not here."""
    return Path(name).is_absolute() and not Path(name).exists()


def ship(experiment: Experiment, source: str, target: Path) -> str:
    """Copy the source and the experiment into the folder `target`; returns the experiment's file, relative to it.

    It is called like the user's file, so that what is said of it there is understood. Data sets and generators that are
    files here go with it; what is a name, such as `mnist`, or a full path that is not here, is found there.
    """
    package = Path(__file__).parent
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, target / package.name, ignore=without)
    bundled = next(iter(experiment_file.bundled().values())).parent
    if bundled.parent != package:
        shutil.copytree(bundled, target / bundled.name, ignore=without)
    (target / provenance.COMMIT).write_text(provenance.git_commit() or "", encoding="utf-8")
    shipped = _with_files(experiment, target / FILES)
    file = target / Path(source).with_suffix(".yaml").name
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
    if dataset.name not in datasets.DATASETS:
        dataset = dataset.model_copy(update={"name": copied(dataset.name)})
    if evaluation and evaluation.generators:
        generators = [
            chosen.model_copy(update={"name": copied(chosen.name)}) if chosen.is_file else chosen
            for chosen in evaluation.generators
        ]
        evaluation = evaluation.model_copy(update={"generators": generators})
    return experiment.model_copy(update={"dataset": dataset, "evaluation": evaluation})
