"""What a run would do, for `--dry-run`."""

from __future__ import annotations

import math
from collections.abc import Iterator

from raymnist.evaluation.stages import scored_images
from raymnist.standing import Standing
from raymnist.sweep import rules
from raymnist.sweep.resources import Cluster, Request


def lines(standing: Standing, cluster: Cluster, requests: dict[str, Request]) -> list[str]:
    """Say what is open: the data, a line or two per study, the evaluation, and warnings."""
    experiment, images = standing.experiment, standing.images
    said = [
        f"{experiment.name}: {len(images.train)} training, {len(images.validation)} validation and {len(images.test)} "
        f"test images of {experiment.dataset.name}, {'x'.join(map(str, images.shape))}"
    ]
    for name, wanted in requests.items():
        said += _of_study(name, standing, cluster, wanted)
    evaluation = experiment.evaluation
    if evaluation:
        names = ", ".join(generator.title for generator in evaluation.generators or [])
        made = f" and {evaluation.fakes or 'as many'} fakes of each of {names}" if names else ""
        count = scored_images(evaluation, images) if names else 0
        by = "classifier" if standing.classifier else "code" if evaluation.encoder else "pixel"
        scored = f"; {count} of each are scored on {by} features" if count else ""
        held = len(images.test) if evaluation.split == "test" else images.count
        said.append(f"evaluation: {min(evaluation.images, held)} real images{made}{scored}")
    return said


def _of_study(name: str, standing: Standing, cluster: Cluster, wanted: Request) -> Iterator[str]:
    study, seconds = standing.experiment.studies[name], standing.plans[name].seconds_left(standing.folder)
    searched = [outcome for outcome in standing.outcomes[name] if not outcome.trial.confirms]
    trials = [outcome.trial for outcome in searched if not outcome.is_ended]
    if trials and seconds > 0:
        epochs = sorted({trial.train.epochs for trial in trials})
        span = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
        room = cluster.at_once(wanted)
        at_once = min(len(trials), room, study.resources.max_concurrent or room)
        limit = f", for {seconds / 60:.3g} minutes at most" if math.isfinite(seconds) else ""
        yield (
            f"{name}: {len(trials)} of {len(searched)} trials of {study.model['name']} x {span} epochs, each on "
            f"{wanted}, {at_once} at a time{limit}"
        )
    elif trials:
        yield f"{name}: the time is over; {len(trials)} trials that failed need more `sweep.minutes`"
    else:
        yield f"{name}: all {len(searched)} trials have ended"
    if study.confirm:
        planned = study.confirm.top * study.confirm.seeds
        ended = sum(outcome.is_ended for outcome in standing.outcomes[name] if outcome.trial.confirms)
        if trials and seconds > 0:
            yield f"{name}: then up to {planned} confirmations, of which there are {ended} for those that are best now"
        elif ended < planned:
            yield f"{name}: then {planned - ended} of {planned} confirmations"
    for warning in (*rules.warnings(name, study), cluster.warning(name, wanted)):
        if warning:
            yield f"warning: {warning}"
