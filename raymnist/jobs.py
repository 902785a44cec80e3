"""An experiment as a job of a Ray cluster: the cluster's head, and what becomes of a job there."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from raymnist.errors import InputError
from raymnist.sweep.session import without

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the drivers of its jobs
TOKEN_FILE = Path("~/.ray/auth_token")
RESULTS_LIE = "results lie in "  # how a job says so, at the end of its log
ELSEWHERE = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # with which Ray would talk to another head than the named one
TIMEOUT = 10.0  # seconds for a head to answer
AGENT = 60.0  # seconds for a head that has just been started to take jobs
CHATTER = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")


def token() -> str | None:
    """Find the token of a cluster where Ray looks for it; None where there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


@dataclass(frozen=True)
class Ending:
    """How a job ended: its exit status, Ray's message where it has one, and all that it printed."""

    status: int
    message: str
    log: str

    @property
    def results(self) -> tuple[Path, str] | None:
        """The results folder and its host, as the job has said it; None where it did not come so far."""
        said = re.findall(rf"^{RESULTS_LIE}(.+) on (\S+)$", self.log, re.MULTILINE)
        return (Path(said[-1][0]), said[-1][1]) if said else None

    @property
    def lacks(self) -> str | None:
        """The module that the cluster's Python lacks; None where it was not for that."""
        missing = re.findall(r"^ModuleNotFoundError: No module named '([^']+)'$", self.log, re.MULTILINE)
        return missing[-1] if missing else None


class Head:
    """A cluster's head node, by its job API."""

    def __init__(self, address: str):
        """Knock at `address`, such as http://127.0.0.1:8265.

        Raises InputError where nothing answers, something else does, the token is wrong, or Ray has another version.
        """
        self.address = address.rstrip("/") if "://" in address else f"http://{address.rstrip('/')}"
        known = token()
        self.headers = {"Authorization": f"Bearer {known}"} if known else {}
        self._check(known)
        for module in CHATTER:
            logging.getLogger(module).setLevel(logging.WARNING)
        with without(*ELSEWHERE):
            self.client = JobSubmissionClient(self.address, headers=dict(self.headers))

    def _check(self, known: str | None) -> None:
        expected = f"--head {self.address}: expected the head of a Ray cluster"
        try:
            answer = requests.get(f"{self.address}/api/version", headers=self.headers, timeout=TIMEOUT)
        except requests.Timeout:
            raise InputError(f"{expected}, which did not answer in {TIMEOUT:g} seconds") from None
        except requests.RequestException:
            raise InputError(f"{expected}, found nobody; is there a tunnel to it, or a firewall between?") from None
        if answer.status_code in (401, 403):
            found = f"received one that it refuses, from {_token_source()}" if known else "found none"
            raise InputError(f"--head {self.address}: expected the cluster's token in {TOKEN_FILE}; {found}")
        try:
            version = answer.json()["ray_version"]
        except (ValueError, KeyError):
            raise InputError(f"{expected}, found another server (status {answer.status_code})") from None
        if version != ray.__version__:
            raise InputError(f"--head {self.address}: expected Ray {ray.__version__}, as here, found {version}")

    def submit(self, name: str, words: list[str], place: Path, results: str | None, labels: dict[str, str]) -> str:
        """Begin a job in a copy of the folder `place`; returns its id.

        words: of the command after `raymnist`. results: the folder above the results folder, on the cluster; by default
        what RAYMNIST_RESULTS names there, else `raymnist_results` in the home folder. labels: of the job, for its list.
        """
        command = ["python", "-m", "raymnist", *words, *(["--results", results] if results else [])]
        until = time.monotonic() + AGENT
        while True:
            try:
                return str(
                    self.client.submit_job(
                        entrypoint=shlex.join(command),
                        submission_id=f"{name}-{uuid.uuid4().hex[:6]}",
                        runtime_env={"working_dir": str(place)},
                        metadata=labels,
                    )
                )
            except RuntimeError as error:
                if "No available agent" not in str(error) or time.monotonic() > until:
                    raise InputError(f"--head {self.address}: expected it to take the job; {error}") from None
            time.sleep(1)

    def follow(self, job: str, say: Callable[[str], None]) -> Ending:
        """Show a job's log from its beginning until it ends; raises InputError for a job that is not there."""
        chunks: list[str] = []

        async def tail() -> None:
            async for chunk in self.client.tail_job_logs(job):
                chunks.append(chunk)
                say(chunk)

        self._info(job)
        asyncio.run(tail())
        info = self._info(job)
        status = 0 if info.status == JobStatus.SUCCEEDED else info.driver_exit_code or 1
        return Ending(status, "" if status in (0, 1, 2) else info.message or info.status, "".join(chunks))

    def _info(self, job: str) -> Any:
        try:
            return self.client.get_job_info(job)
        except RuntimeError as error:
            if "404" not in str(error):
                raise
            there = sorted(filter(None, (info.submission_id for info in self.client.list_jobs())))
            known = f"one of {', '.join(there)}" if there else "a job, of which the cluster has none"
            raise InputError(f"--job {job}: expected {known}") from None


def _token_source() -> str:
    named = [name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)]
    return f"${named[0]}" if named else str(TOKEN_FILE)
