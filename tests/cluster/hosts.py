"""Hosts in namespaces on this one machine, and a Ray cluster on them, brought up as on machines one has.

All of them hang on a switch in a namespace of its own, so that the machine itself sees nothing of their network. What
runs on a host ends with the host's first process, and that with the process that made it, however it dies: only a
folder can be left behind, which the next `Hosts` removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PLACE, PREFIX = Path("/var/tmp"), "raymnist-hosts-"  # not in /tmp, as each host has a /tmp of its own
PATH = f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = {"unshare": "util-linux", "ip": "iproute2", "ps": "procps", "sshd": "openssh-server", "rsync": "rsync"}

# A host's first process: bash, as it reaps what has lost its parent, for which `ray stop` waits. The folders that are
# under /tmp and yet needed come back there.
FIRST_PROCESS = """
set -eu
own=$1 home=$2; shift 2
hostname "$(basename "$own")"
ip link set lo up
for folder in "$@"; do mkdir -p "$own$folder"; mount --rbind "$folder" "$own$folder"; done
mount --rbind "$own/tmp" /tmp
mount --bind "$own/home" "$home"
for file in "$own"/etc/*; do mount --bind "$file" "/etc/$(basename "$file")"; done
mount -t tmpfs -o size=1g tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/sshd
touch "$own/ready"
if [ -e "$own/sshd_config" ]; then "$(command -v sshd)" -D -e -f "$own/sshd_config"; else sleep infinity; fi
exit
"""
REQUEST = """
import http.client, sys
address, path, token = sys.argv[1:]
connection = http.client.HTTPConnection(address, timeout=20)
connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
answer = connection.getresponse()
print(answer.status, answer.read().decode(), sep="\\n")
"""


def missing() -> str | None:
    """Say in one line what this machine lacks for hosts; None if nothing."""
    if os.geteuid() != 0:
        return "hosts in namespaces need root"
    if absent := {package for tool, package in TOOLS.items() if not shutil.which(tool, path=PATH)}:
        return f"hosts in namespaces need the Debian packages {' '.join(sorted(absent))}"
    attempt = "mount -t tmpfs tmpfs /run && ip link add br0 type bridge && ip link add name p0 type veth peer name p1"
    words = ["unshare", "--fork", "--pid", "--mount-proc", "--uts", "--net", "--kill-child", "sh", "-c", attempt]
    tried = subprocess.run(words, env={"PATH": PATH}, capture_output=True, text=True, check=False)
    return f"hosts in namespaces are not permitted here: {tried.stderr.strip()}" if tried.returncode else None


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Print how long a step took."""
    start = time.monotonic()
    yield
    print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)


def child_of(process: int) -> int:
    """Find the one child of a process."""
    return int(Path(f"/proc/{process}/task/{process}/children").read_text())


def processes_of(folder: Path) -> list[int]:
    """List the processes that hold up the hosts of a folder; whatever runs on the hosts ends with them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if f"{folder}/".encode() in file.read_bytes():
                found.append(int(file.parent.name))
    return found


def remove_left_overs() -> None:
    """Remove the hosts whose owner is gone."""
    for folder in PLACE.glob(f"{PREFIX}*"):
        if not Path("/proc", folder.name.removeprefix(PREFIX).split("-")[0]).exists():
            for process in processes_of(folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)


class Hosts:
    """Hosts on one network with ssh and a shared folder between them, and a desk from where they are used.

    Each has a network, processes, a /tmp, a /dev/shm, a home folder and a name of its own; the rest is the machine's.
    They live no longer than the thread in which they are entered.
    """

    def __init__(self, count: int = 3):
        self.addresses = {f"host-{i + 1}": f"192.0.2.{i + 10}" for i in range(count)}
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=PLACE))
        self.shared = self.folder / "shared"  # the same folder under this path for all, and outside
        self.home = self.folder / "home"  # under this path another for each
        self.first: dict[str, int] = {}  # the first process of each, as seen from outside
        self._guards: dict[str, subprocess.Popen] = {}  # which wait for the first processes
        self.environment = {"HOME": str(self.home), "PATH": PATH, "USER": "root", "LOGNAME": "root", "LANG": "C.UTF-8"}
        self.environment |= {"TERM": "dumb", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}

    def __enter__(self) -> Hosts:
        remove_left_overs()
        try:
            with step(", ".join(f"{name} {address}" for name, address in self.addresses.items())):
                self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._guards):
            self._end(name)
        shutil.rmtree(self.folder)

    def run(
        self, host: str, command: str, *, seconds: float = 120, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a line of bash on a host, not by its network; if it fails or takes longer, an error shows its output."""
        command = f"timeout --kill-after=5 {seconds} bash -c {shlex.quote(command)}"
        words = self._words(host, command, environment)
        finished = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if check and finished.returncode:
            raise AssertionError(f"{host}: {command}: {finished.returncode}\n{finished.stdout}{finished.stderr}")
        return finished

    desk = partialmethod(run, "desk")

    def start(self, host: str, command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a line of bash on a host or the desk; signals for it go to `child_of(its pid)`, and `kill` ends it."""
        words, pipe = self._words(host, command, environment), subprocess.PIPE
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    def cut(self, host: str) -> None:
        """Pull a host's network plug."""
        self._ip("switch", f"link set {host} down")

    def mend(self, host: str) -> None:
        """Put the network plug in again."""
        self._ip("switch", f"link set {host} up")

    def kill(self, host: str) -> None:
        """Pull a host's power plug, for good."""
        self.cut(host)  # or the kernel would close its connections, and the others be told at once
        self._end(host)

    def temporary(self, host: str) -> Path:
        """Tell where a host's /tmp is seen from outside, also after its end."""
        return self.folder / host / "tmp"

    def log_of(self, host: str, name: str = "*") -> str:
        """Read the ends of a host's Ray logs, also after its end."""
        files = sorted(self.temporary(host).glob(f"ray/session_2*/logs/{name}"))
        return "".join(
            f"== {file.name}\n{file.read_text(errors='replace')[-5000:]}\n" for file in files if file.is_file()
        )

    def _build(self) -> None:
        self.shared.mkdir()
        self.home.mkdir()
        self._key("id_ed25519")
        for name in ("switch", "desk", *self.addresses):
            self._furnish(name)
            self._begin(name)
        self._ip("switch", "link add br0 type bridge", "link set br0 up", "address add 192.0.2.1/24 dev br0")
        for name, address in {"desk": "192.0.2.2", **self.addresses}.items():
            cable = f"link add name {name} type veth peer name eth0 netns {self.first[name]}"
            self._ip("switch", cable, f"link set {name} master br0 up")
            # Ray asks for the way to the internet to learn a host's address, so there has to be one.
            route = "route add default via 192.0.2.1"
            self._ip(name, f"address add {address}/24 dev eth0", "link set eth0 up", route)
        for name in self.addresses:
            login = f"ssh -o StrictHostKeyChecking=accept-new -o ConnectTimeout=2 {name} true"
            until(lambda login=login: self.desk(login, check=False).returncode == 0, f"ssh to {name}", 20)

    def _furnish(self, name: str) -> None:
        """Make a host's folder: its /tmp, its home, and those files of /etc that are its own."""
        own = self.folder / name
        for part in ("tmp", "etc", "home/.ssh"):
            (own / part).mkdir(parents=True)
        (own / "tmp").chmod(0o1777)
        (own / "home/.bashrc").write_text("export RAY_USAGE_STATS_ENABLED=0\n")
        (own / "home/.venv-raymnist").symlink_to(sys.prefix)
        users = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
        names = {"localhost": "127.0.0.1", "desk": "192.0.2.2", **self.addresses}
        etc = {
            "passwd": [f"root:x:0:0:root:{self.home}:/bin/bash", *users],
            "shadow": ["root:*:20000:0:99999:7:::"],
            "hosts": [f"{address} {host}" for host, address in names.items()],
            "nsswitch.conf": ["passwd: files", "group: files", "shadow: files", "hosts: files"],  # there is no DNS
        }
        for file, lines in etc.items():
            if Path("/etc", file).exists():
                (own / "etc" / file).write_text("\n".join(lines) + "\n")
        if name == "desk":
            shutil.copy(self.folder / "id_ed25519", own / "home/.ssh")
        elif name in self.addresses:
            shutil.copy(self.folder / "id_ed25519.pub", own / "home/.ssh/authorized_keys")
            settings = f"HostKey {self._key(f'{name}/host_key')}\nUsePAM no\nUseDNS no\nPasswordAuthentication no\n"
            (own / "sshd_config").write_text(settings + "PidFile none\n")

    def _key(self, name: str) -> Path:
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name]
        subprocess.run(words, check=True)
        return self.folder / name

    def _begin(self, name: str) -> None:
        own = self.folder / name
        back = sorted(path for path in {str(ROOT), sys.prefix, sys.base_prefix} if path.startswith("/tmp/"))
        words = ["setpriv", "--pdeathsig=KILL", "unshare", "--kill-child", "--fork", "--pid", "--mount-proc", "--net"]
        words += ["--uts", "bash", "-c", FIRST_PROCESS, f"{own}/", str(own), str(self.home), *back]
        with (own / "log").open("w") as log:
            # In a session of its own, as Ctrl-C is for the tests, which then put all away.
            self._guards[name] = guard = subprocess.Popen(
                words, env={"PATH": PATH}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until(lambda: (own / "ready").exists() or guard.poll() is not None, f"{name} begins", 20)
        assert guard.poll() is None, (own / "log").read_text()
        self.first[name] = child_of(guard.pid)

    def _end(self, name: str) -> None:
        guard = self._guards.pop(name)
        first = self.first.pop(name, guard.pid)
        if guard.poll() is None:
            os.kill(first, signal.SIGKILL)
        guard.wait(30)  # it returns when the host's last process is gone

    def _words(self, host: str, command: str, environment: dict[str, str]) -> list[str]:
        inside = {**self.environment, **environment}
        words = ["nsenter", f"--target={self.first[host]}", "--mount", "--net", "--uts", "--pid", "setpriv"]
        words += ["--pdeathsig=KILL", "env", "-i", f"--chdir={self.home}", *(f"{k}={v}" for k, v in inside.items())]
        return [*words, "bash", "-c", command]

    def _ip(self, host: str, *lines: str) -> None:
        words = ["nsenter", f"--target={self.first[host]}", "--net", "ip", "-batch", "-"]
        subprocess.run(words, input="\n".join(lines), text=True, env={"PATH": PATH}, check=True)


class Cluster:
    """A Ray cluster on hosts by deploy/on_premise.yaml; what is given as `environment` is for Ray's head."""

    def __init__(self, hosts: Hosts, **environment: str):
        self.hosts = hosts
        self.address = f"{hosts.addresses['host-1']}:8265"
        self.file = hosts.folder / "on_premise.yaml"
        # The head looks every second, not every 5, whether it has something to do.
        self.file.write_text(self._settings({"AUTOSCALER_UPDATE_INTERVAL_S": "1", **environment}))
        self.token = secrets.token_hex(32)
        place = hosts.folder / "desk/home/.ray/auth_token"
        place.parent.mkdir(exist_ok=True)
        place.write_text(self.token)
        place.chmod(0o600)

    def _settings(self, environment: dict[str, str]) -> str:
        text = (ROOT / "deploy/on_premise.yaml").read_text().replace("/shared", str(self.hosts.shared))
        settings = yaml.safe_load(text)
        head, *workers = self.hosts.addresses.values()
        settings["provider"] |= {"head_ip": head, "worker_ips": workers}
        settings["auth"]["ssh_user"] = "root"
        # ~/.venv-raymnist is there already, on each host; raymnist in it is this checkout.
        settings["setup_commands"] = [line for line in settings["setup_commands"] if "pip install" not in line]
        # One CPU each, so that trials spread; small stores, as the hosts share one memory.
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            settings[key][-1] += " --num-cpus=1 --object-store-memory=100000000"
        exports = "".join(f"export {key}={value}; " for key, value in environment.items())
        settings["head_start_ray_commands"][-1] = exports + settings["head_start_ray_commands"][-1]
        return yaml.safe_dump(settings, width=1000)

    def up(self) -> str:
        """Bring the cluster up and wait for all of its workers; returns what `ray up` said."""
        with step("ray up"):
            said = self.hosts.desk(f"cd {ROOT} && ray up --yes {self.file}", RAY_UP_enable_autoscaler_v2="0").stdout
        try:
            with step("all nodes alive"):
                until(lambda: self._settled() and self.alive() == set(self.hosts.addresses), "all nodes alive", 120)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{said}\n{self.hosts.log_of('host-1', 'monitor.*')}") from None
        return said

    def down(self) -> str:
        """Take the cluster down as the file says; returns what `ray down` said."""
        with step("ray down"):
            return self.hosts.desk(f"ray down --yes {self.file}").stdout

    def alive(self) -> set[str]:
        """Name the hosts whose nodes are alive, as the head has it."""
        status, text = self.request("/api/v0/nodes?detail=1")
        nodes = json.loads(text)["data"]["result"]["result"] if status == 200 else []
        alive = {node["node_ip"] for node in nodes if node["state"] == "ALIVE"}
        return {host for host, address in self.hosts.addresses.items() if address in alive}

    def request(self, path: str, token: str | None = None) -> tuple[int, str]:
        """Get a path of the dashboard from the desk: status, 0 if none, and text. An empty token is none."""
        words = [sys.executable, "-I", "-S", "-c", REQUEST, self.address, path, self.token if token is None else token]
        answer = self.hosts.desk(shlex.join(words), check=False)
        status, text = answer.stdout.split("\n", 1) if answer.returncode == 0 else ("0", answer.stderr)
        return int(status), text

    def _settled(self) -> bool:
        """Tell whether the head is done with all hosts; a node is alive before the command that starts it returns."""
        file = self.hosts.temporary("host-1") / "ray/cluster-raymnist.state"
        text = file.read_text() if file.exists() else ""  # not parsed, as it may be half written
        return text.count('"ray-node-status": "up-to-date"') == len(self.hosts.addresses)


if __name__ == "__main__":
    sys.exit(missing())
