"""What a job needs of this machine: the project's source, the experiment, and the files that it names."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raymnist import experiment_file, folder, provenance, search_space
from raymnist.config import Experiment
from raymnist.errors import InputError, choices
from raymnist.sweep.plan import concrete

FILES = "files"


def check(experiment: Experiment, source: str, studies: Sequence[str]) -> None:
    """Check what needs neither the data nor Ray, so that it is told here: the models' settings and the files.

    source: the experiment's file or name. studies: those that are to be forgotten. Raises InputError.
    """
    for name in studies:
        if name not in experiment.studies:
            raise InputError(f"--fresh: {choices('study', name, experiment.studies)}")
    try:
        for name, study in experiment.studies.items():
            values = search_space.draw(study.domains, np.random.default_rng(0))
            concrete(study, values, f"studies.{name}")
        if experiment.dataset.name.endswith(".npz") and not Path(experiment.dataset.name).is_file():
            raise InputError(f"dataset: expected a file, found no {experiment.dataset.name}")
        evaluation = experiment.evaluation
        for chosen in (evaluation.generators or []) if evaluation else []:
            if chosen.is_file and not Path(chosen.name).exists():
                raise InputError(f"evaluation.generators: expected a file, found no {chosen.name}")
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def ship(experiment: Experiment, source: str, target: Path) -> str:
    """Copy the source and the experiment into the folder `target`; returns the experiment's file, relative to it.

    It is called like the user's file, so that what is said of it there is understood. Data sets and generators that are
    files here go with it; what is a name, such as `mnist`, is found there.
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
    if dataset.name.endswith(".npz"):
        dataset = dataset.model_copy(update={"name": copied(dataset.name)})
    if evaluation and evaluation.generators:
        generators = [
            chosen.model_copy(update={"name": copied(chosen.name)}) if chosen.is_file else chosen
            for chosen in evaluation.generators
        ]
        evaluation = evaluation.model_copy(update={"generators": generators})
    return experiment.model_copy(update={"dataset": dataset, "evaluation": evaluation})
