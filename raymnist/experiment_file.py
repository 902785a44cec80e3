"""Reading an experiment: from a file or by name, with values put in by `--set`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raymnist import yaml_file
from raymnist.config import Experiment
from raymnist.errors import InputError, choices
from raymnist.settings import bare_name, validate


def bundled() -> dict[str, Path]:
    """Find the experiments that come with the project, by name."""
    package = Path(__file__).parent
    inside_wheel, beside_package = package / "experiments", package.parent / "experiments"
    folder = inside_wheel if inside_wheel.is_dir() else beside_package
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(source: str | Path, sets: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment from a file or, by its name, from the bundled ones.

    sets: values by dotted key, put in before the file is checked; `*` stands for every key of a mapping.
    Raises InputError for the first thing that is wrong.
    """
    path = Path(source)
    if not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise InputError(f"{source}: expected an experiment file, found {'a folder' if path.is_dir() else 'none'}")
        if str(source) not in bundled():
            raise choices("experiment", str(source), bundled())
        path = bundled()[str(source)]
    where = str(source)
    try:
        data = yaml_file.parse(path.read_text(encoding="utf-8"), where)
    except UnicodeDecodeError:
        raise InputError(f"{where}: expected UTF-8 text") from None
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a mapping with name, dataset and studies, received {data!r:.60}")
    for key, value in (sets or {}).items():
        data = put(data, key, value)
    experiment = validate(Experiment, data, f"{where}: ")
    return _find_files(experiment, path.parent)


def put(data: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Copy nested settings with `value` at the dotted `key`; `*` matches every key of a mapping that is there."""
    changed = copy.deepcopy(dict(data))
    nodes: list[Any] = [changed]
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        below = []
        for node in nodes:
            for name in node if part == "*" else [part]:
                if node.get(name) is None and depth and parents[depth - 1] == "studies":
                    raise InputError(f"--set {key}: " + str(choices("study", name, node)))
                child = bare_name({} if node.get(name) is None else node[name])
                if not isinstance(child, dict):
                    raise InputError(f"--set {key}: {name} is {child!r}, which has no keys")
                node[name] = child
                below.append(child)
        nodes = below
    for node in nodes:
        for name in list(node) if last == "*" else [last]:
            node[name] = value
    return changed


def _find_files(experiment: Experiment, folder: Path) -> Experiment:
    """Take what is not found from the working directory from the experiment file's own folder."""

    def found(name: str) -> str:
        beside = folder / name
        return str(beside) if not Path(name).exists() and beside.exists() else name

    dataset, evaluation = experiment.dataset, experiment.evaluation
    if dataset.name.endswith(".npz"):
        dataset = dataset.model_copy(update={"name": found(dataset.name)})
    if evaluation and evaluation.generators:
        generators = [
            generator.model_copy(update={"name": found(generator.name)}) if generator.is_file else generator
            for generator in evaluation.generators
        ]
        evaluation = evaluation.model_copy(update={"generators": generators})
    return experiment.model_copy(update={"dataset": dataset, "evaluation": evaluation})
