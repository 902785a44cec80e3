"""A cluster by deploy/on_premise.yaml on hosts of this machine; in the order of a cluster's life."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import PLACE, PREFIX, ROOT, Cluster, Hosts, child_of, missing, processes_of, until

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
    """A cluster of three hosts, which is up; nothing is left of it afterwards."""
    if reason := missing():
        pytest.skip(reason)
    with Hosts(3) as hosts:
        spaces = namespaces(hosts.first.values())
        assert len(spaces) == len(KINDS) * len(hosts.first)  # none is shared,
        assert not spaces & namespaces(["self"])  # least of all with the machine
        cluster = Cluster(hosts)
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
    assert cluster.alive() == {"host-1", "host-2", "host-3"}


def test_a_job_from_the_desk_runs_on_all_hosts(cluster):
    finished = submit(cluster, HOSTNAMES)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "hostnames: host-1 host-2 host-3\n" in finished.stdout


@pytest.mark.parametrize("environment", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "wrong"}], ids=str)
def test_without_the_token_no_job_is_taken(cluster, environment):
    finished = submit(cluster, "print('taken')", **environment)
    assert finished.returncode != 0
    assert "uthenticat" in finished.stdout + finished.stderr
    assert "taken" not in finished.stdout
    token = environment.get("RAY_AUTH_TOKEN", "")
    assert cluster.request("/api/jobs/", token=token)[0] in (401, 403)
    assert cluster.request("/api/jobs/")[0] == 200


def test_ray_down_ends_the_head_and_the_next_line_of_the_file_the_workers(cluster):
    hosts = cluster.hosts
    cluster.down()
    assert ray_on(hosts, "host-1") == []
    assert ray_on(hosts, "host-2") != []
    (line,) = re.findall(r"^#   (for host in .*)", (ROOT / "deploy/on_premise.yaml").read_text(), re.M)
    hosts.desk(line.replace("ubuntu@", "-o StrictHostKeyChecking=accept-new "))
    assert ray_on(hosts, "host-2") + ray_on(hosts, "host-3") == []
