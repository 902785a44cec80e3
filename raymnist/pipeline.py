"""The whole way, from an experiment file to the report."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raymnist import datasets, experiment_file, folder, provenance
from raymnist.config import Experiment
from raymnist.datasets import Images
from raymnist.errors import InputError
from raymnist.evaluation import choice
from raymnist.evaluation.embedding import check_generators
from raymnist.evaluation.stages import scored_images
from raymnist.folder import Folder
from raymnist.models import MODELS, features
from raymnist.results import Results
from raymnist.standing import Standing, classifier_of, forgets_all, saved_generator
from raymnist.sweep import plan, resources, search
from raymnist.sweep.objective import Scored
from raymnist.sweep.outcome import best_of, write_tables
from raymnist.sweep.resources import Request
from raymnist.sweep.session import ray_session
from raymnist.terminal import Terminal, logging_to


def prepare(
    source: str | Path,
    sets: Mapping[str, Any] | None = None,
    results: str | Path | None = None,
    fresh: bool | str | list[str] = False,
) -> tuple[Experiment, Images]:
    """Load an experiment and its images, every default filled in and every value checked. Raises InputError.

    results, fresh: as in `run`, for what is already there.
    """
    experiment = experiment_file.load(source, sets)
    try:
        images = datasets.load(experiment.dataset)
        target = Folder(Path(results) / experiment.name) if results is not None else None
        classifier = classifier_of(target, images, forgets_all(fresh, experiment)) if target else features.find(images)
        scored = Scored.of(images, classifier)
        studies = {name: plan.resolve(name, study, scored) for name, study in experiment.studies.items()}
        experiment = experiment.model_copy(update={"studies": studies})
        experiment = experiment.model_copy(update={"evaluation": choice.resolve(experiment, classifier is not None)})
        for name, study in studies.items():
            plan.check_images(name, study, images)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    dataset = experiment.dataset.model_copy(update={"name": images.name})
    return experiment.model_copy(update={"dataset": dataset}), images


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
    experiment, images = prepare(source, set, results, fresh)
    standing = Standing.read(experiment, images, Folder(Path(results) / experiment.name), fresh)
    if standing.is_complete():
        terminal = Terminal(sys.stdout)
        for name in experiment.studies:
            _keep_classifier(name, standing, terminal, is_new=False)
        terminal.say(f"{experiment.name} is complete in {standing.folder.path}; nothing to do")
        found = Results(standing.folder.path)
        return found if found.folder.is_complete("report", _report_key(found)) else draw(found.folder)
    with tempfile.TemporaryDirectory(prefix="raymnist-") as scratch, contextlib.ExitStack() as session:
        start_log = Path(scratch) / "log.txt"
        with logging_to(start_log):
            session.enter_context(ray_session(address, scratch))
            requests = _requests(experiment)
            _check_generators(standing)
        standing.forget()
        _begin(standing, requests)
        with logging_to(standing.folder.log) as terminal, session.pop_all():
            print(start_log.read_text(encoding="utf-8"))
            return _run(standing, requests, terminal)


def _begin(standing: Standing, requests: dict[str, Request]) -> None:
    """Write the manifest, by which a folder is known as one of results, and the resolved experiment."""
    experiment, target = standing.experiment, standing.folder
    try:
        target.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target.path}: expected a folder to write to; {error.strerror}") from None
    target.remove_drafts()
    target.note(
        status="running",
        started=provenance.now(),
        finished=None,
        **provenance.facts(),
        seed=experiment.seed,
        dataset_sha256=standing.images.sha256,
        classifier=standing.classifier.sha256 if standing.classifier else "",
        resources={name: asdict(request) for name, request in requests.items()},
        failures=[],
    )
    if standing.classifier:
        with folder.replacing(target.classifier) as draft:
            draft.write_bytes(standing.classifier.data)
    folder.write_text(target.experiment, experiment.to_yaml())


def _run(standing: Standing, requests: dict[str, Request], terminal: Terminal) -> Results:
    """Do what is open, with Ray running and the input found right."""
    experiment, target = standing.experiment, standing.folder
    try:
        for name in experiment.studies:
            standing = _train(name, standing, requests[name], terminal)
        stages = standing.stages()
        if stages:
            stages.run(terminal.say)
        else:
            target.remove_evaluation()
        status = "incomplete" if standing.failures else "complete"
        target.note(status=status, failures=standing.failures, finished=provenance.now())
    except KeyboardInterrupt:
        target.note(status="interrupted", finished=provenance.now())
        terminal.say(f"interrupted; the same command goes on with what is in {target.path}", problem=True)
        raise
    except BaseException as error:
        target.note(status="failed", failures=[f"{type(error).__name__}: {error}"], finished=provenance.now())
        raise
    for failure in standing.failures:
        terminal.say(f"failed: {failure}", problem=True)
    return draw(target)


def _train(name: str, standing: Standing, request: Request, terminal: Terminal) -> Standing:
    """Train a study's open trials, and write the tables of trials; returns how things stand then."""
    study, outcomes, target = standing.experiment.studies[name], standing.outcomes[name], standing.folder
    for warning in plan.warnings(name, study):
        terminal.say(f"warning: {warning}")
    to_train = [outcome for outcome in outcomes if not outcome.is_ended]
    if to_train:
        terminal.say(f"{name}: training {len(to_train)} of {len(outcomes)} trials")
        start = time.perf_counter()
        with terminal.epochs(name, sum(outcome.trial.train.epochs for outcome in to_train)) as progress:
            search.train_open(study, outcomes, standing.images, standing.classifier, target, request, progress)
        target.add_seconds(name, time.perf_counter() - start)
        standing = standing.reread(name)
    write_tables(standing.all_outcomes, target)
    _keep_classifier(name, standing, terminal, is_new=bool(to_train))
    return standing


def _keep_classifier(name: str, standing: Standing, terminal: Terminal, is_new: bool) -> None:
    """Keep a study's best classifier for scores, where it was just trained, or where there is none yet or any more."""
    best = best_of(standing.outcomes[name])
    if not best or not best.best or MODELS[best.trial.model["name"]].kind != "classifier":
        return
    if is_new or not features.find(standing.images):
        said = features.keep(best.path / "model.keras", standing.images)
        terminal.say(f"{name}: {said} (val_accuracy {best.best['val_accuracy']:.4g})")


def draw(target: Folder) -> Results:
    """Draw the figures and the report from the result files."""
    from raymnist.report import page

    results = Results(target.path)
    start = time.perf_counter()
    page.write(results)
    target.complete("report", _report_key(results), time.perf_counter() - start)
    return results


def _report_key(results: Results) -> str:
    files = [path for path in (results.folder.trials, results.folder.table) if path.is_file()]
    code = folder.digest_of_code("report", "results.py")
    return folder.key_of([path.read_text(encoding="utf-8") for path in files], results.manifest["status"], code)


def dry_run(
    source: str | Path,
    set: Mapping[str, Any] | None = None,
    *,
    results: str | Path = "results",
    fresh: bool | str | list[str] = False,
    address: str | None = None,
) -> list[str]:
    """Check everything that `run` checks, and say what it would do, a line each; writes nothing.

    Raises InputError when the input is wrong.
    """
    experiment, images = prepare(source, set, results, fresh)
    standing = Standing.read(experiment, images, Folder(Path(results) / experiment.name), fresh)
    with (
        tempfile.TemporaryDirectory(prefix="raymnist-") as scratch,
        logging_to(Path(scratch) / "log.txt"),
        ray_session(address, scratch),
    ):
        nodes = resources.node_resources()
        requests = _requests(experiment)
        _check_generators(standing)
    lines = [
        f"{experiment.name}: {len(images.train)} training, {len(images.validation)} validation and {len(images.test)} "
        f"test images of {experiment.dataset.name}, {'x'.join(map(str, images.shape))}"
    ]
    for name, study in experiment.studies.items():
        wanted = requests[name]
        trials = [outcome.trial for outcome in standing.outcomes[name] if not outcome.is_ended]
        if not trials:
            lines.append(f"{name}: all {len(standing.outcomes[name])} trials have ended")
            continue
        epochs = sorted({trial.train.epochs for trial in trials})
        span = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
        lines.append(
            f"{name}: {len(trials)} of {len(standing.outcomes[name])} trials of {study.model['name']} x {span} epochs, "
            f"each on {wanted.cpus:g} CPU and {wanted.gpus:g} GPU, "
            f"{min(len(trials), resources.at_once(wanted, nodes))} at a time"
        )
        lines += [f"warning: {line}" for line in plan.warnings(name, study)]
    evaluation = experiment.evaluation
    if evaluation:
        names = ", ".join(generator.title for generator in evaluation.generators or [])
        made = f" and as many fakes of each of {names}" if names else ""
        count = scored_images(evaluation, images) if names else 0
        by = "classifier" if standing.classifier else "code" if evaluation.encoder else "pixel"
        scored = f"; {count} of each are scored on {by} features" if count else ""
        lines.append(f"evaluation: {min(evaluation.images, len(images.test))} real images{made}{scored}")
    return lines


def _requests(experiment: Experiment) -> dict[str, Request]:
    nodes = resources.node_resources()
    return {name: resources.request(name, study.resources, nodes) for name, study in experiment.studies.items()}


def _check_generators(standing: Standing) -> None:
    """Open the saved generators of the evaluation; raises InputError."""
    evaluation = standing.experiment.evaluation
    files = [chosen for chosen in (evaluation.generators or [] if evaluation else []) if chosen.is_file]
    check_generators([saved_generator(chosen) for chosen in files], standing.images.shape)
