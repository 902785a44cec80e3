"""A cluster by deploy/on_premise.yaml on hosts of this machine; in the order of a cluster's life."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hosts import PLACE, PREFIX, ROOT, Cluster, Hosts, child_of, missing, processes_of, step, until

import raymnist

pytestmark = pytest.mark.cluster

HOSTNAMES = """
import socket
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

@ray.remote
def hostname():
    return socket.gethostname()

ray.init()
there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
print("hostnames:", *sorted(ray.get([hostname.options(scheduling_strategy=node).remote() for node in there])))
"""
EPOCHS = 70
SWEEP = f"""
name: sweep
dataset: {{name: digits, limit: 300}}
studies:
  autoencoder:
    model: {{name: conv_autoencoder, latent_dim: {{choice: [4, 8]}}, filters: 4}}
    train: {{epochs: 2, batch_size: 32, learning_rate: {{loguniform: [1e-3, 1e-2]}}}}
    sweep: {{trials: 2}}
    resources: {{gpus: 0}}
  gan:
    model: {{name: conv_gan, latent_dim: {{choice: [4, 8]}}, generator_filters: 4, discriminator_filters: 4}}
    train: {{epochs: {EPOCHS}, batch_size: 32, learning_rate: {{loguniform: [1e-3, 1e-2]}}}}
    sweep: {{trials: 6, every: 2, images: 100}}
    resources: {{gpus: 0}}
evaluation:
  images: 300
  fakes: 1500
  scored_images: 100
  reducers: [none, {{pca: {{dims: 3}}}}]
"""
# A lost host is noticed within some 10 s; by Ray's own settings it would be a minute. Nor does Ray fold alike lines of
# several hosts into one, as the log is asked for what a host trains.
SETTINGS = {
    "RAY_DEDUP_LOGS": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "AUTOSCALER_HEARTBEAT_TIMEOUT_S": "10",
}
KINDS = ("net", "pid", "mnt", "uts")


def namespaces(processes):
    return {Path(f"/proc/{process}/ns/{kind}").readlink().name for process in processes for kind in KINDS}


def left_of(hosts, spaces):
    """List what there is of hosts that should be gone."""
    running = []
    for file in Path("/proc").glob("[0-9]*"):
        try:
            running += [f"{file}: {space}" for space in namespaces([file.name]) & spaces]
        except OSError:
            continue  # it ended meanwhile
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(hosts) in line]
    links = [link for link in Path("/sys/class/net").iterdir() if link.name.startswith(("br0", "host-", "desk"))]
    return running + mounts + links + processes_of(hosts) + list(PLACE.glob(f"{hosts.name}*"))


def ray_on(hosts, host):
    """List Ray's processes on a host."""
    lines = hosts.run(host, "ps -e -o args=").stdout.splitlines()
    return [line for line in lines if "/ray/" in line or line.startswith("ray::")]


@pytest.fixture(scope="module")
def cluster():
    """A cluster of four hosts, which is up; nothing is left of it afterwards."""
    if reason := missing():
        pytest.skip(reason)
    with Hosts(4) as hosts:
        spaces = namespaces(hosts.first.values())
        assert len(spaces) == len(KINDS) * len(hosts.first)  # none is shared,
        assert not spaces & namespaces(["self"])  # least of all with the machine
        cluster = Cluster(hosts, **SETTINGS)
        cluster.up()
        yield cluster
    assert left_of(hosts.folder, spaces) == []


@pytest.fixture
def hosts():
    if reason := missing():
        pytest.skip(reason)
    with Hosts(2) as hosts:
        yield hosts


def test_a_cut_host_is_mended_and_a_killed_one_is_gone(hosts):
    ssh = "ssh -o ConnectTimeout=1 -o ServerAliveInterval=1 -o ServerAliveCountMax=1 host-1 hostname"
    hosts.cut("host-1")
    assert hosts.desk(ssh, check=False).returncode == 255
    assert hosts.run("host-1", "hostname").stdout == "host-1\n"
    hosts.mend("host-1")
    until(lambda: hosts.desk(ssh, check=False).stdout == "host-1\n", "ssh to the mended host", 20)
    spaces = namespaces([hosts.first["host-1"]]) - namespaces(["self"])
    hosts.kill("host-1")
    assert hosts.desk(ssh, check=False).returncode == 255
    assert not any(spaces & namespaces([first]) for first in hosts.first.values())


def test_what_is_started_at_the_desk_can_be_interrupted(hosts):
    sleeper = hosts.start("desk", "echo begun; exec sleep 100")
    with sleeper:
        assert sleeper.stdout.readline() == "begun\n"
        os.kill(child_of(sleeper.pid), signal.SIGINT)
        assert sleeper.wait(10) != 0


def test_hosts_whose_owner_is_killed_are_gone_and_their_folder_goes_with_the_next():
    if reason := missing():
        pytest.skip(reason)
    program = "import hosts, signal; own = hosts.Hosts(1).__enter__(); print(own.folder, flush=True); signal.pause()"
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True) as owner:
        folder = next(Path(line.strip()) for line in owner.stdout if line.startswith(f"{PLACE}/{PREFIX}"))
        spaces = set().union(*(namespaces([process]) for process in processes_of(folder))) - namespaces(["self"])
        assert spaces
        owner.kill()
    until(lambda: left_of(folder, spaces) == [folder], "of the killed owner's hosts only the folder is left", 10)
    with Hosts(1):
        assert not folder.exists()


def submit(cluster, script, **environment):
    """Submit a script from the desk; returns the finished `ray job submit`."""
    file = cluster.hosts.shared / "script.py"
    file.write_text(script)
    command = f"ray job submit --address http://{cluster.address} -- python {file}"
    return cluster.hosts.desk(command, check=False, **environment)


def test_ray_up_starts_all_hosts(cluster):
    assert cluster.alive() == {"host-1", "host-2", "host-3", "host-4"}


def test_a_job_from_the_desk_runs_on_all_hosts(cluster):
    finished = submit(cluster, HOSTNAMES)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "hostnames: host-1 host-2 host-3 host-4\n" in finished.stdout


@pytest.mark.parametrize("environment", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "wrong"}], ids=str)
def test_without_the_token_no_job_is_taken(cluster, environment):
    finished = submit(cluster, "print('taken')", **environment)
    assert finished.returncode != 0
    assert "uthenticat" in finished.stdout + finished.stderr
    assert "taken" not in finished.stdout
    token = environment.get("RAY_AUTH_TOKEN", "")
    assert cluster.request("/api/jobs/", token=token)[0] in (401, 403)
    assert cluster.request("/api/jobs/")[0] == 200


def trains_on(folder, address, most):
    """Find a trial that a host has trained some epochs of, and has not trained to its end, by the run's log."""
    log = (folder / "log.txt").read_text() if (folder / "log.txt").is_file() else ""
    last = dict(re.findall(rf"ip={re.escape(address)}\).* (gan-\d+) epoch (\d+) of", log))
    ended = {path.parent.name for path in folder.glob("studies/gan/*/status.json")}
    return next((name for name, epoch in last.items() if 4 < int(epoch) < most and name not in ended), None)


def test_storage_that_the_hosts_do_not_share_is_refused_in_one_line(cluster):
    """Each host has a /tmp of its own."""
    command = f"raymnist submit quickstart --head http://{cluster.address} --results /tmp/results"
    finished = cluster.hosts.desk(command, check=False)
    assert finished.returncode == 2, finished.stdout + finished.stderr
    line = (
        r"^raymnist: /tmp/results/quickstart: expected a folder that all nodes share, as trials on any of them write "
        r"there; node 192\.0\.2\.1[123] does not see it; name one that they share with --results$"
    )
    assert re.search(line, finished.stdout, re.MULTILINE), finished.stdout
    assert "Traceback" not in finished.stdout


def test_a_host_that_is_cut_off_and_one_that_is_killed_cost_no_trial_and_no_epoch(cluster, tmp_path):
    hosts = cluster.hosts
    file, folder = hosts.shared / "sweep.yaml", hosts.shared / "results" / "sweep"
    file.write_text(SWEEP)
    line = f"raymnist submit {file} --head http://{cluster.address} > {hosts.shared}/said 2>&1"
    with hosts.start("desk", line) as job, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(lambda: print((hosts.shared / "said").read_text()))
        at_the_end.callback(job.kill)  # else a failure would wait for it
        with step("host-2 trains"):
            until(lambda: trains_on(folder, hosts.addresses["host-2"], EPOCHS / 2), "a trial trains on host-2", 180)
        lost = [trains_on(folder, hosts.addresses["host-2"], EPOCHS)]
        hosts.cut("host-2")
        with step(f"host-2 {hosts.addresses['host-2']} is cut off in the midst of {lost[0]}, and that is noticed"):
            until(lambda: "host-2" not in cluster.alive(), "the head gives host-2 up")
        hosts.mend("host-2")
        until(lambda: trains_on(folder, hosts.addresses["host-3"], EPOCHS / 2), "a trial trains on host-3", 180)
        lost.append(trains_on(folder, hosts.addresses["host-3"], EPOCHS))
        hosts.kill("host-3")
        with step(f"host-3 {hosts.addresses['host-3']} is killed in the midst of {lost[1]}; the run ends"):
            status = job.wait(400)
    said = (hosts.shared / "said").read_text()
    assert status == 0, said
    assert f"results lie in {folder} on host-1\nthis machine shares them: raymnist show {folder}\n" in said
    for name in lost:
        assert re.search(rf"^gan: going on with what lost its worker or node: .*{name}", said, re.MULTILINE)
    results = raymnist.open(folder)
    assert results.manifest["status"] == "complete"
    assert set(results.trials["status"]) == {"finished"}
    where = results.trials.set_index("trial_id")["hostname"]
    assert {"host-1", "host-4"} <= set(where) <= {f"host-{number}" for number in (1, 2, 3, 4)}
    assert where[lost[1]] != "host-3"
    # Each epoch was trained once; with their checkpoints, the lost trials went on where they were.
    epochs = re.findall(r"^(gan-\d+) epoch (\d+) of", said, re.MULTILINE)
    assert len(set(epochs)) == len(epochs)
    for _, history in results.history.groupby("trial_id"):
        assert history["epoch"].to_list() == [*range(1, len(history) + 1)]
    used = [int(count) for count in re.findall(r"; (\d+) nodes used", results.folder.log.read_text())]
    assert max(used) > 1, used  # by Ray Data, for the embedding
    with step("the same on one machine"):
        alone = raymnist.run(file, results=tmp_path)
    pd.testing.assert_frame_equal(results.table, alone.table, rtol=1e-6)
    timings = ["seconds", "scoring_seconds", "images_per_second"]
    pd.testing.assert_frame_equal(results.history.drop(columns=timings), alone.history.drop(columns=timings), rtol=1e-6)


def test_ray_down_ends_the_head_and_the_next_line_of_the_file_the_workers(cluster):
    hosts = cluster.hosts
    cluster.down()
    assert ray_on(hosts, "host-1") == []
    assert ray_on(hosts, "host-2") != []
    (line,) = re.findall(r"^#   (for host in .*)", (ROOT / "deploy/on_premise.yaml").read_text(), re.M)
    workers = [host for host in hosts.first if host.startswith("host-") and host != "host-1"]  # without the killed one
    line = line.replace("192.0.2.11 192.0.2.12", " ".join(hosts.addresses[host] for host in workers))
    hosts.desk(line.replace("ubuntu@", "-o StrictHostKeyChecking=accept-new "))
    assert [ray_on(hosts, host) for host in workers] == [[]] * len(workers)
