"""Checkpoints: the last and the best epochs' of each trial, in its folder or in an object store."""

import urllib.request
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import a_trial
from moto.server import ThreadedMotoServer
from pyarrow import fs

import raymnist
from raymnist import datasets
from raymnist.errors import InputError
from raymnist.standing import Standing
from raymnist.training import checkpoints
from raymnist.training.checkpoints import CheckpointFolder
from raymnist.training.loop import Training
from raymnist.training.trial_folder import TrialFolder


@pytest.fixture(scope="module")
def store():
    """An S3 server on the loopback, and what addresses a bucket in it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/digits", method="PUT"))

    def uri(bucket):
        return f"s3://key:secret@{bucket}?endpoint_override={host}%3A{port}&scheme=http"

    def names(path):
        system, place = fs.FileSystem.from_uri(uri(f"digits/{path}"))
        found = system.get_file_info(fs.FileSelector(place, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{place}/") for info in found if info.is_file)

    yield SimpleNamespace(uri=uri, names=names)
    server.stop()


def trained(trial, images, folder, epochs):
    training = Training(trial, images)
    folder.begin(training)
    for _ in range(epochs):
        folder.epoch(training)
    return training


@pytest.mark.parametrize(
    ("best", "metric", "every"),
    [(0, "frechet_pixels", 1), (2, "frechet_pixels", 1), (1, "generator_loss", 2)],  # the loss is known at every epoch
)
def test_the_last_and_the_best_epochs_are_kept(best, metric, every, digits, tmp_path):
    trial = a_trial("dense_gan", epochs=5, metric=metric, every=every)
    kept = CheckpointFolder.local(tmp_path / "c", best)
    training = trained(trial, digits, TrialFolder(tmp_path / "t", "key", kept), 5)
    scores = {row["epoch"]: row[metric] for row in training.history if trial.is_due(row["epoch"])}
    epochs = sorted(sorted(scores, key=scores.get)[:best])
    lowest = min(training.history, key=lambda row: row[metric])
    assert trial.is_due(lowest["epoch"]) == (every == 1)
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        *(f"epoch_{epoch:04d}.npz" for epoch in epochs), "last.npz"
    ]  # fmt: skip
    for name, epoch in [(f"epoch_{epoch:04d}", epoch) for epoch in epochs] + [("last", 5)]:
        again = Training(trial, digits)
        again.restore(tmp_path / "c" / f"{name}.npz")
        assert again.history == training.history[:epoch]


def test_a_trial_goes_on_from_an_object_store_as_if_it_had_not_stopped(store, digits, tmp_path):
    trial = a_trial("dense_gan", epochs=4)
    uri = store.uri("digits/some/where")
    first = TrialFolder(tmp_path / "t", "key", CheckpointFolder.remote(uri, "run/gan-00", best=1))
    trained(trial, digits, first, 2)
    assert set(store.names("some/where/run/gan-00")) > {"last.npz"}
    second = TrialFolder(tmp_path / "t", "key", CheckpointFolder.remote(uri, "run/gan-00", best=1))
    resumed = trained(trial, digits, second, 2)
    straight = trained(trial, digits, TrialFolder(tmp_path / "s", "key"), 4)
    timings = ["seconds", "scoring_seconds", "images_per_second"]
    frames = [pd.DataFrame(t.history).drop(columns=timings) for t in (resumed, straight)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    for ours, theirs in zip(resumed.model.variables, straight.model.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not (tmp_path / "t" / "checkpoints").exists()


def test_a_run_keeps_its_checkpoints_in_an_object_store_until_it_names_another_or_forgets_them(
    store, tiny_file, ray_session, tmp_path
):
    sets = {
        "checkpoints": store.uri("digits/runs"),
        "evaluation": None,
        "studies.*.sweep.trials": 1,
        "studies.gan.train.epochs": 2,
    }
    results = raymnist.run(tiny_file, sets, results=tmp_path)
    place = results.manifest["checkpoints"]["folder"]
    assert place.startswith("tiny-")
    left = store.names(f"runs/{place}")
    assert {name.rpartition("/")[0] for name in left} == {"autoencoder/autoencoder-00", "gan/gan-00"}
    assert {f"gan/gan-00/{name}" for name in ("last.npz", "epoch_0002.npz")} <= set(left)
    assert not list((tmp_path / "tiny").rglob("*.npz"))
    again = raymnist.run(tiny_file, sets | {"checkpoints": store.uri("digits/moved")}, results=tmp_path)
    assert store.names(f"runs/{place}") == []  # nothing is left where the experiment no longer says
    moved = again.manifest["checkpoints"]["folder"]
    images = datasets.load(again.experiment.dataset)
    for name in ("autoencoder", "gan"):
        written = CheckpointFolder.remote(store.uri("digits/moved"), f"{moved}/{name}", 1)
        trained(a_trial("dense_gan"), images, TrialFolder(tmp_path / name, "key", written), 1)
    Standing.read(again.experiment, images, again.folder, fresh="gan").forget()
    assert {name.split("/")[0] for name in store.names(f"moved/{moved}")} == {"autoencoder"}
    Standing.read(again.experiment, images, again.folder, fresh=True).forget()
    assert store.names(f"moved/{moved}") == []


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("some/folder", "expected a URI such as s3://bucket/folder, received some/folder"),
        ("foo://bucket/x", "Unrecognized filesystem type in URI"),
        ("s3 nobucket", "Bucket 'nobucket' not found"),
    ],
)
def test_a_place_that_cannot_hold_checkpoints_is_refused_before_anything_runs(
    uri, problem, store, tiny_file, ray_session, tmp_path
):
    uri = store.uri("nobucket/x") if uri == "s3 nobucket" else uri
    for work in (raymnist.pipeline.dry_run, raymnist.run):
        with pytest.raises(InputError, match=f"checkpoints.*uri: .*{problem}"):
            work(tiny_file, {"checkpoints": uri}, results=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_taken_over_are_no_best_epoch_of_the_heir(digits, tmp_path):
    """Population-based training does so after a look, whose checkpoint has the heir's own weights."""
    heir, donor = a_trial("dense_gan"), a_trial("dense_gan").model_copy(update={"trial_id": "donor", "seed": 9})
    other = trained(donor, digits, TrialFolder(tmp_path / "donor", "key"), 2)
    folder = TrialFolder(tmp_path / "heir", "key")
    training = trained(heir, digits, folder, 1)
    own = [np.array(variable) for variable in training.model.variables]
    folder.take_over(training, tmp_path / "donor" / "checkpoints" / "last.npz")
    for name, expected in (("epoch_0001", own), ("last", [np.array(v) for v in other.model.variables])):
        again = Training(heir, digits)
        again.restore(tmp_path / "heir" / "checkpoints" / f"{name}.npz")
        for ours, theirs in zip(again.model.variables, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_store_that_is_gone_is_no_obstacle_to_a_fresh_start():
    left = checkpoints.remove("s3://key:secret@gone?endpoint_override=127.0.0.1%3A9&scheme=http", "tiny-12345678")
    assert left.startswith("checkpoints tiny-12345678 were left behind in s3://")


def test_a_place_is_tried_and_left_as_it_was(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "not there"):
        checkpoints.check((tmp_path / name).as_uri())
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_a_process_that_was_given_up_leaves_the_folder_to_the_one_after_it(digits, tmp_path):
    """As on a node that is cut off from the head, but not from the folder that all share."""
    trial = a_trial("dense_gan", epochs=3)
    given_up = TrialFolder(tmp_path / "t", "key")
    left = trained(trial, digits, given_up, 1)
    after_folder = TrialFolder(tmp_path / "t", "key")
    after = trained(trial, digits, after_folder, 1)
    assert after.epochs_done == 2
    trained(trial, digits, TrialFolder(tmp_path / "t", "key"), 0)  # one that only begins takes nothing away
    assert (tmp_path / "t" / ".worker").read_text() == after_folder.mark
    written = (tmp_path / "t" / "history.csv").read_bytes()
    with pytest.raises(RuntimeError, match="found that of another"):
        given_up.epoch(left)
    assert (tmp_path / "t" / "history.csv").read_bytes() == written
