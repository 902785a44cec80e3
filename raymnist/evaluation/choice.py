"""Who takes part in an evaluation, and what is done to their images."""

from __future__ import annotations

from pathlib import Path

from raymnist.config import Chain, Evaluation, Experiment, Generator, Part
from raymnist.errors import InputError, choices
from raymnist.evaluation import clusterers, reducers
from raymnist.evaluation.sources import IMAGE_SUFFIXES, image_files
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
        if generator.is_file:
            _check_file(Path(generator.name))
        if not generator.is_file and generator.name not in of_kind["generator"]:
            known = [
                *of_kind["generator"],
                "the path of a .keras or .h5 file, or of images (of a folder with a /)",
            ]
            raise InputError(f"evaluation.generators: {choices('generator study', generator.name, known)}")
    features = evaluation.features or (["code"] if encoder else ["pixels"])
    if "code" in features and encoder is None:
        raise InputError("evaluation.features: code needs an encoder, a study of an autoencoder; received none")
    if "classifier" in features and not has_classifier:
        raise InputError(f"evaluation.features: classifier needs one of the data set; {TRAIN_ONE}")
    if evaluation.choose_by and "code" not in features:
        raise InputError(f"evaluation.choose_by: chooses among clusterings of code, received features {features}")
    if evaluation.choose_by == "agreement" and not (encoder and experiment.studies[encoder].confirm):
        raise InputError(
            "evaluation.choose_by: agreement is that of an encoder's confirmations; expected `confirm` in its study"
        )
    reducing = [reducers.resolve(chain, "evaluation.reducers") for chain in evaluation.reducers]
    if generators and not any(reducers.label(chain) == "none" for chain in reducing):
        reducing.insert(0, Chain(parts=[Part(name="none")]))  # where the leaderboard's mixing is measured
    clustering = [clusterers.resolve(part, "evaluation.clusterers") for part in evaluation.clusterers]
    for key, labels in (
        ("generators", [generator.title for generator in generators]),
        ("features", list(features)),
        ("reducers", [reducers.label(chain) for chain in reducing]),
        ("clusterers", [clusterers.label(part) for part in clustering]),
    ):
        if len(set(labels)) < len(labels):
            hint = "" if key == "features" else f"; {'a file' if key == 'generators' else 'each'} may have a `label`"
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


def _check_file(path: Path) -> None:
    if path.is_file() and path.suffix in (*SUFFIXES, *IMAGE_SUFFIXES):
        return
    if path.is_dir() and image_files(path):
        return
    found = "one of another kind" if path.is_file() else "a folder without images" if path.is_dir() else "none"
    expected = f"a file {', '.join(SUFFIXES)}, or images in {' or '.join(IMAGE_SUFFIXES)} files"
    raise InputError(f"evaluation.generators: {path}: expected {expected}, found {found}")


def _with_full_path(generator: Generator) -> Generator:
    name = str(Path(generator.name).resolve()) if generator.is_file else generator.name
    return generator.model_copy(update={"name": name})
