"""Trials that share cards, on four GPUs that do not exist: where they run, what they see, what memory each may take.

Each part runs in a process of its own: the suite's Ray session has two cards, and TensorFlow takes its limits once.
What a real card makes of the limits is for `benchmarks/gpu.py`.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from raymnist.training import devices

PAGE = Path(__file__).parent.parent / "docs" / "multi_gpu.md"

# In the place of NVIDIA's: card n has 10,000 MB and n times 1,000 more, so that a worker is seen to ask for its own.
DRIVER = '#!/bin/sh\necho "$@" >> "$0.log"\necho $((10000 + 1000 * ${1#--id=}))\n'


def run_apart(script, asked, **variables):
    """Run a script beside a stand-in for the driver, in a place that goes with all that Ray leaves; returns its facts.

    The place has a short name, or Ray's sockets do not open.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "nvidia-smi").write_text(DRIVER)
        (place / "nvidia-smi").chmod(0o755)
        (place / "script.py").write_text(script)
        own = {"PATH": f"{place}:{os.environ['PATH']}", "TMPDIR": name, "RAY_TMPDIR": name, **variables}
        words = [sys.executable, place / "script.py", name, json.dumps(asked)]
        finished = subprocess.run(words, env=os.environ | own, capture_output=True, text=True, timeout=400, check=False)
        assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-5000:]
        return json.loads((place / "facts.json").read_text())


# A trial's own placement group for each, but no TensorFlow: tasks in it, which wait until all are there.
HOLD = """
import json, os, sys, time
from dataclasses import asdict
from pathlib import Path
import ray
from ray.util.placement_group import placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as In
from raymnist.sweep.resources import Cluster, Request
from raymnist.sweep.trainable import StudyTrainable

PLACE = Path(sys.argv[1])

@ray.remote(max_calls=0)  # else a process that had a GPU ends with its task
def see(name, number, count):
    (PLACE / f"{name}.{number}").touch()
    while len(list(PLACE.glob(f"{name}.*"))) < count:
        time.sleep(0.05)
    return os.environ["CUDA_VISIBLE_DEVICES"]

def groups(share, count):
    ask = StudyTrainable.default_resource_request({"request": asdict(Request(0.1, share))})
    return [ask() for _ in range(count)]

def with_place(held, expected):
    # Wait until as many as expected have their place; a moment more shows whether others get one too.
    ends = time.monotonic() + 30
    while True:
        found = [group for group in held if placement_group_table(group)["state"] == "CREATED"]
        if len(found) >= expected or time.monotonic() > ends:
            time.sleep(0.3)
            return [group for group in held if placement_group_table(group)["state"] == "CREATED"]
        time.sleep(0.05)

def put_back(held):
    for group in held:
        remove_placement_group(group)
    while ray.available_resources().get("GPU", 0) < 4:
        time.sleep(0.05)

facts = {"shares": []}
ray.init("local", num_cpus=2, num_gpus=4, include_dashboard=False, log_to_driver=False)
for number, (share, expected) in enumerate(json.loads(sys.argv[2])):
    held = groups(share, expected + 1)
    placed = with_place(held, expected)
    tasks = [
        see.options(num_cpus=0.1, num_gpus=share, scheduling_strategy=In(group)).remote(number, i, expected)
        for i, group in enumerate(placed)
    ]
    seen = ray.get(tasks, timeout=200)
    remove_placement_group(placed[0])
    placed_then = with_place([group for group in held if group is not placed[0]], expected)
    at_once = Cluster.connected().at_once(Request(0.1, share))
    facts["shares"].append({"at_once": at_once, "placed": len(placed), "after_one": len(placed_then), "seen": seen})
    put_back(held)
facts["at_once_with_few_cpus"] = Cluster.connected().at_once(Request(0.5, 0.25))

quarter, whole = with_place(groups(0.25, 1), 1), groups(1, 4)
facts["whole_beside_a_quarter"] = len(with_place(whole, 3))
remove_placement_group(*quarter)
facts["whole_after_the_quarter"] = len(with_place(whole, 4))
ray.shutdown()
(PLACE / "facts.json").write_text(json.dumps(facts))
"""
OF_ONE = {0.25: 4, 0.3: 3, 0.5: 2, 0.6: 1, 1: 1}  # the trials that a card serves; the rest of it serves nobody


@pytest.fixture(scope="module")
def held():
    facts = run_apart(HOLD, [(share, 4 * count) for share, count in OF_ONE.items()])
    return facts | {"shares": dict(zip(OF_ONE, facts["shares"], strict=True))}


@pytest.mark.parametrize(("share", "of_one"), OF_ONE.items())
def test_as_many_trials_have_a_place_as_the_cards_have_shares_and_no_more(held, share, of_one):
    found = held["shares"][share]
    assert found["at_once"] == found["placed"] == found["after_one"] == 4 * of_one


@pytest.mark.parametrize(("share", "of_one"), OF_ONE.items())
def test_trials_that_fill_the_cards_at_the_same_time_see_one_card_each(held, share, of_one):
    assert sorted(held["shares"][share]["seen"]) == sorted("0123" * of_one)


def test_too_few_cpus_leave_shares_idle(held):
    assert held["at_once_with_few_cpus"] == 4


def test_a_whole_card_is_one_that_nobody_has_a_share_of(held):
    assert held["whole_beside_a_quarter"] == 3
    assert held["whole_after_the_quarter"] == 4


# Trials say where they are, then wait for as many as are to train at the same time, and a moment more for one too many.
TRAIN = """
import json, os, sys, time
from pathlib import Path
import ray, raymnist
from raymnist.sweep import search
from raymnist.sweep.trainable import StudyTrainable

PLACE, ASKED = Path(sys.argv[1]), json.loads(sys.argv[2])

class Watched(StudyTrainable):
    def setup(self, config, **given):
        self.alive_from = time.time()
        super().setup(config, **given)

    def step(self):
        from raymnist.training import devices

        study, share, begun, ends = self.place.name, self.config["request"]["gpus"], time.time(), time.monotonic() + 120
        (PLACE / f"{self.trial_name}.is.there").touch()
        while len(list(PLACE.glob(f"{study}-*.is.there"))) < ASKED["at_once"][study]:
            if time.monotonic() > ends or (PLACE / "too.late").exists():
                (PLACE / "too.late").touch()  # for all that follow
                raise TimeoutError("fewer trials at the same time than expected")
            time.sleep(0.05)
        time.sleep(1)
        result = super().step()
        seen = {
            "study": study, "trial_id": self.trial_name, "pid": os.getpid(), "share": share, "begun": begun,
            "card": os.environ["CUDA_VISIBLE_DEVICES"], "alive_from": self.alive_from, "ended": time.time(),
            "limit": devices.memory_limit(share, devices.card_memory()) if share < 1 else None,
        }
        (PLACE / f"{self.trial_name}.seen").write_text(json.dumps(seen))
        return result

search.StudyTrainable = Watched
(PLACE / "cards.yaml").write_text(json.dumps(ASKED["experiment"]))
ray.init("local", num_cpus=2, num_gpus=4, include_dashboard=False, log_to_driver=False)
results = raymnist.run(PLACE / "cards.yaml", results=PLACE)
ray.shutdown()
columns = ["study", "trial_id", "status", "pid", "cuda_visible_devices", "error"]
facts = {
    "trials": results.trials[columns].to_dict("records"),
    "seen": [json.loads(path.read_text()) for path in sorted(PLACE.glob("*.seen"))],
}
(PLACE / "facts.json").write_text(json.dumps(facts))
"""


def trained(studies, **variables):
    """Train studies of (share, trials, at once), one after the other; returns the trials' rows and what workers saw."""
    written = {
        name: {
            "model": {"name": "conv_autoencoder", "latent_dim": {"choice": [2, 3]}, "filters": 2},
            "train": {"epochs": 1, "batch_size": 45},
            "sweep": {"trials": trials},
            "resources": {"cpus": 0.1, "gpus": share, "max_concurrent": at_once},
        }
        for name, (share, trials, at_once) in studies.items()
    }
    dataset = {"name": "digits", "limit": 100}
    asked = {
        "experiment": {"name": "cards", "dataset": dataset, "studies": written, "evaluation": None},
        "at_once": {name: at_once for name, (_, _, at_once) in studies.items()},
    }
    facts = run_apart(TRAIN, asked, **variables)
    return pd.DataFrame(facts["trials"]), pd.DataFrame(facts["seen"])


def most(spans):
    """Add up what (from, until, amount) have in common; returns the most at any moment."""
    changes = [change for begin, end, amount in spans for change in ((begin, amount), (end, -amount))]
    return max(itertools.accumulate(amount for _, amount in sorted(changes)))


def check(studies, trials, seen):
    """Hold what was seen against what the cards have; at no moment a card served more than itself."""
    assert list(trials["status"]) == ["finished"] * sum(count for _, count, _ in studies.values()), trials["error"]
    table, by_workers = trials.set_index("trial_id"), seen.set_index("trial_id")
    assert dict(table["cuda_visible_devices"]) == dict(by_workers["card"])
    assert dict(table["pid"]) == dict(by_workers["pid"])
    assert seen["card"].str.fullmatch(r"\d").all()  # one each
    # A process holds its share from its start to the end of its last trial, between two of them too.
    lives = seen.groupby("pid").agg({"card": "first", "share": "first", "alive_from": "first", "ended": "max"})
    for _, on_card in lives.groupby("card"):
        assert most(on_card[["alive_from", "ended", "share"]].itertuples(index=False)) <= 1
    for name, (share, _, at_once) in studies.items():
        of_study = seen[seen["study"] == name]
        spans = [(begun, ended, 1) for begun, ended in zip(of_study["begun"], of_study["ended"], strict=True)]
        assert most(spans) == at_once
        if share < 1:
            limits = [int(share * (10_000 + 1_000 * int(card))) - devices.CONTEXT for card in of_study["card"]]
            assert list(of_study["limit"]) == limits


def test_a_study_of_quarters_then_one_of_whole_cards_keep_to_their_shares_and_to_max_concurrent():
    """There is room for sixteen and for four; the last trial of each study waits for another's end."""
    studies = {"quarters": (0.25, 3, 2), "whole": (1, 3, 2)}
    check(studies, *trained(studies))


@pytest.mark.long
def test_trials_fill_the_cards_that_ray_was_shown_by_quarters_halves_and_ones():
    studies = {"quarters": (0.25, 9, 8), "halves": (0.5, 9, 8), "whole": (1, 5, 4)}
    trials, seen = trained(studies, CUDA_VISIBLE_DEVICES="4,5,6,7")
    check(studies, trials, seen)
    for name in ("halves", "whole"):
        assert set(seen[seen["study"] == name]["card"]) == set("4567")


CARDS = {  # MB, as nvidia-smi has them
    "T4": 15_360,
    "A10G": 23_028,
    "L4": 23_034,
    "A100 40 GB": 40_960,
    "L40S": 46_068,
    "H100": 81_559,
    "A100 80 GB": 81_920,
}


@pytest.mark.parametrize("total", CARDS.values(), ids=CARDS)
def test_equal_shares_of_a_card_and_what_cuda_takes_for_each_fill_it_to_the_last_megabytes(total):
    for count in range(1, 17):
        left = total - count * (devices.memory_limit(1 / count, total) + devices.CONTEXT)
        assert 0 <= left < count
    for share in (0.3, 0.4, 0.6):  # of which a card serves fewer than it could hold
        assert int(1 / share) * (devices.memory_limit(share, total) + devices.CONTEXT) <= total


@pytest.mark.parametrize("total", CARDS.values(), ids=CARDS)
def test_a_share_that_is_no_more_than_cuda_takes_is_refused(total):
    smallest = (devices.CONTEXT + 1) / total
    assert devices.memory_limit(smallest + 1e-6, total) == 1
    with pytest.raises(ValueError, match=rf"gpus: 0\.0\d+ of a card of {total} MB leaves nothing beside the 600 MB"):
        devices.memory_limit(devices.CONTEXT / total, total)


def test_the_documented_limits_are_those_of_the_function():
    rows = re.findall(r"^\| ([\w ]+?) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE.read_text(), re.M)
    numbers = {name: [int(cell.replace(",", "")) for cell in cells] for name, *cells in rows}
    assert numbers == {
        name: [total, *(devices.memory_limit(share, total) for share in (0.5, 0.33, 0.25))]
        for name, total in CARDS.items()
    }


# TensorFlow is told that there is a card. All else is its own: what it would hand to its runtime is asked of it.
CLAIM = """
import json, os, sys
from pathlib import Path
from tensorflow.python.eager import context
import tensorflow as tf
from raymnist.training import devices

PLACE = Path(sys.argv[1])
context.pywrap_tfe.TF_ListPhysicalDevices = lambda: [b"/physical_device:CPU:0", b"/physical_device:GPU:0"]
facts = []
for cpus, share, card in json.loads(sys.argv[2]):
    context._reset_context()
    os.environ["CUDA_VISIBLE_DEVICES"] = card
    try:
        devices.claim(cpus, share)
    except ValueError as error:
        facts.append(str(error))
        continue
    (device,) = tf.config.list_physical_devices("GPU")
    limits = tf.config.get_logical_device_configuration(device)
    told = context.context().config
    facts.append({
        "visible": len(tf.config.get_visible_devices("GPU")),
        "limits": [limit.memory_limit for limit in limits or []],
        "told": [limit for found in told.gpu_options.experimental.virtual_devices for limit in found.memory_limit_mb],
        "grows": told.gpu_options.allow_growth,
        "threads": told.intra_op_parallelism_threads,
        "card": os.environ["CUDA_VISIBLE_DEVICES"],
        "order": os.environ["CUDA_DEVICE_ORDER"],
    })
asked = (PLACE / "nvidia-smi.log").read_text().split("\\n")[:-1]
(PLACE / "facts.json").write_text(json.dumps({"claims": facts, "asked": [line.split()[0] for line in asked]}))
"""


def test_a_process_limits_tensorflow_to_its_share_of_the_card_that_it_was_given():
    """A whole card has no limit, so that the driver is not asked; a trial without a share sees no card."""
    facts = run_apart(CLAIM, [[2, 0.25, "3"], [0.1, 0.5, "0"], [1, 1, "1"], [1, 0, "1"], [1, 0.05, "2"]])
    *claims, too_little = facts["claims"]
    assert {claim.pop("order") for claim in claims} == {"PCI_BUS_ID"}  # as nvidia-smi counts them
    quarter, half, whole, none = claims
    assert quarter == {"visible": 1, "limits": [2650], "told": [2650], "grows": False, "threads": 2, "card": "3"}
    assert half == {"visible": 1, "limits": [4400], "told": [4400], "grows": False, "threads": 1, "card": "0"}
    assert whole == {"visible": 1, "limits": [], "told": [], "grows": True, "threads": 1, "card": "1"}
    assert none == {"visible": 0, "limits": [], "told": [], "grows": False, "threads": 1, "card": "-1"}
    assert too_little == "gpus: 0.05 of a card of 12000 MB leaves nothing beside the 600 MB of CUDA's own"
    assert facts["asked"] == ["--id=3", "--id=0", "--id=2"]
