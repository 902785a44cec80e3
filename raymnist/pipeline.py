"""The whole way, from an experiment file to the report."""

from __future__ import annotations

import contextlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any



from raymnist import config, datasets, folder
from raymnist.config import Experiment
from raymnist.datasets import Images
from raymnist.errors import InputError, choices
from raymnist.evaluation import choice
from raymnist.folder import Folder
from raymnist.models import MODELS
from raymnist.results import Results
from raymnist.sweep import plan
from raymnist.sweep.outcome import Outcome, best_of, read, write_tables
from raymnist.terminal import Terminal, logging_to

LIBRARIES = ("raymnist", "ray", "tensorflow", "keras", "numpy", "scikit-learn", "umap-learn", "openTSNE", "pandas")


def prepare(source: str | Path, sets: Mapping[str, Any] | None = None) -> Experiment:
    """Load an experiment and resolve it: every default filled in, every value checked. Raises InputError."""
    where = str(source)
    experiment = config.load(source, sets)
    try:
        studies = {name: plan.resolve(name, study) for name, study in experiment.studies.items()}
        experiment = experiment.model_copy(update={"studies": studies})
        experiment = experiment.model_copy(update={"evaluation": choice.resolve(experiment)})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if experiment.dataset.name not in datasets.DATASETS:
        path = Path(experiment.dataset.name)
        if path.suffix == ".npz":
            dataset = experiment.dataset.model_copy(update={"name": str(path.resolve())})
            experiment = experiment.model_copy(update={"dataset": dataset})
    return experiment


def run(
    source: str | Path,
    set: Mapping[str, Any] | None = None,
    *,
    results: str | Path = "results",
    fresh: bool | str | list[str] = False,
    address: str | None = None,
) -> Results:
    """Run an experiment, or go on with what is there: sweep, embed, reduce, cluster, score, draw.

    set: values by dotted key, as `--set` takes them. results: the folder above the results folder.
    fresh: forget earlier results, all of them (True) or those of the named studies. address: a Ray cluster to join.
    Returns the results, whose manifest has the status `complete` or, if a trial failed, `incomplete`.
    Raises InputError, before anything is scheduled or written, when the input is wrong.
    """
    experiment = prepare(source, set)
    images = _load_images(experiment, str(source))
    target = Folder(Path(results) / experiment.name)
    forgotten = _forgotten(experiment, fresh)
    outcomes = _outcomes(experiment, images, target, forgotten)
    _refuse_changes(experiment, target, forgotten, outcomes)
    if not forgotten and _is_complete(experiment, images, outcomes, target):
        Terminal(sys.stdout).say(f"{experiment.name} is complete in {target.path}; nothing to do")
        return Results(target.path)
    with tempfile.TemporaryDirectory(prefix="raymnist-") as scratch, contextlib.ExitStack() as stack:
        with logging_to(Path(scratch) / "log.txt"):
            stack.enter_context(ray_session(address))
            requests = _requests(experiment)
        _forget(experiment, target, forgotten)
        with logging_to(target.log) as terminal, stack.pop_all():
            print((Path(scratch) / "log.txt").read_text(encoding="utf-8"))
            return _run(experiment, images, outcomes, target, requests, terminal)


def dry_run(source: str | Path, set: Mapping[str, Any] | None = None, *, address: str | None = None) -> list[str]:
    """Check everything that `run` checks, and say what it would do; writes nothing.

    Raises InputError when the input is wrong.
    """
    from raymnist.sweep import resources

    experiment = prepare(source, set)
    images = _load_images(experiment, str(source))
    with tempfile.TemporaryDirectory(prefix="raymnist-") as scratch, logging_to(Path(scratch) / "log.txt"):
        with ray_session(address):
            nodes = resources.node_resources()
            requests = _requests(experiment)
    lines = [
        f"{experiment.name}: {len(images.train)} training, {len(images.validation)} validation and {len(images.test)} "
        f"test images of {experiment.dataset.name}, {'x'.join(map(str, images.shape))}"
    ]
    for name, study in experiment.studies.items():
        trials = plan.plan(name, study, experiment.seed)
        epochs, wanted = {trial.train.epochs for trial in trials}, requests[name]
        lines.append(
            f"{name}: {len(trials)} x {'-'.join(map(str, sorted({min(epochs), max(epochs)})))} epochs of "
            f"{study.model['name']}, each on {wanted.cpus:g} CPU and {wanted.gpus:g} GPU, "
            f"{min(len(trials), resources.at_once(wanted, nodes))} at a time"
        )
        lines += [f"warning: {line}" for line in plan.warnings(name, study)]
    return lines


@contextlib.contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Use the Ray session there is, else join the cluster at `address`, else start one that ends with the block."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address)
    except ConnectionError as error:
        raise InputError(f"--address {address}: {str(error).splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _run(
    experiment: Experiment,
    images: Images,
    outcomes: dict[str, list[Outcome]],
    target: Folder,
    requests: dict[str, Any],
    terminal: Terminal,
) -> Results:
    """Do what is not done yet, with Ray running and the input found right."""
    from raymnist.sweep import search

    folder.write_text(target.experiment, experiment.to_yaml())
    target.note(
        status="running",
        started=_now(),
        finished=None,
        command=sys.argv,
        seed=experiment.seed,
        dataset_sha256=images.sha256,
        versions={"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        git_commit=_git_commit(),
        host=platform.node(),
        resources={name: asdict(request) for name, request in requests.items()},
        failures=[],
    )
    try:
        for name, study in experiment.studies.items():
            for warning in plan.warnings(name, study):
                terminal.say(f"warning: {warning}")
            to_train = [outcome for outcome in outcomes[name] if not outcome.is_ended]
            if to_train:
                start = time.perf_counter()
                terminal.say(f"{name}: training {len(to_train)} of {len(outcomes[name])} trials")
                with terminal.epochs(name, sum(o.trial.train.epochs for o in to_train)) as progress:
                    search.train_open(study, outcomes[name], images, target, requests[name], progress)
                outcomes[name] = [read(outcome.trial, outcome.key, target) for outcome in outcomes[name]]
                seconds = target.manifest.get("seconds", {})
                target.note(seconds=seconds | {name: round(seconds.get(name, 0) + time.perf_counter() - start, 1)})
            write_tables((outcome for study in outcomes.values() for outcome in study), target)
        failures = [f"{o.trial.trial_id}: {o.error}" for study in outcomes.values() for o in study if not o.is_ended]
        stages, missing = _stages(experiment, images, outcomes, target)
        failures += missing
        if stages:
            stages.run(terminal.say)
        target.note(status="incomplete" if failures else "complete", failures=failures, finished=_now())
    except BaseException as error:
        target.note(status="failed", failures=[f"{type(error).__name__}: {error}"], finished=_now())
        raise
    results = draw(target)
    for failure in failures:
        terminal.say(f"failed: {failure}", problem=True)
    return results


def draw(target: Folder) -> Results:
    """Draw the figures and the report from the result files."""
    from raymnist.report import page

    start = time.perf_counter()
    results = Results(target.path)
    page.write(results)
    target.complete("report", _report_key(target), time.perf_counter() - start)
    return results


def _report_key(target: Folder) -> str:
    parts = [path.read_text(encoding="utf-8") if path.is_file() else "" for path in (target.trials, target.table)]
    return folder.key_of(*parts, folder.digest_of_code("report", "results.py"))


def _load_images(experiment: Experiment, where: str) -> Images:
    try:
        images = datasets.load(experiment.dataset)
        for name, study in experiment.studies.items():
            plan.check_images(name, study, images)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return images


def _outcomes(
    experiment: Experiment, images: Images, target: Folder, forgotten: list[str]
) -> dict[str, list[Outcome]]:
    """Read how every planned trial stands; those of forgotten studies have not begun."""
    nowhere = Folder(target.path / "forgotten")
    outcomes = {}
    for name, study in experiment.studies.items():
        trials = [(trial, plan.trial_key(trial, images.sha256)) for trial in plan.plan(name, study, experiment.seed)]
        found = [read(trial, key, nowhere if name in forgotten else target) for trial, key in trials]
        outcomes[name] = [
            Outcome(o.trial, o.key, target.trial(name, o.trial.trial_id), o.status, o.history, o.error, o.cuda_visible_devices)
            for o in found
        ]
    return outcomes


def _forgotten(experiment: Experiment, fresh: bool | str | list[str]) -> list[str]:
    if isinstance(fresh, bool):
        return list(experiment.studies) if fresh else []
    names = [fresh] if isinstance(fresh, str) else fresh
    for name in names:
        if name not in experiment.studies:
            raise InputError(f"--fresh: {choices('study', name, experiment.studies)}")
    return names


def _refuse_changes(
    experiment: Experiment, target: Folder, forgotten: list[str], outcomes: dict[str, list[Outcome]]
) -> None:
    """Raise InputError where trials of another configuration, or other files, are in the way."""
    if not target.path.exists() or (target.path.is_dir() and not any(target.path.iterdir())):
        return
    if not target.experiment.is_file():
        raise InputError(f"{target.path}: expected a results folder or nothing, found something else")
    before = config.load(target.experiment)
    if frozenset(forgotten) >= frozenset(before.studies):
        return
    kept = [name for name in experiment.studies if name not in forgotten]
    change = plan.changes(before, experiment, kept)
    if change:
        raise InputError(f"{target.path}: {change}")
    for name in kept:
        for outcome in outcomes[name]:
            stored = folder.read_json(outcome.path / "config.json")
            if stored and stored["key"] != outcome.key:
                raise InputError(
                    f"{target.path}: {name} changed: the code or the libraries that train it, or the data; "
                    f"use --fresh {name}"
                )


def _forget(experiment: Experiment, target: Folder, forgotten: list[str]) -> None:
    if forgotten and frozenset(forgotten) >= frozenset(experiment.studies) and target.path.is_dir():
        shutil.rmtree(target.path)
    for name in forgotten:
        shutil.rmtree(target.study(name), ignore_errors=True)


def _stages(
    experiment: Experiment, images: Images, outcomes: dict[str, list[Outcome]], target: Folder
) -> tuple[Any, list[str]]:
    """Choose who takes part in the evaluation; also names the studies that cannot, having no trial that ended."""
    from raymnist.evaluation.stages import Stages

    evaluation = experiment.evaluation
    if evaluation is None:
        return None, []
    best = {name: best_of(study) for name, study in outcomes.items()}
    generators = [chosen for name in evaluation.generators or [] if (chosen := best[name])]
    encoder = best[evaluation.encoder] if evaluation.encoder else None
    wanted = [*(evaluation.generators or []), *([evaluation.encoder] if evaluation.encoder else [])]
    missing = [f"evaluation without {name}: none of its trials ended" for name in wanted if best[name] is None]
    features = [name for name in evaluation.features or [] if name != "code" or encoder]
    if not features:
        return None, missing
    evaluation = evaluation.model_copy(update={"features": features})
    return Stages(evaluation, images, experiment.seed, encoder, generators, target), missing


def _is_complete(
    experiment: Experiment, images: Images, outcomes: dict[str, list[Outcome]], target: Folder
) -> bool:
    if not all(outcome.is_ended for study in outcomes.values() for outcome in study):
        return False
    stages, _ = _stages(experiment, images, outcomes, target)
    return (
        target.manifest.get("status") == "complete"
        and (stages is None or stages.is_complete())
        and target.is_complete("report", _report_key(target))
    )


def _requests(experiment: Experiment) -> dict[str, Any]:
    from raymnist.sweep import resources

    nodes = resources.node_resources()
    return {name: resources.request(name, study.resources, nodes) for name, study in experiment.studies.items()}


def _git_commit() -> str | None:
    """Find the commit of the project's checkout; None for an installed wheel."""
    here = Path(__file__).parent
    asked = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
