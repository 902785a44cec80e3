"""What the tests share: one Ray session, tiny images, and one finished run."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import pytest
from filelock import FileLock

from raymnist import cli, datasets
from raymnist.config import Dataset, Samples, Train, TrialConfig
from raymnist.models import MODELS

MNIST = Path(os.environ.get("RAYMNIST_DATA", "")) / "mnist.npz"
HAS_MNIST = bool(os.environ.get("RAYMNIST_DATA")) and MNIST.is_file()
needs_mnist = pytest.mark.skipif(not HAS_MNIST, reason="RAYMNIST_DATA names no folder with mnist.npz")

TINY = """
name: tiny
dataset: {name: digits, limit: 300}
studies:
  autoencoder:
    model: {name: conv_autoencoder, latent_dim: {choice: [4, 8]}, filters: 4}
    train: {epochs: 2, batch_size: 32, learning_rate: {loguniform: [1e-3, 1e-2]}}
    sweep: {trials: 2}
    resources: {gpus: 0, max_concurrent: 1}
  gan:
    model: {name: conv_gan, latent_dim: {choice: [4, 8]}, generator_filters: 4, discriminator_filters: 4}
    train: {epochs: 6, batch_size: 32, learning_rate: {loguniform: [1e-3, 1e-2]}}
    sweep: {trials: 2, every: 2, images: 100}
    resources: {gpus: 0, max_concurrent: 1}
evaluation:
  images: 60
  scored_images: 100
  reducers: [none, {pca: {dims: 3}}]
"""


def pytest_configure(config):
    """Let what the tests start be interrupted: a shell's background jobs ignore SIGINT, and so do their children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def ray_session(cache):
    """One Ray session for each process of the suite, with two GPUs that do not exist."""
    import ray

    ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def digits():
    return datasets.load(Dataset(name="digits", limit=300))


@pytest.fixture(scope="session")
def digits_whole():
    return datasets.load(Dataset(name="digits"))


@pytest.fixture(scope="session")
def common(tmp_path_factory):
    """A folder of the suite's own, which all its processes share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def cache(common):
    """A cache of the suite's own, which the tests' processes inherit."""
    os.environ["RAYMNIST_CACHE"] = str(common / "cache")


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiment") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny_run(ray_session, tiny_file, common):
    """The tiny experiment, run to its end by the process that comes first; tests read it and leave it as it is."""
    import raymnist

    with FileLock(common / "tiny_run.lock"):
        return raymnist.run(tiny_file, results=common / "results")


def a_trial(name: str, *, metric: str | None = None, every: int = 1, model: dict | None = None, **train) -> TrialConfig:
    """Make a tiny trial of a model."""
    small = {
        "conv_autoencoder": {"latent_dim": 4, "filters": 4},
        "dense_gan": {"latent_dim": 8, "generator_units": [16, 24], "discriminator_units": [24, 16]},
        "conv_gan": {"latent_dim": 8, "generator_filters": 4, "discriminator_filters": 4},
        "dcgan": {"latent_dim": 8, "generator_filters": 4, "discriminator_filters": 4},
        "classifier": {"filters": 4, "features": 6},
    }
    return TrialConfig(
        study="study",
        trial_id="study-00",
        seed=3,
        model={"name": name, **small[name], **(model or {})},
        train=Train(**{"epochs": 4, "batch_size": 32, "learning_rate": 1e-3, **train}),
        samples=Samples(every=2),
        metric=metric or MODELS[name].objective,
        every=every,
        searched={},
    )


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process; returns (status, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["raymnist", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as exit_:
            status = exit_.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def aside():
    """Where a killed run may leave its temporary files; with a short name, or the dashboard's sockets do not open."""
    with tempfile.TemporaryDirectory() as place:
        yield {"TMPDIR": place, "RAY_TMPDIR": tempfile.gettempdir()}
