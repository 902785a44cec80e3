"""Who takes part in an evaluation, and what is done to their images."""

from __future__ import annotations

from pathlib import Path

from raymnist.config import Evaluation, Experiment, Generator
from raymnist.errors import InputError, choices
from raymnist.evaluation import clusterers, reducers
from raymnist.models import MODELS
from raymnist.models.features import TRAIN_ONE
from raymnist.models.saved import SUFFIXES


def resolve(experiment: Experiment, has_classifier: bool) -> Evaluation | None:
    """Fill in an evaluation's defaults, and check it against the studies and the registries.

    has_classifier: whether there is one of the data set. Raises InputError, which names the key, for a study that is
    not there or cannot do what it is chosen for, an unknown reducer or clusterer, a wrong option, or two reducers or
    clusterers of one name.
    """
    evaluation = experiment.evaluation
    if evaluation is None:
        return None
    of_kind = {
        kind: [name for name, study in experiment.studies.items() if MODELS[study.model["name"]].kind == kind]
        for kind in ("autoencoder", "generator")
    }
    encoder = evaluation.encoder or next(iter(of_kind["autoencoder"]), None)
    generators = evaluation.generators
    if generators is None:
        generators = [Generator(name=name) for name in of_kind["generator"]]
    if encoder is not None and encoder not in of_kind["autoencoder"]:
        raise InputError(f"evaluation.encoder: {choices('autoencoder study', encoder, of_kind['autoencoder'])}")
    for generator in generators:
        path = Path(generator.name)
        if generator.is_file and not (path.suffix in SUFFIXES and path.is_file()):
            found = "one of another kind" if path.is_file() else "a folder" if path.is_dir() else "none"
            raise InputError(f"evaluation.generators: {path}: expected a file {' or '.join(SUFFIXES)}, found {found}")
        if not generator.is_file and generator.name not in of_kind["generator"]:
            known = [*of_kind["generator"], "a path to a .keras or .h5 file"]
            raise InputError(f"evaluation.generators: {choices('generator study', generator.name, known)}")
    features = evaluation.features or (["code"] if encoder else ["pixels"])
    if "code" in features and encoder is None:
        raise InputError("evaluation.features: code needs an encoder, a study of an autoencoder; received none")
    if "classifier" in features and not has_classifier:
        raise InputError(f"evaluation.features: classifier needs one of the data set; {TRAIN_ONE}")
    reducing = [reducers.resolve(part, "evaluation.reducers") for part in evaluation.reducers]
    clustering = [clusterers.resolve(part, "evaluation.clusterers") for part in evaluation.clusterers]
    for key, labels in (
        ("generators", [generator.title for generator in generators]),
        ("features", list(features)),
        ("reducers", [reducers.label(part) for part in reducing]),
        ("clusterers", [part.name for part in clustering]),
    ):
        if len(set(labels)) < len(labels):
            hint = "; a file may have a `label`" if key == "generators" else ""
            names = ", ".join(labels)
            raise InputError(f"evaluation.{key}: expected different names in the table, received {names}{hint}")
    return evaluation.model_copy(
        update={
            "encoder": encoder,
            "generators": [_with_full_path(generator) for generator in generators],
            "features": list(features),
            "reducers": reducing,
            "clusterers": clustering,
        }
    )


def _with_full_path(generator: Generator) -> Generator:
    name = str(Path(generator.name).resolve()) if generator.is_file else generator.name
    return generator.model_copy(update={"name": name})
