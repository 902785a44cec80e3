"""Lets the Ray dashboard have the page: private parts of Ray 2.60, without which there is one warning and no page."""

from __future__ import annotations

import contextlib
import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PLACE = "RAYMNIST_PAGE"  # in the dashboard's process: the folder above the results folders that it shows
PROCESS = Path(__file__).with_name("process.py")
NO_REPORT = b"the page has no such report"
MODULES = Path(__file__).with_name("modules")

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def page_in_dashboard(place: Path) -> Iterator[None]:
    """Give the page to a dashboard that this process starts in the block, by `ray.init` or `ray start`.

    place: the folder above the results folders that it shows, or one of these.
    """
    try:
        from ray._private import services

        start = services.start_ray_process
        kind = services.ray_constants.PROCESS_TYPE_DASHBOARD
    except (ImportError, AttributeError) as error:
        warn(error)
        yield
        return

    def start_with_page(command: Sequence[str], process_type: str, *arguments: Any, **named: Any) -> Any:
        return start(_with_page(command, place) if process_type == kind else command, process_type, *arguments, **named)

    services.start_ray_process = start_with_page
    try:
        yield
    finally:
        services.start_ray_process = start


def _with_page(command: Sequence[str], place: Path) -> list[str]:
    """Put our script before Ray's in the dashboard's command; the same command where there is none."""
    places = [place for place, word in enumerate(command) if word.endswith("dashboard/dashboard.py")]
    if len(places) != 1:
        warn("its command has no dashboard.py")
        return list(command)
    return [*command[: places[0]], str(PROCESS), str(place.expanduser().absolute()), *command[places[0] :]]


def has_page(url: str, token: str | None) -> bool:
    """Ask a dashboard, by its address, whether it has the page: for a report that cannot be, which costs it nothing."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        urllib.request.urlopen(urllib.request.Request(f"{url}/raymnist/-/report.html", headers=headers), timeout=10)
    except urllib.error.HTTPError as error:
        return error.read() == NO_REPORT
    except (OSError, http.client.HTTPException):
        return False
    return False


def warn(reason: object) -> None:
    """Say that there is no page."""
    logger.warning("the Ray dashboard goes without the raymnist page, as this Ray has no place for it: %s", reason)
