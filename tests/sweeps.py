"""What the tests of sweeps share: a study of tiny GANs, and its training as the pipeline does it."""

from raymnist import datasets, pipeline
from raymnist.config import Dataset
from raymnist.models import features
from raymnist.sweep.gauges import Gauges
from raymnist.sweep.loggers import Logging
from raymnist.sweep.objective import Scored
from raymnist.sweep.plan import Plan
from raymnist.sweep.resources import Cluster, Request
from raymnist.sweep.search import Search
from raymnist.sweep.trainable import CheckpointPlace

CLASSIFIER = features.find(datasets.load(Dataset(name="digits")))
SCORED = Scored(CLASSIFIER.sha256, has_labels=True)

STUDY = """
name: a
studies:
  gan:
    model: {name: dense_gan, latent_dim: {choice: [4, 8, 16]}, generator_units: [8], discriminator_units: [8]}
    train: {epochs: 3, batch_size: 64, learning_rate: {loguniform: [1e-4, 1e-2]}}
    sweep: {trials: 8, images: 60}
    resources: {gpus: 0}
"""


def study_with(tmp_path, sets=None, seed=0):
    path = tmp_path / "file.yaml"
    path.write_text(STUDY)
    experiment, _ = pipeline.prepare(path, {"dataset.limit": 100, **(sets or {}), "seed": seed})
    return experiment


def plan_of(experiment, study="gan", name="gan", images="data"):
    return Plan(name, experiment.studies[study], experiment.seed, SCORED, images)


def trials_of(experiment):
    return plan_of(experiment).trials()


class Silent:
    def __init__(self):
        self.lines, self.epochs = [], 0

    def advance(self, epochs):
        self.epochs += epochs

    def look(self, line):
        pass

    def say(self, line, *, problem=False):
        self.lines.append((problem, line))


BOTH_CPUS = Request(2, 0)  # one trial after the other, in one process that imports TensorFlow once


def tune(experiment, images, results, request=BOTH_CPUS, trials=None):
    """Train a study's open trials as the pipeline does; returns their outcomes and what was told."""
    planned, told = plan_of(experiment, images=images.sha256), Silent()
    outcomes = [planned.outcome(t, results) for t in trials] if trials else planned.outcomes(results)
    logging = Logging(experiment.loggers, experiment.name, results, told.say)
    place = CheckpointPlace(None, "", 1)
    at_once = Cluster.connected().at_once(request)
    search = Search(planned, images, CLASSIFIER, results, place, request, at_once, logging, Gauges(experiment.name))
    search.train(outcomes, told, "gan")
    return [planned.outcome(o.trial, results) for o in outcomes] if trials else planned.outcomes(results), told
