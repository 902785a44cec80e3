"""The benchmarks of the evaluation run, and what they compare agrees; nothing else would notice if it did not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import needs_mnist

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def records_of(script, tmp_path):
    words = [sys.executable, BENCHMARKS / script, "--quick", "--json", tmp_path / "b.json"]
    finished = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return json.loads((tmp_path / "b.json").read_text())


@needs_mnist
@pytest.mark.long
def test_the_benchmark_of_the_evaluation_compares_equal_results(tmp_path):
    records = records_of("evaluation.py", tmp_path)
    assert all({"task", "variant", "seconds", "ratio"} <= set(record) for record in records)
    ours = {record["task"].split()[0]: record for record in records if record["variant"].startswith("raymnist")}
    assert set(ours) == {"evaluation", "silhouette", "kmeans", "embedding"}
    assert ours["silhouette"]["difference"] < 1e-6
    assert ours["kmeans"]["inertia_ratio"] < 1.02  # from other starts


@pytest.mark.long
def test_embedding_three_times_as_many_images_takes_no_more_memory_and_spills_nothing(tmp_path):
    first, second = records_of("embedding.py", tmp_path)
    assert (first["images"], second["images"]) == (10_000, 30_000)
    assert second["ratio"] < 1.1
    assert first["spilled_mib"] == second["spilled_mib"] == 0


@pytest.mark.parametrize(
    ("driver", "line"),
    [
        (None, "expected an NVIDIA GPU, found none"),
        (
            "Some card, 15360, 3, 14900",
            "expected TensorFlow to see 1 GPU as the driver does, it sees 0; install '.[gpu]'",
        ),
    ],
)
def test_the_benchmark_of_shared_cards_measures_nothing_without_one(driver, line, tmp_path):
    """Not on the CPU either, where TensorFlow sees none; a script stands in the driver's place."""
    if driver:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{driver}'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    # No machine has a hundredth card for TensorFlow to see.
    here = os.environ | {"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "99"}
    words = [sys.executable, BENCHMARKS / "gpu.py", "--json", tmp_path / "b.json"]
    finished = subprocess.run(words, env=here, capture_output=True, text=True, timeout=100, check=False)
    assert finished.stderr.splitlines()[-1] == line
    assert (finished.returncode, finished.stdout) == (2, "")
    assert not (tmp_path / "b.json").exists()
