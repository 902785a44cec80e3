"""A run's numbers as Ray metrics; that Prometheus has them is seen in tests/test_dashboard.py."""

import pytest
from conftest import a_trial
from ray.util.metrics import Gauge

from raymnist.sweep import gauges
from raymnist.sweep.gauges import GAUGES, Gauges, Tally


@pytest.fixture
def sent(monkeypatch):
    """What is set, in its order, on the way to Ray's own recording."""
    found, record = [], Gauge.set

    def set_and_note(self, value, tags=None):
        found.append((self.info["name"], tuple(sorted(tags.items())), value))
        record(self, value, tags)

    monkeypatch.setattr(Gauge, "set", set_and_note)
    return found


def test_a_look_at_a_trial_is_split_into_losses_and_scores(ray_session, sent):
    row = {"epoch": 4, "loss": 0.5, "val_loss": 0.6, "fid": 9.0, "seconds": 1.0, "images_per_second": 100.0}
    with Gauges("mine") as run:
        run.look(a_trial("conv_autoencoder"), row)
    of = (("experiment", "mine"), ("study", "study"), ("trial", "study-00"))
    assert set(sent) == {
        ("raymnist_epoch", of, 4),
        ("raymnist_images_per_second", of, 100.0),
        ("raymnist_loss", (of[0], ("loss", "loss"), *of[1:]), 0.5),
        ("raymnist_loss", (of[0], ("loss", "val_loss"), *of[1:]), 0.6),
        ("raymnist_score", (of[0], ("score", "fid"), *of[1:]), 9.0),
    }


def test_all_are_set_again_and_again_until_the_run_ends(ray_session, sent, monkeypatch):
    monkeypatch.setattr(gauges, "SECONDS", 0.01)
    with Gauges("mine") as run:
        run.set("raymnist_trials", 3, study="gan", status="finished")
        tally = run.stage("points")
        tally.pieces = 4
        for done in range(4):
            tally.done = done
            count = len(sent)
            while len(sent) < count + 4:
                run.is_over.wait(0.001)
        tally.done = 4
    shares = [value for name, _, value in sent if name == "raymnist_stage_progress"]
    assert shares == sorted(shares)
    assert {0.25, 0.5, 0.75} <= set(shares)
    assert sent[-1] == ("raymnist_stage_progress", (("experiment", "mine"), ("stage", "points")), 1.0)
    assert [value for name, _, value in sent if name == "raymnist_trials"] == [3] * len(shares)
    assert not run.thread.is_alive()


def test_a_tally_counts_what_nobody_tells_it_of():
    tally = Tally()
    assert tally.share == 0
    files = ["a"]
    tally.pieces, tally.counted = 2, lambda: len(files)
    assert tally.share == 0.5
    files += ["b", "c"]
    assert tally.share == 1


def test_the_documents_name_every_gauge():
    from test_docs import ROOT

    text = (ROOT / "docs" / "dashboard.md").read_text()
    board = (ROOT / "deploy" / "grafana" / "raymnist.json").read_text()
    for name, (_, tags) in GAUGES.items():
        assert f"| `ray_{name}` | {', '.join(tags)} |" in text
        assert f"ray_{name}{{" in board
