"""A study is a plan; Ray Tune trains what is open of it."""

import numpy as np
import pytest
from conftest import a_trial
from sweeps import CLASSIFIER, SCORED, plan_of, study_with, trials_of, tune

from raymnist import experiment_file, folder
from raymnist.errors import InputError
from raymnist.folder import Folder
from raymnist.sweep import nodes, plan, rules
from raymnist.sweep.outcome import Outcome, read, write_config
from raymnist.sweep.plan import Plan
from raymnist.sweep.ranking import ranking
from raymnist.sweep.resources import Request
from raymnist.sweep.tables import write_best, write_tables
from raymnist.sweep.trainable import StudyTrainable
from raymnist.training.loop import Training
from raymnist.training.trial_folder import TrialFolder


def test_eight_trials_are_the_beginning_of_twelve(tmp_path):
    eight, twelve = (trials_of(study_with(tmp_path, {"studies.gan.sweep.trials": n})) for n in (8, 12))
    assert twelve[:8] == eight
    assert [trial.trial_id for trial in twelve[:3]] == ["gan-00", "gan-01", "gan-02"]


def test_a_plan_depends_on_the_seed_and_nothing_else(tmp_path):
    experiment = study_with(tmp_path)
    assert trials_of(experiment) == trials_of(study_with(tmp_path))
    other = trials_of(study_with(tmp_path, seed=1))
    assert [t.train.learning_rate for t in trials_of(experiment)] != [t.train.learning_rate for t in other]
    assert len({trial.seed for trial in trials_of(experiment)}) == 8
    renamed = plan_of(experiment, name="other").trials()
    assert renamed[0].searched != trials_of(experiment)[0].searched


def test_a_grid_is_planned_in_full_and_in_order(tmp_path):
    sets = {
        "studies.gan.model.latent_dim": {"grid": [4, 8]},
        "studies.gan.train.learning_rate": {"grid": [1e-3, 1e-4]},
        "studies.gan.sweep": {"searcher": "grid"},
    }
    searched = [tuple(trial.searched.values()) for trial in trials_of(study_with(tmp_path, sets))]
    assert searched == [(4, 1e-3), (4, 1e-4), (8, 1e-3), (8, 1e-4)]


def test_a_key_changes_with_what_is_trained_and_with_nothing_else(tmp_path):
    first = trials_of(study_with(tmp_path))[0]
    key = plan.trial_key(first, "data")
    assert plan.trial_key(first.model_copy(update={"trial_id": "x", "study": "y"}), "data") == key
    assert plan.trial_key(first, "other data") != key
    assert plan.trial_key(first.model_copy(update={"seed": 1}), "data") != key
    longer = first.model_copy(update={"train": first.train.model_copy(update={"epochs": 9})})
    assert plan.trial_key(longer, "data") != key
    same = trials_of(study_with(tmp_path, {"studies.gan.model.ema": 0.0, "studies.gan.model.dropout": 0}))[0]
    assert plan.trial_key(same, "data") == key


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        ({"studies.gan.train.epochs": 20}, "gan changed: train.epochs 3 -> 20; use --fresh gan"),
        ({"studies.gan.sweep.trials": 4}, "gan changed: sweep.trials 8 -> 4; use --fresh gan"),
        ({"studies.gan.sweep.scheduler": "asha"}, "gan changed: sweep.scheduler.name fifo -> asha; use --fresh gan"),
        (
            {"studies.gan.model.latent_dim": {"choice": [4, 8]}},
            "gan changed: model.latent_dim {'choice': [4, 8, 16]} -> {'choice': [4, 8]}; use --fresh gan",
        ),
        ({"seed": 5}, "seed changed: 0 -> 5; use --fresh"),
        (
            {"dataset.limit": 200},
            "dataset changed: {'name': 'digits', 'limit': 100} -> {'name': 'digits', 'limit': 200}",
        ),
        ({"studies.gan.sweep.trials": 12}, None),
        ({"studies.gan.resources.cpus": 2}, None),
        ({"evaluation.images": 20}, None),
    ],
)
def test_changes_are_told_in_one_line(sets, line, tmp_path):
    before = study_with(tmp_path)
    after = study_with(tmp_path, sets, **({"seed": sets["seed"]} if "seed" in sets else {}))
    told = plan.changes(before, after, ["gan"])
    assert told is None if line is None else told.startswith(line)


def test_choosing_a_gan_by_its_loss_is_warned_of(tmp_path):
    experiment = study_with(tmp_path, {"studies.gan.sweep.metric": "generator_loss"})
    (warning,) = rules.warnings("gan", experiment.studies["gan"])
    assert "generator_loss does not rank the trials of a GAN" in warning
    assert rules.warnings("gan", study_with(tmp_path).studies["gan"]) == []


def test_asha_stops_worse_trials_early_and_every_trial_is_accounted_for(ray_session, digits, tmp_path):
    sets = {
        "studies.gan.sweep": {"trials": 6, "images": 60, "scheduler": {"name": "asha", "grace_epochs": 1}},
        "studies.gan.train.epochs": 4,
    }
    outcomes, told = tune(study_with(tmp_path, sets), digits, Folder(tmp_path / "r"), Request(1, 0))  # two at once
    statuses = [o.status for o in outcomes]
    assert set(statuses) == {"finished", "stopped"}
    assert all((len(o.history) == 4) == (o.status == "finished") for o in outcomes)
    assert [[row["epoch"] for row in o.history] for o in outcomes] == [
        [*range(1, len(o.history) + 1)] for o in outcomes
    ]
    assert told.epochs == 6 * 4
    chosen = ranking(outcomes)[0].best
    assert {o.trial.metric for o in outcomes} == {"fid"}
    assert chosen.best["fid"] == min(row["fid"] for o in outcomes for row in o.history)


def population(tmp_path, rate, epochs, **sweep):
    """A study of tiny GANs whose generator's rate is perturbed."""
    study = {
        "model": {"name": "dense_gan", "latent_dim": 4, "generator_units": [8], "discriminator_units": [8]},
        "train": {"epochs": epochs, "batch_size": 64, "learning_rate": 1e-4, "generator_learning_rate": rate},
        "sweep": {"trials": 4, "images": 60, "scheduler": {"name": "pbt", "perturb_every": 1}, **sweep},
        "resources": {"gpus": 0},
    }
    return study_with(tmp_path, {"studies.gan": study})


def test_population_based_training_perturbs_the_rates_that_the_optimizers_then_have(ray_session, digits, tmp_path):
    """Trials that fall behind go on from a better one's weights, at rates of their own within the domain.

    They take turns in one process, an epoch each, so that their order is always the same.
    """
    experiment = population(tmp_path, {"loguniform": [1e-4, 1e-1]}, 4, trials=3)
    results = Folder(tmp_path / "r")
    outcomes, told = tune(experiment, digits, results)
    assert [o.status for o in outcomes] == ["finished"] * 3
    assert [[row["epoch"] for row in o.history] for o in outcomes] == [[1, 2, 3, 4]] * 3
    assert told.epochs == 3 * 4
    exchanges = [(o, i) for o in outcomes for i, row in enumerate(o.history) if "taken_from" in row]
    assert exchanges
    for heir, i in exchanges:
        assert heir.history[i]["taken_from"] in {o.trial.trial_id for o in outcomes} - {heir.trial.trial_id}
        assert heir.history[i]["generator_learning_rate"] != heir.history[i - 1]["generator_learning_rate"]
    for o in outcomes:
        rates = [row["generator_learning_rate"] for row in o.history]
        assert all(1e-4 <= rate <= 1e-1 for rate in rates)
        changed = {i for i in range(1, 4) if rates[i] != rates[i - 1]}
        assert changed == {i for heir, i in exchanges if heir is o}
        with np.load(o.path / "checkpoints" / "last.npz") as stored:
            effective = [float(stored[name]) for name in stored.files if name.endswith("learning_rate")]
        assert effective == pytest.approx([rates[-1], 1e-4], rel=1e-6)
        assert o.settings == {"generator_learning_rate": o.best["generator_learning_rate"]}
    write_best(outcomes, results)
    best = folder.read_json(results.study("gan") / "best.json")
    assert best["searched"].items() <= best["train"].items()


def test_an_interrupted_population_goes_on_at_the_rates_it_had(ray_session, digits, tmp_path):
    experiment = population(tmp_path, {"choice": [1e-4, 1e-3]}, 4, trials=2, every=2)
    results = Folder(tmp_path / "r")
    for number, trial in enumerate(trials_of(experiment)):
        train = trial.train.model_copy(update={"generator_learning_rate": (1e-4, 1e-3)[number]})
        training = Training(trial.model_copy(update={"train": train}), digits, CLASSIFIER)
        left = TrialFolder(results.trial("gan", trial.trial_id), plan.trial_key(trial, digits.sha256))
        left.begin(training)
        left.epoch(training)
        left.epoch(training)
    outcomes, _ = tune(experiment, digits, results)
    assert [o.status for o in outcomes] == ["finished"] * 2
    assert [[row["epoch"] for row in o.history] for o in outcomes] == [[1, 2, 3, 4]] * 2
    for o, rate in zip(outcomes, (1e-4, 1e-3), strict=True):
        assert o.history[2]["generator_learning_rate"] == rate


def test_a_failed_trial_does_not_hold_up_its_population(ray_session, digits, tmp_path):
    experiment = population(tmp_path, {"choice": [1e-4, 1e-3]}, 2, trials=3)
    trials = trials_of(experiment)
    broken = trials[1].train.model_copy(update={"generator_learning_rate": 1e30})
    trials[1] = trials[1].model_copy(update={"train": broken})
    outcomes, _ = tune(experiment, digits, Folder(tmp_path / "r"), trials=trials)
    assert [o.status for o in outcomes] == ["finished", "failed", "finished"]
    assert [len(o.history) for o in outcomes if o.status == "finished"] == [2, 2]


def test_a_failed_trial_is_named_at_once_and_does_not_stop_the_others(ray_session, digits, tmp_path):
    experiment = study_with(tmp_path, {"studies.gan.sweep.trials": 3, "studies.gan.train.epochs": 1})
    trials = trials_of(experiment)
    trials[1] = trials[1].model_copy(update={"train": trials[1].train.model_copy(update={"learning_rate": 1e30})})
    trials[2] = trials[2].model_copy(update={"model": trials[2].model | {"latent_dim": 10**12}})  # fits in no memory
    results = Folder(tmp_path / "r")
    outcomes, told = tune(experiment, digits, results, trials=trials)
    assert [o.status for o in outcomes] == ["finished", "failed", "failed"]
    problems = sorted(line for is_problem, line in told.lines if is_problem)
    assert len(problems) == 2
    assert problems[0].startswith("gan-01 failed: FloatingPointError: ")
    assert "a lower learning_rate may help" in problems[0]
    assert problems[1].startswith("gan-02 failed: ResourceExhaustedError: ")
    write_tables(outcomes, results)
    rows = outcome_rows(results)
    assert [row["status"] for row in rows] == ["finished", "failed", "failed"]
    assert "FloatingPointError" in rows[1]["error"]
    assert "OOM" in rows[2]["error"]


def outcome_rows(results):
    import csv

    with results.trials.open() as file:
        return list(csv.DictReader(file))


def an_outcome(number, status, values):
    history = [{"epoch": i + 1, "frechet_pixels": value, "seconds": 1.0} for i, value in enumerate(values)]
    trial = a_trial("conv_gan").model_copy(update={"trial_id": f"gan-{number:02d}"})
    return Outcome(trial, "k", None, status, history, "", {})


def test_a_trial_that_is_tried_again_has_not_failed_as_long_as_it_trains(tmp_path):
    begun = an_outcome(0, "pending", []).trial
    first = Outcome(begun, "k", tmp_path / "gan-00")
    write_config(first)
    folder.write_json(first.path / "status.json", {"status": "failed", "error": "the machine went away"})
    assert read(begun, "k", first.path).status == "failed"
    assert write_config(first) == begun
    assert (read(begun, "k", first.path).status, read(begun, "k", first.path).error) == ("pending", "")


def test_the_best_trial_is_the_ended_one_with_the_best_epoch():
    outcomes = [
        an_outcome(0, "finished", [9.0, 5.0]),
        an_outcome(1, "stopped", [4.0, 7.0]),
        an_outcome(2, "failed", [1.0]),
        an_outcome(3, "pending", []),
    ]
    (first,) = ranking(outcomes)
    assert first.best.trial.trial_id == "gan-01"
    assert first.best.best["epoch"] == 1
    assert (first.mean, first.sd) == (4.0, None)
    assert ranking(outcomes[2:]) == []


def test_the_best_epoch_is_one_whose_network_was_kept():
    """A training metric is known in every epoch, but only every other epoch is looked at."""
    trial = a_trial("conv_gan", metric="generator_loss", every=2).model_copy(update={"trial_id": "gan-00"})
    history = [
        {"epoch": i + 1, "generator_loss": value, "seconds": 1.0} for i, value in enumerate([0.5, 0.4, 0.1, 0.3])
    ]
    assert Outcome(trial, "k", None, "finished", history, "", {}).best["epoch"] == 4


def test_bundled_experiments_plan_different_choices():
    """A sweep that shows the same choice in all of its trials is a poor first example."""
    for name in experiment_file.bundled():
        experiment = experiment_file.load(name)
        for study_name, study in experiment.studies.items():
            resolved = rules.resolve(study_name, study, SCORED)
            trials = Plan(study_name, resolved, experiment.seed, SCORED, "data").trials()
            for path, domain in study.domains.items():
                drawn = {trial.searched[path.rpartition(".")[2]] for trial in trials if trial.searched}
                assert len(drawn) > 1, f"{name}: {study_name} draws one value of {domain}"


def test_data_that_was_moved_is_the_same_and_other_data_is_not(tmp_path):
    before = study_with(tmp_path)
    here, there, other = (
        before.model_copy(update={"dataset": before.dataset.model_copy(update={"name": name})})
        for name in ("/here/data.npz", "/tmp/job-1/files/0/data.npz", "/here/other.npz")
    )
    assert plan.changes(here, there, ["gan"]) is None
    assert plan.changes(here, other, ["gan"]).startswith("dataset changed: ")


def test_a_node_that_came_late_trains_nothing_with_other_versions_or_without_the_folder(tmp_path):
    given = {"images": None, "checkpoints": None, "classifier": None}
    late = object.__new__(StudyTrainable)
    with pytest.raises(InputError, match=r"expected ray 1\.0, as on the driver's node, found \d"):
        late.setup({}, place=tmp_path, versions=nodes.versions() | {"ray": "1.0"}, **given)
    with pytest.raises(InputError, match=r"expected the folder .*none, which all nodes share, found none"):
        late.setup({}, place=tmp_path / "none", versions=nodes.versions(), **given)
