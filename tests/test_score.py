"""`raymnist score` and the evaluation's scores: the rows, the floor, the cache."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import needs_mnist

from raymnist import datasets
from raymnist.config import Dataset
from raymnist.evaluation import reference, scores
from raymnist.evaluation.generator_scores import score
from raymnist.metrics import GENERATOR_METRICS, Comparison
from raymnist.models import features


def test_images_are_scored_with_the_floor_beside_them(digits_whole, tmp_path, command):
    np.savez(tmp_path / "copies.npz", x=digits_whole.train[:360, ..., 0])
    status, out, _ = command("score", tmp_path / "copies.npz", "--dataset", "digits", "--json", tmp_path / "s.json")
    assert status == 0
    rows = json.loads((tmp_path / "s.json").read_text())
    assert all(set(row) <= set(scores.COLUMNS) for row in rows)
    table = pd.DataFrame(rows)
    assert table.groupby("population")["metric"].apply(set).to_dict() == dict.fromkeys(
        ("fake", "real"), set(GENERATOR_METRICS) - {"fid_infinity"}
    )
    assert set(table["classifier"]) == {features.find(digits_whole).sha256}
    assert set(table["n_images"]) == {360}
    fake = table[table["population"] == "fake"].set_index("metric")
    assert set(fake["trial_id"]) == {"copies.npz"}
    classify = features.find(digits_whole).open()
    order = reference.test_order(digits_whole, 0)
    rows = np.random.default_rng(0).permutation(360)
    real, copies = classify(digits_whole.test[order]), classify(digits_whole.train[:360][rows])
    by_hand = GENERATOR_METRICS["fid"].function(Comparison(real, copies, 0))
    assert fake.loc["fid", ["value", "ci_low", "ci_high"]].to_list() == pytest.approx(
        [by_hand.value, by_hand.low, by_hand.high], rel=1e-4
    )
    assert fake.loc["authpct", "value"] == 0  # they are training images
    floor = table[table["population"] == "real"].set_index("metric")["value"]
    assert floor["authpct"] > 30
    for metric in fake.index:
        assert metric in out
    assert "floor (real)" in out


def test_fewer_images_than_asked_for_are_compared_with_as_many(digits_whole, tmp_path, command):
    np.savez(tmp_path / "few.npz", x=digits_whole.train[:70])
    status, out, _ = command("score", tmp_path / "few.npz", "--dataset", "digits", "-n", 200)
    assert status == 0
    assert "n 70" in out
    assert "scored 70 images, as there are no more" in out


def test_data_without_labels_is_scored_on_pixel_components(digits_whole, tmp_path, command):
    np.savez(tmp_path / "d.npz", x_train=digits_whole.train[:200], x_test=digits_whole.test[:100])
    np.savez(tmp_path / "x.npz", x=digits_whole.train[300:400])
    arguments = [tmp_path / "x.npz", "--dataset", tmp_path / "d.npz", "--json", tmp_path / "s.json"]
    status, out, _ = command("score", *arguments)
    assert status == 0
    assert "no classifier of" in out
    rows = json.loads((tmp_path / "s.json").read_text())
    assert {row["features"] for row in rows} == {"pixels"}
    assert {row["classifier"] for row in rows} == {""}
    without = {name for name, metric in GENERATOR_METRICS.items() if metric.needs == "logits"} | {"fid_infinity"}
    assert {row["metric"] for row in rows} == set(GENERATOR_METRICS) - without


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.npz"], "none.npz: expected an .npz file, found none"),
        (["x.txt"], "x.txt: expected a generator .keras or .h5 or .hdf5, or images .npz"),
        (["other_key.npz"], "other_key.npz: expected images under the key x, received y"),
        (["small.npz"], r"small.npz: expected images \(28, 28, 1\), as those of the data set, received \(8, 8, 1\)"),
        (["few.npz"], "few.npz: expected at least 50 images, received 20"),
        (["few.npz", "--output-range", "0", "1"], "--output-range: belongs to a generator"),
        (["few.npz", "--json", "no/where.json"], "--json: expected a file to write in a folder that is there"),
    ],
)
def test_wrong_input_is_one_line(arguments, message, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("other_key.npz", y=np.zeros((60, 28, 28), np.uint8))
    np.savez("small.npz", x=np.zeros((60, 8, 8), np.uint8))
    np.savez("few.npz", x=np.zeros((20, 28, 28), np.uint8))
    status, _, err = command("score", *arguments, "--dataset", "digits")
    assert (status, err.count("\n")) == (2, 1)
    assert re.search(message, err)


def test_a_classifier_that_does_not_know_the_data_is_doubted(digits_whole, tmp_path, command, monkeypatch):
    monkeypatch.setenv("RAYMNIST_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "x.npz", x=digits_whole.train[:100])
    for shift, doubted in ((0, False), (1, True)):  # with the right labels, and with wrong ones
        labels = [
            (digits_whole.classes_of(part) + shift) % 10
            for part in (digits_whole.train_labels, digits_whole.test_labels)
        ]
        data = {"x_train": digits_whole.train, "x_test": digits_whole.test, "y_train": labels[0], "y_test": labels[1]}
        np.savez(tmp_path / "d.npz", **data)
        features.keep(features.WEIGHTS / "digits.keras", datasets.load(Dataset(name=str(tmp_path / "d.npz"))))
        status, out, _ = command("score", tmp_path / "x.npz", "--dataset", tmp_path / "d.npz", "-n", 100)
        assert status == 0
        assert (
            re.findall("warning: .* right", out)
            == ["warning: the classifier tells 0% of the test images right"] * doubted
        )


def test_real_features_and_floor_come_from_the_cache_the_second_time(digits_whole, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYMNIST_CACHE", str(tmp_path))
    classifier = features.find(digits_whole)
    calls = []

    def extract(images):
        calls.append(len(images))
        return classifier.open()(images)

    first = reference.reference(digits_whole, "classifier", classifier, extract, 100, 0)
    floor = first.floor()
    assert calls == [len(digits_whole.test) + len(digits_whole.train)]
    second = reference.reference(digits_whole, "classifier", classifier, extract, 100, 0)
    assert len(calls) == 1
    np.testing.assert_array_equal(first.test.points, second.test.points)
    np.testing.assert_array_equal(first.real.own, second.real.own)
    (stored,) = (tmp_path / "floors").iterdir()
    stored.write_text(stored.read_text().replace("1", "2"))
    changed = second.floor()
    assert changed != floor  # read, not computed
    assert reference.reference(digits_whole, "classifier", classifier, extract, 100, 1).floor() not in (floor, changed)
    assert len(calls) == 1


def test_a_cache_that_cannot_be_used_is_done_without(digits_whole, tmp_path, monkeypatch):
    classifier = features.find(digits_whole)
    classify = classifier.open()
    monkeypatch.setenv("RAYMNIST_CACHE", str(tmp_path))
    expected = reference.reference(digits_whole, "classifier", classifier, classify, 60, 0)
    (stored,) = (tmp_path / "features").iterdir()
    stored.write_bytes(stored.read_bytes()[:1000])  # truncated
    again = reference.reference(digits_whole, "classifier", classifier, classify, 60, 0)
    np.testing.assert_array_equal(again.test.points, expected.test.points)
    floor = expected.floor()
    (kept,) = (tmp_path / "floors").iterdir()
    for damaged in ("", "[1]", '{"fid": 1}'):
        kept.write_text(damaged)
        assert again.floor() == floor
    monkeypatch.setenv("RAYMNIST_CACHE", "/proc/nowhere")
    again = reference.reference(digits_whole, "classifier", classifier, classify, 60, 0)
    assert again.floor() == expected.floor()


def test_the_nearest_training_images_of_copies_are_themselves(digits_whole):
    classifier = features.find(digits_whole)
    classify = classifier.open()
    beside = reference.reference(digits_whole, "classifier", classifier, classify, 60, 0)
    scored = score(beside, "copies", "copies.npz", classify(digits_whole.train[40:100]))
    np.testing.assert_array_equal(scored.copies.places, 40 + scored.copies.rows)
    assert scored.copies.first.sum() == 10
    assert len(scored.copies.rows) == 20
    np.testing.assert_allclose(scored.copies.distances, 0, atol=1e-2)
    labels = digits_whole.classes_of(digits_whole.train_labels[40:100])
    assert np.abs(scored.counts - np.bincount(labels, minlength=10)).sum() <= 2


@pytest.mark.long
def test_the_benchmark_of_the_networks_runs(tmp_path):
    script = Path(__file__).parent.parent / "benchmarks" / "networks.py"
    words = [sys.executable, script, "--quick", "--json", tmp_path / "b.json"]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    records = json.loads((tmp_path / "b.json").read_text())
    assert {"dense_gan", "conv_gan", "dcgan"} <= {record["network"] for record in records}


@needs_mnist
@pytest.mark.long
def test_the_benchmark_of_the_scores_runs(tmp_path):
    """Nothing else would notice if it did not."""
    script = Path(__file__).parent.parent / "benchmarks" / "scores.py"
    words = [sys.executable, script, "--quick", "--json", tmp_path / "b.json"]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    tasks = {record["task"] for record in json.loads((tmp_path / "b.json").read_text())}
    assert set(GENERATOR_METRICS) | {"features of 2000 images", "all scores with intervals"} <= tasks


def test_a_limit_changes_what_is_compared(digits, tmp_path, monkeypatch):
    """270 training images are the most that a floor can have, where there are 360 test images."""
    assert reference.most_scored(digits, 10_000) == 270
    assert reference.most_scored(datasets.load(Dataset(name="digits")), 10_000) == 360
