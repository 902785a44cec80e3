"""What the tests of jobs and of the dashboard share: a cluster's head on this machine, started as a user starts one."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path


def free_port():
    """Find a port of the loopback that is free now, outside the range from which Ray takes its workers'."""
    while True:
        port = secrets.randbelow(10_000) + 20_000
        with contextlib.closing(socket.socket()) as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def wait_until(true, seconds, what):
    """Wait for a condition, and give what it gives; look ten times a second."""
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, f"waited {seconds} s in vain for {what}"
        time.sleep(0.1)
    return found


@dataclass
class Head:
    url: str
    token: str
    results: Path
    place: Path
    temporary: str
    env: dict

    def get(self, path, token=None):
        """Ask the dashboard; returns the status and the text."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""

    def command(self, *words, **env):
        """Begin one of our commands, as a user of this head would."""
        return subprocess.Popen(
            [sys.executable, "-m", "raymnist", *map(str, words)],
            env=self.env | env,
            cwd=self.place,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def said(self, *words, **env):
        """Run one of our commands to its end; returns its exit status and what it printed."""
        process = self.command(*words, **env)
        text, _ = process.communicate(timeout=300)
        return process.returncode, text


@contextlib.contextmanager
def running_head(place, python_path="", cpus=2):
    """Start the head of a cluster by the documented line, with ports and a token of its own."""
    temporary = tempfile.mkdtemp(prefix="rh")  # short, as the names of Ray's sockets must be
    ports = {name: free_port() for name in ("dashboard", "port", "agent", "client", "metrics")}
    (place / "token").write_text(secrets.token_hex(32))
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / "token"),
        "RAYMNIST_RESULTS": str(place / "results"),
        "PYTHONPATH": python_path,
    }
    words = [sys.executable, "-m", "raymnist.dashboard", "start", "--head", "--block", f"--num-cpus={cpus}",
             f"--temp-dir={temporary}", f"--port={ports['port']}", f"--dashboard-port={ports['dashboard']}",
             f"--dashboard-agent-listen-port={ports['agent']}", f"--ray-client-server-port={ports['client']}",
             f"--metrics-export-port={ports['metrics']}"]  # fmt: skip
    with (place / "head.log").open("w") as log:
        own = env | {"TMPDIR": temporary}  # as what is killed leaves its temporary folders behind
        process = subprocess.Popen(words, env=own, cwd=place, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{ports['dashboard']}"
    head = Head(url, (place / "token").read_text(), place / "results", place, temporary, env)
    try:
        wait_until(lambda: head.get("/api/version", head.token)[0] == 200, 60, "the dashboard")
        yield head
    finally:
        for entry in Path("/proc").glob("[0-9]*"):  # all of its session: Ray's agents outlive a head by a minute
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(entry.name)) == process.pid:
                    os.kill(int(entry.name), signal.SIGKILL)
        process.wait()
        shutil.rmtree(temporary)
