"""Whatever is killed, at whatever moment: the same command again comes to the same end, and does nothing twice."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import raymnist
from raymnist.folder import read_json

SEED = 2026
LIFE = """
name: life
dataset: {name: digits, limit: 300}
studies:
  autoencoder:
    model: {name: conv_autoencoder, latent_dim: {choice: [4, 8]}, filters: 4}
    train: {epochs: 3, batch_size: 32, learning_rate: {loguniform: [1e-3, 1e-2]}}
    sweep: {trials: 2}
  gan:
    model: {name: dense_gan, latent_dim: 4, generator_units: [16], discriminator_units: [16]}
    train: {epochs: 8, batch_size: 32, learning_rate: {loguniform: [1e-3, 1e-2]}}
    sweep: {trials: 3, every: 2, images: 100}
    confirm: {top: 1, seeds: 2}
evaluation: {images: 60, scored_images: 100, reducers: [none, {pca: {dims: 3}}]}
"""
OTHERS = """
name: others
dataset: {name: digits, limit: 300}
studies:
  suggested:
    model: {name: dense_gan, latent_dim: 4, generator_units: [16], discriminator_units: [16]}
    train: {epochs: 6, batch_size: 32, learning_rate: {loguniform: [1e-3, 1e-1]}}
    sweep: {trials: 8, searcher: optuna, images: 100, scheduler: {name: asha, grace_epochs: 2}}
  population:
    model: {name: dense_gan, latent_dim: 4, generator_units: [16], discriminator_units: [16]}
    train: {epochs: 6, batch_size: 32, learning_rate: {loguniform: [1e-3, 1e-1]}}
    sweep: {trials: 4, images: 100, scheduler: {name: pbt, perturb_every: 2}}
evaluation: null
"""
# Read by every Python process of the run, Ray's workers too. The fault strikes once, wherever its moment comes first.
FAULT = """
import json, os, re, signal, sys

fault = json.loads(os.environ["FAULT"])
seen = 0

def strike():
    try:
        os.close(os.open(fault["flag"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    victims = [os.getpid()] if fault["whom"] == "this process" else []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.getsid(int(entry)) == fault["session"]():
                name = open(f"/proc/{entry}/cmdline").read()
                is_ray = "/raylet/raylet" in name or "gcs_server" in name
                if fault["whom"] == "everything" or (fault["whom"] == "ray" and is_ray):
                    victims.append(int(entry))
        except OSError:
            pass
    if fault["whom"] == "driver":
        victims = [fault["session"]()]
    for pid in sorted(victims, key=lambda pid: pid == os.getpid()):
        os.kill(pid, signal.SIGKILL)
    signal.pause()  # until the victim's end is noticed

def counted():
    global seen
    seen += 1
    if seen == fault["count"]:
        strike()

def write_half(self, name, content):
    half = bytes(content.getbuffer())[: len(content.getbuffer()) // 2]
    with open(f"{self.path}/.draft-{name}", "wb") as file:
        file.write(half)
    counted()
    whole(self, name, content)

def hook(event, args):
    global whole
    if event == "os.rename" and fault["rename"] and re.search(fault["rename"], str(args[1])):
        counted()
    elif event == "open" and fault["open"] and re.search(fault["open"], str(args[0])) and "r" in str(args[1]):
        counted()
    elif event == "import" and fault["checkpoint"]:
        module = sys.modules.get("raymnist.training.checkpoints")
        if module and hasattr(module, "remove") and module.CheckpointFolder._write is not write_half:
            whole = module.CheckpointFolder._write
            module.CheckpointFolder._write = write_half

fault["session"] = lambda: os.getsid(0)
sys.addaudithook(hook)
"""
WHOM = ("this process", "driver", "everything", "ray")


def moment(name, whom, count, *, rename="", file="", checkpoint=False):
    return {"name": name, "whom": whom, "count": count, "rename": rename, "open": file, "checkpoint": checkpoint}


def moments(rng):
    """Draw ten moments of an experiment's life: who is killed, at the how manieth write or read of what."""
    training = [
        moment("a checkpoint write", "ray", rng.randint(1, 3), checkpoint=True),
        moment("a checkpoint write", "driver", rng.randint(1, 3), checkpoint=True),
        moment("a checkpoint write", "everything", rng.randint(1, 3), checkpoint=True),
        moment("the write of a trial's history", "ray", rng.randint(1, 2), rename=r"-\d\d(-s\d)?/history\.csv$"),
        moment("the write of what a trial is", rng.choice(WHOM[1:3]), 1, rename=r"-\d\d(-s\d)?/config\.json$"),
        moment("the note of a trial's end", rng.choice(WHOM[1:3]), 1, rename=r"/status\.json$"),
    ]
    rng.shuffle(training)
    return [
        *training,
        moment("a table write", "driver", 1, rename=r"/life/trials\.csv$"),
        moment("the embedding", rng.choice(WHOM[1:3]), 1, file=r"/model\.keras$"),
        moment("the end of the embedding", "everything", 1, rename=r"/embeddings/points$"),
        moment("a table write", rng.choice(WHOM[1:3]), 1, rename=r"/life/results\.csv$"),
    ]


class Life:
    """An experiment that is run again and again, by the command line, until it has come to its end."""

    def __init__(self, text, place, settings):
        self.place, self.settings = place, settings
        self.file = place / "experiment.yaml"
        self.file.write_text(text)
        (place / "fault").mkdir()
        (place / "fault" / "sitecustomize.py").write_text(FAULT)
        self.path = place / "results" / text.split()[1]
        self.strikes = 0

    def run(self, fault=None, *arguments):
        """Run the command, and kill what the fault says; returns the exit status and what was said."""
        self.strikes += 1
        flag = self.place / f"struck-{self.strikes}"
        env = os.environ | self.settings
        if fault:
            env |= {"FAULT": json.dumps(fault | {"flag": str(flag)}), "PYTHONPATH": str(self.place / "fault")}
        words = [
            sys.executable,
            "-m",
            "raymnist",
            "run",
            str(self.file),
            "--results",
            str(self.path.parent),
            *arguments,
        ]
        with (self.place / f"said-{self.strikes}").open("w+") as said:
            process = subprocess.Popen(words, stdout=said, stderr=said, env=env, start_new_session=True)
            try:
                status = process.wait(240)
            finally:
                for entry in Path("/proc").glob("[0-9]*"):  # Ray's agents outlive a killed driver by a minute
                    try:
                        if os.getsid(int(entry.name)) == process.pid:
                            os.kill(int(entry.name), signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            said.seek(0)
            text = said.read()
        assert fault is None or flag.exists(), f"{fault['name']} never came:\n{text}"
        return status, text

    def finished(self):
        """Read the histories of the trials that have ended, which no later run may touch."""
        ended = [path.parent for path in self.path.glob("studies/*/*/status.json")
                 if read_json(path)["status"] in ("finished", "stopped")]  # fmt: skip
        return {path.name: (path / "history.csv").read_bytes() for path in ended}


def same_tables(life, expected):
    results = raymnist.open(life.path)
    assert results.manifest["status"] == "complete"
    pd.testing.assert_frame_equal(
        results.history.drop(columns=TIMINGS), expected.history.drop(columns=TIMINGS), rtol=1e-6
    )
    ran_on = ["seconds", "hostname", "pid", "cuda_visible_devices"]
    pd.testing.assert_frame_equal(results.trials.drop(columns=ran_on), expected.trials.drop(columns=ran_on), rtol=1e-6)
    pd.testing.assert_frame_equal(results.table, expected.table, rtol=1e-6)
    board, other = (one.leaderboard.drop(columns="minutes") for one in (results, expected))
    pd.testing.assert_frame_equal(board, other, rtol=1e-6)


TIMINGS = ["seconds", "scoring_seconds", "images_per_second"]


@pytest.mark.long
def test_an_experiment_killed_at_ten_moments_comes_to_the_undisturbed_tables(tmp_path, aside):
    rng = random.Random(SEED)
    (tmp_path / "straight").mkdir()
    straight = Life(LIFE, tmp_path / "straight", aside)
    assert straight.run()[0] == 0
    expected = raymnist.open(straight.path)

    (tmp_path / "worker").mkdir()
    lost = Life(LIFE, tmp_path / "worker", aside)
    status, said = lost.run(moment("a checkpoint write", "this process", rng.randint(1, 3), checkpoint=True))
    assert (status, said.count("going on with what lost its worker or node: ")) == (0, 1), said
    same_tables(lost, expected)

    (tmp_path / "killed").mkdir()
    life = Life(LIFE, tmp_path / "killed", aside)
    kept: dict[str, bytes] = {}
    for number, fault in enumerate(moments(rng), start=1):
        # Without its Ray a run may go on to an evaluation: that comes late in this life.
        status, said = life.run(fault, *(["--set", "evaluation=null"] if number <= 7 else []))
        print(f"seed {SEED}, kill {number}: {fault['whom']} during {fault['name']}, exit {status}")
        assert status != 0, said
        now = life.finished()
        assert {name: now.get(name) for name in kept} == kept, f"after kill {number} finished trials were touched"
        kept = now
    stages = raymnist.open(life.path).manifest["seconds"]
    status, said = life.run()
    assert status == 0, said
    assert {name: life.finished()[name] for name in kept} == kept
    again = raymnist.open(life.path).manifest["seconds"]  # the last kill came after the embedding
    assert {stage: again[stage] for stage in ("gan", "points", "coordinates")} == {
        stage: stages[stage] for stage in ("gan", "points", "coordinates")
    }

    same_tables(life, expected)
    assert life.run()[1].count("nothing to do") == 1


@pytest.mark.long
def test_trials_of_other_searches_are_accounted_for_once_however_often_they_were_killed(tmp_path, aside):
    """Of Optuna with ASHA, and of a population; which trials are stopped or taken over differs from run to run."""
    life, rng = Life(OTHERS, tmp_path, aside), random.Random(SEED)
    kept: dict[str, bytes] = {}
    for fault in (
        moment("a checkpoint write", "driver", rng.randint(3, 5), checkpoint=True),
        moment("the write of what a trial is", "everything", 2, rename=r"suggested-\d\d/config\.json$"),
        moment("the write of a trial's history", "everything", rng.randint(3, 5), rename=r"population-.*history\.csv$"),
        moment("a table write", "driver", 1, rename=r"/others/trials\.csv$"),
    ):
        status, said = life.run(fault)
        assert status != 0, said
        now = life.finished()
        assert {name: now.get(name) for name in kept} == kept
        kept = now
    status, said = life.run()
    assert status == 0, said
    results = raymnist.open(life.path)
    names = [*(f"suggested-{n:02d}" for n in range(8)), *(f"population-{n:02d}" for n in range(4))]
    assert results.trials["trial_id"].to_list() == names
    assert set(results.trials["status"]) <= {"finished", "stopped"}
    assert results.trials["learning_rate"].notna().all()
    for name, history in results.history.groupby("trial_id"):
        row = results.trials.set_index("trial_id").loc[name]
        np.testing.assert_array_equal(history["epoch"], np.arange(1, row["epochs_done"] + 1))
        assert row["epochs_done"] == 6 or row["status"] == "stopped"
