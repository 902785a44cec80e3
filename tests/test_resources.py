"""What a trial asks for is held against what each node has, or may have."""

import os
import signal
import subprocess
import sys

import pytest
from sweeps import study_with, tune

from raymnist.config import Resources
from raymnist.errors import InputError
from raymnist.folder import Folder
from raymnist.sweep.resources import Cluster, Request
from raymnist.training import devices

SMALL, LARGE, CARD = {"CPU": 2}, {"CPU": 16}, {"CPU": 8, "GPU": 2}
TYPED = {"CPU": 8, "GPU": 2, "accelerator_type:A100": 1, "licence": 3}


@pytest.mark.parametrize(
    ("asked", "nodes", "settled", "at_once"),
    [
        (Resources(), [SMALL], Request(1, 0), 2),
        (Resources(), [SMALL, CARD], Request(1, 1), 2),
        (Resources(gpus=0), [SMALL, CARD], Request(1, 0), 10),
        (Resources(gpus=0.5), [CARD], Request(1, 0.5), 4),
        (Resources(cpus=3, gpus=0.25), [CARD, CARD], Request(3, 0.25), 4),
        (Resources(cpus=0.5), [SMALL], Request(0.5, 0), 4),
        (Resources(cpus=1, gpus=0.2), [CARD], Request(1, 0.2), 8),
        (Resources(cpus=0.1, gpus=0.2), [CARD], Request(0.1, 0.2), 10),
        (Resources(cpus=1, gpus=0.6), [CARD], Request(1, 0.6), 2),
        (Resources(cpus=0.28), [{"CPU": 7}], Request(0.28, 0), 25),
        (Resources(cpus=12), [LARGE, CARD], Request(12, 0), 1),
        (Resources(accelerator="A100"), [CARD, TYPED], Request(1, 1, {"accelerator_type:A100": 0.001}), 2),
        (Resources(gpus=0, custom={"licence": 1.5}), [LARGE, TYPED], Request(1, 0, {"licence": 1.5}), 2),
    ],
)
def test_requests_are_fitted_to_each_node(asked, nodes, settled, at_once):
    cluster = Cluster(nodes)
    assert cluster.settle("studies.gan", asked) == settled
    assert cluster.at_once(settled) == at_once
    assert cluster.warning("gan", settled) is None


@pytest.mark.parametrize(
    ("asked", "nodes", "line"),
    [
        (Resources(cpus=4), [SMALL, SMALL], "studies.gan.resources.cpus: expected at most 2, .* received 4"),
        (Resources(gpus=1), [SMALL, LARGE], "studies.gan.resources.gpus: expected at most 0, .* received 1"),
        (Resources(cpus=12, gpus=1), [LARGE, CARD], "studies.gan.resources: no node has all of 12 CPU and 1 GPU"),
        (Resources(accelerator="H100"), [CARD, TYPED], r"resources\.accelerator: expected one of A100, received H100"),
        (Resources(accelerator="H100"), [CARD], r"accelerator: expected one of a type that a node has; none has any"),
        (Resources(custom={"big": 1}), [TYPED], r"resources\.custom\.big: expected at most 0, .* received 1"),
    ],
)
def test_a_request_that_no_node_can_hold_is_refused(asked, nodes, line):
    with pytest.raises(InputError, match=line):
        Cluster(nodes).settle("studies.gan", asked)


def test_an_autoscaler_turns_a_refusal_into_a_warning_where_it_may_bring_the_node():
    types = [{"CPU": 4}, {"CPU": 8, "GPU": 1, "accelerator_type:A100": 1}]
    cluster = Cluster([SMALL], types)
    wanted = cluster.settle("studies.gan", Resources(cpus=8))
    assert wanted == Request(8, 1)  # auto: such a node has a GPU
    assert cluster.at_once(wanted) == 0
    assert cluster.warning("gan", wanted) == (
        "studies.gan.resources: no node holds 8 CPU and 1 GPU now; trials wait for one that the autoscaler will add"
    )
    with pytest.raises(InputError, match=r"gan\.resources\.cpus: expected at most 8, .* received 9"):
        cluster.settle("studies.gan", Resources(cpus=9))
    unknown = Cluster([SMALL], [{}])
    assert "may, or may not, add" in unknown.warning("gan", unknown.settle("studies.gan", Resources(cpus=9)))
    with pytest.raises(InputError, match="expected at most 2"):
        Cluster([SMALL], []).settle("studies.gan", Resources(cpus=9))


def test_four_half_gpu_trials_run_two_to_a_gpu(ray_session, digits, tmp_path):
    experiment = study_with(tmp_path, {"studies.gan.sweep.trials": 4, "studies.gan.train.epochs": 1})
    outcomes, told = tune(experiment, digits, Folder(tmp_path / "r"), Request(0.5, 0.5))
    assert [o.status for o in outcomes] == ["finished"] * 4
    assert sorted(o.ran_on["cuda_visible_devices"] for o in outcomes) == ["0", "0", "1", "1"]
    assert told.epochs == 4


def test_trials_follow_each_other_in_one_process_where_no_two_may_train_at_the_same_time(ray_session, digits, tmp_path):
    """A process per trial would import TensorFlow for each. It sees no GPU, though Ray hides none."""
    sets = {"studies.gan.sweep.trials": 3, "studies.gan.train.epochs": 1, "studies.gan.resources.max_concurrent": 1}
    outcomes, _ = tune(study_with(tmp_path, sets), digits, Folder(tmp_path / "r"), Request(1, 0))
    assert [o.status for o in outcomes] == ["finished"] * 3
    assert len({o.ran_on["pid"] for o in outcomes}) == 1
    assert {o.ran_on["cuda_visible_devices"] for o in outcomes} == {"-1"}


def test_the_shares_of_a_card_fit_on_it():
    for shares in (2, 3, 4):
        taken = shares * (devices.memory_limit(1 / shares, 24_000) + devices.CONTEXT)
        assert 24_000 - shares < taken <= 24_000
    with pytest.raises(ValueError, match=r"0\.02 of a card of 24000 MB leaves nothing beside the 600 MB"):
        devices.memory_limit(0.02, 24_000)


def test_the_memory_of_a_card_is_asked_of_its_driver(tmp_path, monkeypatch):
    """By the identity that Ray gives a worker; a script stands in the driver's place, as there is no card here."""
    script = tmp_path / "nvidia-smi"
    script.write_text('#!/bin/sh\n[ "$1" = --id=GPU-12 ] && [ "$2" = --query-gpu=memory.total ] && echo 81559\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-12,GPU-13")
    assert devices.card_memory() == 81559


ADDS_NODES = """
cluster_name: fake
max_workers: 3
provider: {type: external, module: ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider,
  gcs_address: "127.0.0.1:7100", use_node_id_as_ip: true, disable_node_updaters: true,
  disable_launch_config_check: true}
head_node_type: head
available_node_types:
  head: {resources: {CPU: 1}, node_config: {}, max_workers: 0}
  large: {resources: {CPU: 4, GPU: 1, "accelerator_type:A100": 1}, node_config: {}, min_workers: 0, max_workers: 2}
upscaling_speed: 1.0
"""
PARTS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
NAMES = ("cluster_synced_files", "rsync_exclude", "rsync_filter", *(f"{part}_commands" for part in PARTS))
MAPPINGS = {"auth": "{}", "docker": "{}", "file_mounts": "{}", "file_mounts_sync_continuously": "false"}
MUST_BE_THERE = MAPPINGS | dict.fromkeys(NAMES, "[]")
ASK = """
import json, ray
from raymnist.sweep.autoscaler import node_types
ray.init("127.0.0.1:7100", log_to_driver=False)
print(json.dumps(node_types()))
"""
# In a network of its own, of which a head listens on the loopback alone, and all of whose processes end with it.
APART = ["unshare", "-n", "-p", "-f", "--mount-proc", "--kill-child", "bash", "-c"]
LOOPBACK_UP = (
    "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14s', b'lo', 0x41, b''))"
)
CAN_BE_APART = subprocess.run([*APART, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not CAN_BE_APART, reason="this machine allows no network namespaces, which need root")
@pytest.mark.parametrize("has_autoscaler", [True, False])
def test_the_types_of_nodes_that_an_autoscaler_may_add_are_known(has_autoscaler, tmp_path, aside):
    """The real one, with a provider of Ray's own whose nodes are processes."""
    extra = "".join(f"{key}: {value}\n" for key, value in MUST_BE_THERE.items())
    (tmp_path / "cluster.yaml").write_text(ADDS_NODES + extra)
    start = f"{sys.executable} -m ray.scripts.scripts start --head --port=7100 --num-cpus=1 --include-dashboard=false"
    start += f" --object-store-memory=100000000 --temp-dir={aside['TMPDIR']} --disable-usage-stats"
    start += f" --autoscaling-config={tmp_path / 'cluster.yaml'}" if has_autoscaler else ""
    (tmp_path / "ask.py").write_text(ASK)
    log, ask = tmp_path / "head.log", f"{sys.executable} {tmp_path / 'ask.py'}"
    script = f'{sys.executable} -c "{LOOPBACK_UP}"; {start} > {log} 2>&1; {ask}'
    settings = {"RAY_FAKE_CLUSTER": "1", "RAY_AUTH_MODE": "disabled", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    with subprocess.Popen(
        [*APART, script], env=os.environ | settings, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        try:
            told, _ = running.communicate(timeout=120)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    expected = r'[{"CPU": 4, "GPU": 1, "accelerator_type:A100": 1}]' if has_autoscaler else "null"
    assert told.splitlines()[-1] == expected, log.read_text()
