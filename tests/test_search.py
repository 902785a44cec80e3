"""Searchers, schedulers, budgets and confirmations: what is trained, and which configuration is best."""

import itertools
import re
import shutil
import statistics

import numpy as np
import pytest
from conftest import a_trial
from sweeps import plan_of, study_with, tune

from raymnist import folder
from raymnist.errors import InputError
from raymnist.folder import Folder
from raymnist.sweep import rules, tpe
from raymnist.sweep.confirm import confirmations
from raymnist.sweep.outcome import Outcome, write_config
from raymnist.sweep.plan import STARTUP_TRIALS
from raymnist.sweep.ranking import pareto_front, ranking
from raymnist.sweep.search import scheduler_for
from raymnist.sweep.tables import row, write_best
from raymnist.training.loop import Training

SMALL = {"name": "dense_gan", "latent_dim": 4, "generator_units": [8], "discriminator_units": [8]}


def a_study(tmp_path, *, model=None, train=None, sweep=None, **study):
    """A study of dense GANs that train in no time."""
    sweep = {"trials": 8, "metric": "frechet_pixels", **(sweep or {})}
    rates = {"generator_learning_rate": {"loguniform": [1e-4, 1e-1]}}
    train = {"epochs": 1, "batch_size": 32, **rates, **(train or {})}
    whole = {"model": {**SMALL, **(model or {})}, "train": train, "sweep": sweep, "resources": {"gpus": 0}, **study}
    return study_with(tmp_path, {"studies.gan": whole})


def ended(plan, number, values, reached, status="finished"):
    """An outcome of a trial with these values that reached this objective, or these objectives."""
    trial = plan.trial(number, values)
    reached = reached if isinstance(reached, tuple) else (reached,)
    history = [{"epoch": 1, **dict(zip(trial.metrics, reached, strict=True)), "seconds": 1.0}]
    return Outcome(trial, "key", None, status, history)


def a_parabola(value):
    """Best where the rate is 1e-2."""
    return (np.log10(value) + 2) ** 2


def searched_by_optuna(plan, count):
    """Search the parabola as if each trial had reached its value."""
    outcomes = []
    for number in range(count):
        known = [o for o in outcomes if o.key]
        rate = plan.trial(number).searched.get("generator_learning_rate")
        values = {"train.generator_learning_rate": rate} if rate else tpe.suggest(plan, number, known)
        outcomes.append(ended(plan, number, values, a_parabola(values["train.generator_learning_rate"])))
    return [o.trial.searched["generator_learning_rate"] for o in outcomes]


def test_optuna_finds_better_rates_than_random_draws(tmp_path):
    """Over six seeds, the median of what each finds in 20 trials of a parabola."""
    better = 0
    for seed in range(6):
        study = a_study(tmp_path, sweep={"searcher": "optuna", "trials": 20})
        plan = plan_of(study.model_copy(update={"seed": seed}))
        random = plan_of(a_study(tmp_path, sweep={"trials": 20}).model_copy(update={"seed": seed}))
        drawn = [trial.searched["generator_learning_rate"] for trial in random.trials()]
        suggested = searched_by_optuna(plan, 20)
        assert suggested[:STARTUP_TRIALS] == drawn[:STARTUP_TRIALS]
        late = slice(STARTUP_TRIALS, None)
        better += statistics.median(map(a_parabola, suggested[late])) < statistics.median(map(a_parabola, drawn[late]))
    assert better == 6


def test_a_suggestion_depends_on_what_the_others_reached_and_on_nothing_else(tmp_path):
    plan = plan_of(a_study(tmp_path, sweep={"searcher": "optuna"}))
    path = "train.generator_learning_rate"
    known = [ended(plan, n, {path: rate}, a_parabola(rate)) for n, rate in enumerate([1e-4, 1e-3, 1e-2, 3e-2, 1e-1])]
    assert tpe.suggest(plan, 5, known) == tpe.suggest(plan, 5, known)
    assert tpe.suggest(plan, 6, known) != tpe.suggest(plan, 5, known)
    worse = [ended(plan, n, {path: o.trial.searched["generator_learning_rate"]}, -n) for n, o in enumerate(known)]
    assert tpe.suggest(plan, 5, worse) != tpe.suggest(plan, 5, known)


def test_a_suggestion_takes_account_of_trials_that_train_or_were_stopped_and_not_of_failed_ones(tmp_path):
    plan = plan_of(a_study(tmp_path, sweep={"searcher": "optuna"}))
    path = "train.generator_learning_rate"
    known = [ended(plan, n, {path: rate}, a_parabola(rate)) for n, rate in enumerate([1e-4, 1e-3, 1e-2, 3e-2, 1e-1])]
    chosen = tpe.suggest(plan, 5, known)
    assert tpe.suggest(plan, 5, [*known, Outcome(plan.trial(6, chosen), "key", None)]) != chosen  # looks elsewhere
    assert tpe.suggest(plan, 5, [*known, ended(plan, 6, chosen, 9.0, "stopped")]) != chosen
    assert tpe.suggest(plan, 5, [*known, ended(plan, 6, chosen, 9.0, "failed")]) == chosen


def test_optuna_searches_a_loguniform_domain_by_the_logarithm(tmp_path):
    plan, path = plan_of(a_study(tmp_path, sweep={"searcher": "optuna"})), "train.generator_learning_rate"
    drawn = [tpe.suggest(plan, number, [])[path] for number in range(60)]
    assert 0.3 < np.mean(np.log10(drawn) < -2.5) < 0.7  # half of the logarithm, 3 % of the values


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("model.generator_units", {"choice": [[8], [8, 4], [16]]}),
        ("train.batch_size", {"randint": [16, 20]}),
        ("train.beta_1", {"quniform": [0.1, 0.9, 0.2]}),
        ("train.learning_rate", {"uniform": [1e-3, 2e-3]}),
    ],
)
def test_optuna_suggests_values_of_every_domain_and_is_told_them_again(key, domain, tmp_path):
    part, name = key.split(".")
    experiment = a_study(tmp_path, **{part: {name: domain}}, sweep={"searcher": "optuna", "trials": 12})
    plan = plan_of(experiment)
    outcomes, drawn = [], []
    for number in range(12):
        values = tpe.suggest(plan, number, outcomes)
        outcomes.append(ended(plan, number, values, float(number)))
        drawn.append(values[key])
    ((kind, arguments),) = domain.items()
    allowed = {
        "choice": lambda v: v in arguments,
        "randint": lambda v: isinstance(v, int) and 16 <= v < 20,
        "quniform": lambda v: any(v == pytest.approx(x, abs=1e-9) for x in (0.2, 0.4, 0.6, 0.8)),
        "uniform": lambda v: 1e-3 <= v <= 2e-3,
    }[kind]
    assert all(map(allowed, drawn)), drawn
    assert len({str(v) for v in drawn}) > 1


def test_an_optuna_search_that_was_interrupted_ends_as_one_that_was_not(ray_session, digits, tmp_path):
    """Ended trials are not trained again, one that had begun keeps its settings, and the rest are suggested."""

    study = a_study(tmp_path, sweep={"searcher": "optuna", "trials": STARTUP_TRIALS + 2})
    whole, _ = tune(study, digits, Folder(tmp_path / "whole"))
    shutil.copytree(tmp_path / "whole", tmp_path / "parted")
    parted = Folder(tmp_path / "parted")
    for left in parted.trial("gan", "gan-05").iterdir():
        if left.name != "config.json":
            folder.remove(left) if left.is_dir() else left.unlink()
    folder.remove(parted.trial("gan", "gan-06"))
    again, told = tune(study, digits, parted)
    assert [o.status for o in again] == ["finished"] * 7
    assert [line.split()[0] for _, line in told.lines] == ["gan-05", "gan-06"]
    assert [o.history for o in again[:5]] == [o.history for o in whole[:5]]
    assert [o.trial.searched for o in again] == [o.trial.searched for o in whole]
    assert len({o.trial.searched["generator_learning_rate"] for o in again}) == 7
    assert [o.best["frechet_pixels"] for o in again] == pytest.approx([o.best["frechet_pixels"] for o in whole])


def test_a_trial_that_had_begun_keeps_the_values_that_optuna_suggested(tmp_path):
    plan, results = plan_of(a_study(tmp_path, sweep={"searcher": "optuna"})), Folder(tmp_path / "r")
    begun = plan.trial(6, {"train.generator_learning_rate": 0.0123})
    write_config(Outcome(begun, "key", results.trial("gan", "gan-06")))
    outcomes = plan.outcomes(results)
    assert outcomes[6].trial == begun
    assert [bool(outcome.key) for outcome in outcomes] == [True] * 5 + [False, True, False]


def test_from_eight_trials_to_twelve_only_four_more_are_trained_and_what_had_failed(ray_session, digits, tmp_path):
    results = Folder(tmp_path / "r")
    eight, _ = tune(a_study(tmp_path, sweep={"trials": 8}), digits, results)
    stamps = {
        path: path.stat().st_mtime_ns for one in eight for path in one.path.rglob("*") if "gan-03" not in str(path)
    }
    folder.write_json(eight[3].path / "status.json", {"status": "failed", "error": "the machine went away"})
    twelve, told = tune(a_study(tmp_path, sweep={"trials": 12}), digits, results)
    assert [o.status for o in twelve] == ["finished"] * 12
    assert [o.history for o in twelve[:8]] == [o.history for o in eight]  # the failed one had a checkpoint of its end
    assert sorted(line.split()[0] for _, line in told.lines) == [f"gan-{n:02d}" for n in (3, 8, 9, 10, 11)]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_median_stopping_ends_the_trials_below_the_median(ray_session, digits, tmp_path):
    """Rates so small that nothing is learned, among rates that learn."""
    rates = {"generator_learning_rate": {"grid": [1e-2, 2e-2, 1e-9, 2e-9, 3e-9]}}
    study = a_study(
        tmp_path,
        train={"epochs": 6, **rates},
        sweep={"trials": 5, "searcher": "grid", "scheduler": {"name": "median_stopping", "grace_epochs": 2}},
        resources={"gpus": 0, "max_concurrent": 1},
    )
    outcomes, told = tune(study, digits, Folder(tmp_path / "r"))
    assert [o.status for o in outcomes] == ["finished"] * 2 + ["stopped"] * 3
    assert [len(o.history) for o in outcomes][:2] == [6, 6]
    assert all(2 <= len(o.history) < 6 for o in outcomes[2:])
    assert told.epochs == 5 * 6


def test_a_training_without_patience_for_more_ends_at_a_look(digits):
    trial = a_trial("conv_autoencoder", every=2, epochs=30, patience=4, learning_rate=0.9)  # too much to learn by
    training = Training(trial, digits)
    while not training.is_done:
        training.epoch()
    looks = [row["epoch"] for row in training.history if "val_loss" in row]
    assert looks == list(range(2, training.epochs_done + 1, 2))
    assert training.epochs_done < 30
    assert training.epochs_done - training.best["epoch"] == 4
    patient = Training(a_trial("conv_autoencoder", epochs=3, patience=2), digits)
    while not patient.is_done:
        patient.epoch()
    assert patient.epochs_done == 3


def test_a_trial_that_ended_without_patience_has_finished(ray_session, digits, tmp_path):
    rates = {"generator_learning_rate": {"grid": [1e-9]}, "patience": 1, "epochs": 50}
    outcomes, told = tune(
        a_study(tmp_path, train=rates, sweep={"trials": 1, "searcher": "grid"}), digits, Folder(tmp_path / "r")
    )
    assert outcomes[0].status == "finished"
    assert len(outcomes[0].history) < 50
    assert (outcomes[0].path / "samples" / f"epoch_{len(outcomes[0].history):04d}.png").is_file()
    assert told.epochs == 50


def confirmed(plan, reached, runs):
    """A search that reached these objectives, and confirmations that reached those, by the trial's number."""
    path = "train.generator_learning_rate"
    searched = [ended(plan, n, {path: 1e-3}, value) for n, value in enumerate(reached)]
    outcomes = list(searched)
    for trial in confirmations(plan, searched):
        number, run = int(trial.confirms[-2:]), int(trial.trial_id.rpartition("-s")[2])
        history = [{"epoch": 1, "frechet_pixels": runs[number][run - 1], "seconds": 1.0}]
        outcomes.append(Outcome(trial, "key", None, "finished", history))
    return outcomes


def test_the_best_are_confirmed_with_fresh_seeds_and_ranked_by_their_mean(tmp_path):
    """The luckiest trial of the search is not the best configuration."""
    plan = plan_of(a_study(tmp_path, train={"epochs": 3, "patience": 2}, confirm={"top": 2, "seeds": 3}))
    reached = [5.0, 1.0, 9.0, 2.0, 8.0, 7.0, 6.0, 4.0]
    outcomes = confirmed(plan, reached, {1: [4.0, 6.0, 5.0], 3: [2.5, 1.5, 2.0]})
    trials = [o.trial for o in outcomes[8:]]
    assert [t.trial_id for t in trials] == [
        "gan-01-s1",
        "gan-01-s2",
        "gan-01-s3",
        "gan-03-s1",
        "gan-03-s2",
        "gan-03-s3",
    ]
    assert len({o.trial.seed for o in outcomes}) == 14
    assert {t.train.patience for t in trials} == {None}
    assert [t.searched for t in trials] == [outcomes[1].trial.searched] * 3 + [outcomes[3].trial.searched] * 3
    first, second = ranking(outcomes)
    assert (first.trial.trial.trial_id, second.trial.trial.trial_id) == ("gan-03", "gan-01")
    assert (first.mean, second.mean) == (2.0, 5.0)
    assert (first.sd, second.sd) == (pytest.approx(np.std([2.5, 1.5, 2.0], ddof=1)), pytest.approx(1.0))
    assert first.best.trial.trial_id == "gan-03-s2"
    write_best(outcomes, Folder(tmp_path))
    best = folder.read_json(tmp_path / "studies" / "gan" / "best.json")
    assert (best["trial_id"], best["value"], best["runs"]) == (
        "gan-03-s2",
        2.0,
        ["gan-03-s1", "gan-03-s2", "gan-03-s3"],
    )
    assert [(r["trial_id"], r["mean"], r["n"]) for r in best["ranking"]] == [("gan-03", 2.0, 3), ("gan-01", 5.0, 3)]


def test_nothing_is_confirmed_before_the_search_is_over_and_no_failure_holds_it_up(tmp_path):
    plan = plan_of(a_study(tmp_path, sweep={"trials": 3}, confirm={"top": 3, "seeds": 2}))
    path = "train.generator_learning_rate"
    done = [ended(plan, n, {path: 1e-3}, float(n)) for n in range(2)]
    assert confirmations(plan, [*done, Outcome(plan.trial(2), "key", None)]) == []
    failed = Outcome(plan.trial(2), "key", None, "failed")
    assert [t.confirms for t in confirmations(plan, [*done, failed])] == ["gan-00", "gan-00", "gan-01", "gan-01"]
    assert ranking([*done, failed])[0].trial.trial.trial_id == "gan-00"


def test_the_scheduler_of_the_search_stops_no_confirmation(tmp_path):
    sweep = {"trials": 2, "scheduler": {"name": "asha", "grace_epochs": 1}}
    plan = plan_of(a_study(tmp_path, sweep=sweep, train={"epochs": 4}, confirm={"top": 1, "seeds": 2}))
    searched = [ended(plan, n, {"train.generator_learning_rate": 1e-3}, float(n)) for n in range(2)]
    again = [Outcome(trial, "key", None) for trial in confirmations(plan, searched)]
    assert type(scheduler_for(plan, searched)).__name__ == "AsyncHyperBandScheduler"
    assert type(scheduler_for(plan, again)).__name__ == "FIFOScheduler"


def test_a_pareto_front_has_the_trials_that_no_other_beats(tmp_path):
    plan = plan_of(a_study(tmp_path, sweep={"trials": 7, "metric": ["fid", "precision"], "images": 50}))
    path = "train.generator_learning_rate"
    reached = [(3.0, 0.5), (2.0, 0.4), (4.0, 0.5), (2.0, 0.3), (9.0, 0.9), (9.5, 0.9), (5.0, 0.8)]
    outcomes = [ended(plan, n, {path: 1e-3}, value) for n, value in enumerate(reached)]
    front = {o.trial.trial_id for o in pareto_front(outcomes)}
    beaten = {
        i
        for i, j in itertools.permutations(range(7), 2)
        if reached[j][0] <= reached[i][0] and reached[j][1] >= reached[i][1] and reached[j] != reached[i]
    }
    assert front == {f"gan-{n:02d}" for n in set(range(7)) - beaten} == {"gan-00", "gan-01", "gan-04", "gan-06"}
    assert ranking(outcomes)[0].trial.trial.trial_id == "gan-01"  # the first objective decides, then the trial's number
    write_best(outcomes, Folder(tmp_path))
    best = folder.read_json(tmp_path / "studies" / "gan" / "best.json")
    assert best["pareto_front"] == ["gan-01", "gan-00", "gan-06", "gan-04"]


def test_optuna_searches_for_a_front_of_several_objectives(ray_session, digits, tmp_path):
    sweep = {"trials": 6, "metric": ["fid", "recall"], "images": 50, "searcher": "optuna"}
    outcomes, _ = tune(a_study(tmp_path, sweep=sweep), digits, Folder(tmp_path / "r"))
    assert [o.status for o in outcomes] == ["finished"] * 6
    rows = [row(o) for o in outcomes]
    assert all(np.isfinite([one["best_fid"], one["best_recall"]]).all() for one in rows)
    assert pareto_front(outcomes)[0].best["fid"] == min(one["best_fid"] for one in rows)


def test_optunas_suggestions_for_two_objectives_approach_the_front(tmp_path):
    """Of rate x the objectives are (x + 2)^2 and (x + 3)^2 in its logarithm: the front lies between -3 and -2."""
    plan = plan_of(
        a_study(tmp_path, sweep={"trials": 30, "metric": ["fid", "kid"], "images": 50, "searcher": "optuna"})
    )
    path, outcomes = "train.generator_learning_rate", []
    for number in range(30):
        values = tpe.suggest(plan, number, outcomes)
        x = float(np.log10(values[path]))
        outcomes.append(ended(plan, number, values, ((x + 2) ** 2, (x + 3) ** 2)))
    late = [np.log10(o.trial.searched["generator_learning_rate"]) for o in outcomes[15:]]
    assert np.mean([-3 <= x <= -2 for x in late]) > 0.6  # a third of the domain


ASHA, MEDIAN, PBT = ({"scheduler": name} for name in ("asha", "median_stopping", "pbt"))


@pytest.mark.parametrize(
    ("study", "line"),
    [
        (
            {"model": {"latent_dim": {"grid": [2, 4]}}, "sweep": {"searcher": "optuna"}},
            "a grid domain needs `searcher:",
        ),
        ({"sweep": {"searcher": "grid"}}, "`searcher: grid` needs grid or choice, received {loguniform"),
        ({"sweep": {"searcher": "optuna", **PBT}}, r"sweep\.searcher: pbt draws its settings anew"),
        (
            {"sweep": {"metric": ["fid", "kid"], **ASHA}, "train": {"epochs": 9}},
            "asha compares trials by one objective",
        ),
        ({"sweep": {"metric": ["fid", "fid"]}}, r"sweep\.metric: expected objectives that differ, received fid, fid"),
        ({"sweep": {"metric": ["fid", "ari"]}}, r"sweep\.metric: ari is no objective of this model"),
        ({"sweep": {"metric": []}}, r"sweep\.metric: expected .* received \[\]"),
        ({"sweep": PBT, "train": {"epochs": 8, "patience": 2}}, r"train\.patience: .* would leave its population"),
        ({"sweep": PBT, "train": {"epochs": 8}, "confirm": {}}, r"confirm: what pbt arrives at is no configuration"),
        (
            {"sweep": PBT, "train": {"epochs": 8}, "model": {"latent_dim": {"choice": [2, 4]}}},
            r"model\.latent_dim: pbt",
        ),
        (
            {"sweep": PBT, "train": {"epochs": 8}, "resources": {"max_concurrent": 1}},
            r"resources\.max_concurrent: pbt needs its whole population",
        ),
        ({"resources": {"custom": {"GPU": 2}}}, r"custom\.GPU: expected a resource of your own; Ray's have keys"),
        (
            {"resources": {"custom": {"accelerator_type:A100": 1}}},
            r"custom\.accelerator_type:A100: expected a resource",
        ),
        ({"resources": {"gpus": 2}}, r"resources: gpus: expected auto or 0 to 1, received 2; .* several GPUs train"),
        ({"confirm": {"top": 9}}, r"confirm\.top: expected at most 8, the trials, received 9"),
        ({"confirm": {"seeds": 1}}, r"confirm\.seeds: expected greater than or equal to 2, received 1"),
        ({"sweep": {"minutes": 0}}, r"sweep\.minutes: expected greater than 0, received 0"),
    ],
)
def test_what_cannot_work_together_is_refused_with_the_reason(study, line, tmp_path):
    with pytest.raises(InputError, match=line):
        a_study(tmp_path, **study)


@pytest.mark.parametrize(
    ("study", "line"),
    [
        ({"sweep": ASHA}, "asha may stop a trial from epoch 1 on .* stops none of 1 epochs"),
        ({"sweep": {"every": 5, **MEDIAN}, "train": {"epochs": 5}}, "from epoch 5 on .* stops none of 5 epochs"),
        ({"sweep": {"trials": 2, **MEDIAN}, "train": {"epochs": 8}}, "compares at least 3 trials, .* stops none of 2"),
        ({"sweep": {"trials": 1, **ASHA}, "train": {"epochs": 8}}, "compares at least 2 trials, .* stops none of 1"),
        ({"train": {"epochs": 3, "patience": 3}}, "train.patience: 3 epochs are never waited for in a training of 3"),
        ({"train": {"epochs": {"choice": [9, 3]}, "patience": {"choice": [1, 4]}}}, "patience: 4 epochs .* of 3"),
    ],
)
def test_what_never_acts_is_warned_of(study, line, tmp_path):
    (warning,) = rules.warnings("gan", a_study(tmp_path, **study).studies["gan"])
    assert warning.startswith("studies.gan.")
    assert re.search(line, warning)
    assert rules.warnings("gan", a_study(tmp_path).studies["gan"]) == []


def test_optuna_is_refused_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"optuna is not installed; expected `pip install 'raymnist\[optuna\]'`"):
        a_study(tmp_path, sweep={"searcher": "optuna"})


def test_a_search_ends_when_its_time_is_over_and_goes_on_where_there_is_more(ray_session, digits, tmp_path):
    """The first look comes after the three seconds, as a worker has to start."""
    results, train = Folder(tmp_path / "r"), {"epochs": 3}
    short = a_study(
        tmp_path,
        train=train,
        sweep={"trials": 2, "minutes": 0.05},
        confirm={"seeds": 2},
        resources={"gpus": 0, "max_concurrent": 1},
    )
    outcomes, told = tune(short, digits, results)
    assert [(o.status, len(o.history)) for o in outcomes] == [("out_of_time", 1), ("skipped", 0)]
    assert told.lines == [(False, "gan-00 ended after epoch 1, as the time is over")]
    assert 3 <= results.manifest["seconds"]["gan"] < 60
    plan = plan_of(short, images=digits.sha256)
    assert [t.confirms for t in confirmations(plan, outcomes)] == ["gan-00"] * 2  # the search is over
    again, told = tune(short, digits, results)
    assert (again, told.lines) == (outcomes, [])
    (run,), _ = tune(short, digits, results, trials=confirmations(plan, outcomes)[:1])
    assert (run.status, len(run.history)) == ("finished", 3)  # the time is for the search alone
    longer = a_study(tmp_path, train=train, sweep={"trials": 2, "minutes": 10})
    after, _ = tune(longer, digits, results)
    assert [(o.status, [row["epoch"] for row in o.history]) for o in after] == [("finished", [1, 2, 3])] * 2
    assert after[0].history[0] == outcomes[0].history[0]
    assert results.manifest["seconds"]["gan"] > outcomes[0].seconds + after[1].seconds
