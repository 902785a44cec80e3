"""An experiment as a job of a Ray cluster: the cluster's head, and what becomes of a job there."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import time
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import ray
import requests
from ray.job_submission import JobSubmissionClient

from raymnist.errors import InputError
from raymnist.sweep.session import without

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the drivers of its jobs
TOKEN_FILE = Path("~/.ray/auth_token")
RESULTS_LIE = "results lie in "  # how a job says so, at the end of its log
ELSEWHERE = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # with which Ray would talk to another head than the named one
PORT = 8265
TIMEOUT = 10.0  # seconds for a head to answer
AGENT = 60.0  # seconds for a head that has just been started to take jobs
ATTEMPTS = 6  # at a head that does not answer while a job is followed, 5 seconds between two
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
STATUSES = (0, 1, 2)  # of `raymnist run`; with another one its process was ended
CHATTER = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
TROUBLE = (RuntimeError, aiohttp.ClientError, requests.RequestException, OSError)  # of a connection, as Ray tells it


class HeadLost(Exception):
    """The head does not answer any more; its message is one line."""


def token() -> str | None:
    """Find the token of a cluster where Ray looks for it; None where there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _token_source() -> str:
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "$RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return f"{named}, which $RAY_AUTH_TOKEN_PATH names" if named else str(TOKEN_FILE)


@dataclass(frozen=True)
class Ending:
    """How a job ended: its exit status, why where its log does not say it, and all that it printed."""

    status: int
    reason: str
    log: str

    @classmethod
    def of(cls, status: str, exit_code: int | None, message: str, log: str) -> Ending:
        """Read what Ray tells of a job that has ended."""
        if status == "STOPPED":
            return cls(1, "it was stopped; submitted again, it goes on with what is there", log)
        if exit_code in STATUSES:
            return cls(exit_code or 0, "", log)
        if status == "SUCCEEDED":
            return cls(0, "", log)
        if exit_code is not None:
            return cls(1, f"its process was ended (status {exit_code}); submitted again, it goes on", log)
        return cls(1, next((line.strip() for line in message.splitlines() if line.strip()), "no reason is known"), log)

    @property
    def results(self) -> tuple[Path, str] | None:
        """The results folder and its host, as the job has said it; None where it did not come so far."""
        said = re.findall(rf"^{RESULTS_LIE}(.+) on (\S+)$", self.log, re.MULTILINE)
        return (Path(said[-1][0]), said[-1][1]) if said else None

    @property
    def lacks(self) -> str | None:
        """The module that the cluster's Python lacks; None where it did not fail for that."""
        missing = re.findall(r"^ModuleNotFoundError: No module named '([^']+)'$", self.log, re.MULTILINE)
        return missing[-1] if missing and self.status and not self.results else None


class Head:
    """A cluster's head node, by its job API."""

    def __init__(self, address: str):
        """Knock at `address`, such as http://127.0.0.1:8265.

        Raises InputError where nothing answers, something else does, the token is wrong, or Ray has another version.
        """
        self.address = _full(address)
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
            answer = self._get("/api/version")
        except requests.Timeout:
            raise InputError(f"{expected}, which did not answer in {TIMEOUT:g} seconds") from None
        except requests.RequestException:
            raise InputError(
                f"{expected}, by the address of its dashboard, found nobody; is there a tunnel to it, or a firewall "
                "between?"
            ) from None
        if answer.status_code in (401, 403):
            found = "received one that it refuses from" if known else "found none in"
            raise InputError(f"--head {self.address}: expected the cluster's token, {found} {_token_source()}")
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
        Raises InputError where the head does not take it.
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
            except (*TROUBLE, ValueError) as error:
                if "No available agent" not in str(error) or time.monotonic() > until:
                    last = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
                    raise InputError(f"--head {self.address}: expected it to take the job; {last}") from None
            time.sleep(1)

    def follow(self, job: str, say: Callable[[str], None]) -> Ending:
        """Show a job's log from its beginning until it ends, through connections that break.

        Raises InputError for a job that is not there, and HeadLost where the head does not answer any more.
        """
        chunks: list[str] = []
        while True:
            info = self._info(job)
            is_over = info["status"] in ENDED  # before the log is read, so that none of it is missed
            try:
                asyncio.run(self._tail(job, chunks, say))
            except TROUBLE as error:
                logging.getLogger(__name__).debug("the log of %s broke off: %s", job, error)
            if is_over:
                log, code = "".join(chunks), info.get("driver_exit_code")
                return Ending.of(info["status"], code, info.get("message") or "", log)
            time.sleep(0.5)

    async def _tail(self, job: str, chunks: list[str], say: Callable[[str], None]) -> None:
        """Show the log behind what has been shown; where it is silent, see now and then whether the head is there."""
        shown, passed = sum(map(len, chunks)), 0
        stream = self.client.tail_job_logs(job)
        waiting: asyncio.Future[str] = asyncio.ensure_future(anext(stream))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=3 * TIMEOUT)
                if not done:
                    await asyncio.to_thread(self._info, job)
                    continue
                text = waiting.result()
                fresh = text[max(0, shown - passed) :]
                passed += len(text)
                if fresh:
                    chunks.append(fresh)
                    say(fresh)
                waiting = asyncio.ensure_future(anext(stream))
        except StopAsyncIteration:
            return
        finally:
            waiting.cancel()

    def _info(self, job: str) -> dict[str, Any]:
        for attempt in range(ATTEMPTS):
            try:
                answer = self._get(f"/api/jobs/{urllib.parse.quote(job, safe='')}")
                if answer.status_code == 404:
                    raise self._unknown(job)
                answer.raise_for_status()
                return dict(answer.json())
            except requests.RequestException:
                if attempt + 1 < ATTEMPTS:
                    time.sleep(TIMEOUT / 2)
        raise HeadLost(
            f"{self.address} does not answer any more; where only the way to it broke, the job {job} goes on"
        )

    def _unknown(self, job: str) -> InputError:
        there = [info["submission_id"] for info in self._get("/api/jobs/").json() if info.get("submission_id")]
        known = (
            f"one of {', '.join(sorted(there))}" if there else "a job of the head, which has none since it was started"
        )
        return InputError(f"--job {job}: expected {known}")

    def _get(self, path: str) -> requests.Response:
        return requests.get(self.address + path, headers=self.headers, timeout=TIMEOUT)


def _full(address: str) -> str:
    """Complete an address by the scheme and the port of dashboards; raises InputError for that of another service."""
    try:
        parts = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
        is_one = parts.scheme in ("http", "https") and parts.hostname not in (None, "auto")
        port = f":{PORT}" if parts.port is None and parts.scheme == "http" else ""
    except ValueError:  # a port or an IPv6 address that is none
        is_one = False
    if not is_one:
        raise InputError(f"--head {address}: expected the address of the head's dashboard, such as http://HEAD:{PORT}")
    return f"{parts.scheme}://{parts.netloc.rstrip(':')}{port}{parts.path.rstrip('/')}"
