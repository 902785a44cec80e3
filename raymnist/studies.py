"""The first half of the way: an experiment's studies are searched and confirmed, one after the other."""

from __future__ import annotations

from collections import Counter

from raymnist.models import MODELS, features
from raymnist.standing import Standing
from raymnist.sweep import rules
from raymnist.sweep.gauges import Gauges
from raymnist.sweep.loggers import Logging
from raymnist.sweep.ranking import ranking
from raymnist.sweep.resources import Cluster, Request
from raymnist.sweep.search import Search
from raymnist.sweep.tables import write_best, write_tables
from raymnist.sweep.trainable import CheckpointPlace
from raymnist.terminal import Terminal

RETRIES = 2  # of trials that lost their worker or node; a run that is begun again tries them again anyway


def train(
    name: str,
    standing: Standing,
    request: Request,
    cluster: Cluster,
    logging: Logging,
    gauges: Gauges,
    terminal: Terminal,
) -> Standing:
    """Search a study, then confirm its best; writes the tables of trials, and returns how things stand then."""
    for warning in (*rules.warnings(name, standing.experiment.studies[name]), cluster.warning(name, request)):
        if warning:
            terminal.say(f"warning: {warning}")
    search = Search(
        standing.plans[name],
        standing.images,
        standing.classifier,
        standing.folder,
        _checkpoints(name, standing),
        request,
        None if cluster.types else cluster.at_once(request),
        logging,
        gauges,
    )
    is_new = False
    for part in ("trials", "confirmations"):
        outcomes = [o for o in standing.outcomes[name] if bool(o.trial.confirms) == (part == "confirmations")]
        for outcome in outcomes:
            gauges.count(name, outcome.trial.trial_id, outcome.status)
        to_train = [outcome for outcome in outcomes if not outcome.is_ended]
        if not to_train or (part == "trials" and search.plan.seconds_left(standing.folder) <= 0):
            continue
        is_new = True
        terminal.say(f"{name}: training {len(to_train)} of {len(outcomes)} {part}")
        for left in reversed(range(1 + RETRIES)):
            with terminal.epochs(name, sum(outcome.trial.train.epochs for outcome in to_train)) as progress:
                search.train(to_train, progress, name if part == "trials" else f"{name} {part}")
            standing = standing.reread(name)
            begun = {outcome.trial.trial_id for outcome in to_train}
            to_train = [o for o in standing.outcomes[name] if o.is_lost and o.trial.trial_id in begun]
            is_over = part == "trials" and search.plan.seconds_left(standing.folder) <= 0
            if not to_train or not left or is_over:
                break
            lost = ", ".join(outcome.trial.trial_id for outcome in to_train)
            terminal.say(f"{name}: going on with what lost its worker or node: {lost}")
    tell_of_time(name, standing, terminal)
    for outcome in standing.outcomes[name]:
        if outcome.history:
            logging.log(outcome)  # of earlier runs too, where a logger is new
    write_tables(standing.all_outcomes, standing.folder)
    write_best(standing.outcomes[name], standing.folder)
    keep_classifier(name, standing, terminal, is_new)
    return standing


def tell_of_time(name: str, standing: Standing, terminal: Terminal) -> None:
    """Say what a study had no time for, if anything."""
    if standing.plans[name].seconds_left(standing.folder) > 0:
        return
    counts = Counter[str](outcome.status for outcome in standing.outcomes[name] if not outcome.trial.confirms)
    told = {"out_of_time": "cut short", "skipped": "not begun", "failed": "failed"}
    left = ", ".join(f"{counts[status]} {words}" for status, words in told.items() if counts[status])
    if left:
        terminal.say(f"{name}: the time is over with {left}; more `sweep.minutes` goes on with them")


def _checkpoints(name: str, standing: Standing) -> CheckpointPlace:
    noted, best = standing.folder.manifest["checkpoints"], standing.experiment.checkpoints.best
    return (
        CheckpointPlace(noted["uri"], f"{noted['folder']}/{name}", best) if noted else CheckpointPlace(None, "", best)
    )


def keep_classifier(name: str, standing: Standing, terminal: Terminal, is_new: bool) -> None:
    """Keep a study's best classifier for scores, where it was just trained, or where there is none yet or any more."""
    ranked = ranking(standing.outcomes[name])
    best = ranked[0].best if ranked else None
    if not best or not best.best or MODELS[best.trial.model["name"]].kind != "classifier":
        return
    if is_new or not features.find(standing.images):
        said = features.keep(best.path / "model.keras", standing.images)
        terminal.say(f"{name}: {said} (val_accuracy {best.best['val_accuracy']:.4g})")
