"""The whole way, from an experiment file to the report."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raymnist import datasets, experiment_file, folder, outlook, provenance, studies
from raymnist.config import Experiment
from raymnist.dashboard.hook import has_page, page_in_dashboard
from raymnist.datasets import Images
from raymnist.errors import InputError
from raymnist.evaluation import choice
from raymnist.evaluation.embedding import check_generators
from raymnist.evaluation.stages import scored_images
from raymnist.folder import Folder
from raymnist.jobs import token
from raymnist.lock import locked
from raymnist.models import features
from raymnist.results import Results
from raymnist.standing import Standing, classifier_of, forgets_all, saved_generator
from raymnist.sweep import loggers, nodes, rules
from raymnist.sweep.gauges import Gauges
from raymnist.sweep.loggers import Logging
from raymnist.sweep.objective import Scored
from raymnist.sweep.resources import Cluster, Request
from raymnist.sweep.session import ray_session
from raymnist.terminal import Terminal, logging_to
from raymnist.training import checkpoints


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
        loggers.check(experiment.loggers)
        images = datasets.load(experiment.dataset)
        target = Folder(Path(results) / experiment.name) if results is not None else None
        classifier = classifier_of(target, images, forgets_all(fresh, experiment)) if target else features.find(images)
        scored = Scored.of(images, classifier)
        resolved = {name: rules.resolve(name, study, scored) for name, study in experiment.studies.items()}
        experiment = experiment.model_copy(update={"studies": resolved})
        experiment = experiment.model_copy(update={"evaluation": choice.resolve(experiment, classifier is not None)})
        for name, study in resolved.items():
            rules.check_images(name, study, images)
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
    dashboard: bool = False,
) -> Results:
    """Run an experiment, or go on with what is there: sweep, embed, reduce, cluster, score, draw.

    set: values by dotted key, as `--set` takes them. results: the folder above the results folder.
    fresh: forget earlier results, all of them (True) or those of the named studies. address: a Ray cluster to join.
    dashboard: give the Ray dashboard that is started here our page.
    Returns the results, whose manifest has the status `complete` or, if a trial failed, `incomplete`.
    Raises InputError, before anything is scheduled or written, when the input is wrong.
    """
    experiment, images = prepare(source, set, results, fresh)
    standing = Standing.read(experiment, images, Folder(Path(results) / experiment.name), fresh)
    if standing.is_complete():
        terminal = Terminal(sys.stdout)
        for name in experiment.studies:
            studies.keep_classifier(name, standing, terminal, is_new=False)
            studies.tell_of_time(name, standing, terminal)
        terminal.say(f"{experiment.name} is complete in {standing.folder.path}; nothing to do")
        found = Results(standing.folder.path)
        return found if found.folder.is_complete("report", _report_key(found)) else draw(found.folder)
    with locked(standing.folder.path) as notice:
        return _run(Standing.read(experiment, images, standing.folder, fresh), address, dashboard, notice)


def _run(standing: Standing, address: str | None, dashboard: bool, notice: str) -> Results:
    """Check what needs Ray, and do what is open."""
    labels = provenance.labels(standing.experiment.name, standing.experiment.studies)
    with tempfile.TemporaryDirectory(prefix="raymnist-") as scratch, contextlib.ExitStack() as session:
        start_log = Path(scratch) / "log.txt"
        with logging_to(start_log):
            with page_in_dashboard(standing.folder.path.parent) if dashboard else contextlib.nullcontext():
                url = session.enter_context(ray_session(address, scratch, labels))
            where = _dashboard(url, dashboard)
            cluster, requests = _check_with_ray(standing)
        notices = [notice, where, *standing.forget()]
        _begin(standing, requests)
        with logging_to(standing.folder.log) as terminal, session.pop_all():
            print(start_log.read_text(encoding="utf-8"))
            for line in filter(None, notices):
                terminal.say(line)
            return _do(standing, requests, cluster, terminal)


def _dashboard(url: str | None, with_page: bool) -> str:
    """Say where the Ray dashboard is, and whether it has our page; nothing where there is none, unless it is wanted."""
    if url and has_page(url, token()):
        return (
            f"Ray dashboard: {url} asks for the token of `ray get-auth-token`, then {url}/raymnist has the experiments"
        )
    found = f"the Ray dashboard at {url} has no raymnist page" if url else "there is no Ray dashboard"
    if with_page:
        return f"warning: --dashboard: {found}: this Ray has no place for it, or was started without"
    return f"Ray dashboard: {url}" if url else ""


def _begin(standing: Standing, requests: dict[str, Request]) -> None:
    """Write the manifest, by which a folder is known as one of results, and the resolved experiment."""
    experiment, target = standing.experiment, standing.folder
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
        checkpoints=_checkpoints(standing),
    )
    if standing.classifier:
        with folder.replacing(target.classifier) as draft:
            draft.write_bytes(standing.classifier.data)
    folder.write_text(target.experiment, experiment.to_yaml())


def _checkpoints(standing: Standing) -> dict[str, str] | None:
    """Choose where the trials' checkpoints lie outside the results folder, and keep to it: in a folder of their own.

    Another results folder of the same name may use the same URI.
    """
    uri = standing.experiment.checkpoints.uri
    noted: dict[str, str] | None = standing.folder.manifest.get("checkpoints")
    if noted and noted["uri"] == uri:
        return noted
    if uri is None:
        return None
    return {"uri": uri, "folder": f"{standing.experiment.name}-{uuid.uuid4().hex[:8]}"}


def _do(standing: Standing, requests: dict[str, Request], cluster: Cluster, terminal: Terminal) -> Results:
    """Do what is open, with Ray running and the input found right."""
    experiment, target = standing.experiment, standing.folder
    logging = Logging(experiment.loggers, experiment.name, target, terminal.say)
    try:
        with Gauges(experiment.name) as gauges:
            for name in experiment.studies:
                standing = studies.train(name, standing, requests[name], cluster, logging, gauges, terminal)
            stages, failures = standing.stages(), standing.failures
            if stages:
                failures += stages.run(terminal.say, gauges)
            else:
                target.remove_evaluation()
        status = "incomplete" if failures else "complete"
        target.note(status=status, failures=failures, finished=provenance.now())
    except (KeyboardInterrupt, SystemExit):  # Ray makes the latter of a signal that ends the process, as of a job
        target.note(status="interrupted", finished=provenance.now())
        terminal.say(f"interrupted; the same command goes on with what is in {target.path}", problem=True)
        raise
    except BaseException as error:
        target.note(status="failed", failures=[f"{type(error).__name__}: {error}"], finished=provenance.now())
        raise
    finally:
        logging.close()
    for failure in failures:
        terminal.say(f"failed: {failure}", problem=True)
    return draw(target)


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
        ray_session(address, scratch, provenance.labels(experiment.name, experiment.studies)),
    ):
        cluster, requests = _check_with_ray(standing)
    return outlook.lines(standing, cluster, requests)


def _check_with_ray(standing: Standing) -> tuple[Cluster, dict[str, Request]]:
    """Check what needs Ray: room for the trials, the saved generators, the place for checkpoints; raises InputError.

    Returns what the cluster can hold, and what each study's trials ask for.
    """
    experiment, cluster = standing.experiment, Cluster.connected()
    nodes.check(standing.folder.path)
    requests = {name: cluster.settle(f"studies.{name}", study.resources) for name, study in experiment.studies.items()}
    evaluation = experiment.evaluation
    if evaluation:
        cluster.settle("evaluation", evaluation.resources)
    files = [chosen for chosen in (evaluation.generators or [] if evaluation else []) if chosen.is_file]
    scored = scored_images(evaluation, standing.images) if evaluation else 0
    check_generators([saved_generator(chosen) for chosen in files], standing.images.shape, scored)
    if experiment.checkpoints.uri:
        checkpoints.check(experiment.checkpoints.uri)
    return cluster, requests
