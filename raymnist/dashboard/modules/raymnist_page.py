"""Ray's side of the page, loaded by the dashboard as one of its own modules: the routes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import ray.dashboard.optional_utils
import ray.dashboard.utils
from aiohttp import web

from raymnist.dashboard import hook, page

routes = ray.dashboard.optional_utils.DashboardHeadRouteTable
# A report may have scripts; as of an origin of its own, they cannot use the reader's access to the dashboard.
ALONE = {"Content-Security-Policy": "sandbox allow-scripts", "Cache-Control": "no-store"}


class RaymnistPage(ray.dashboard.utils.DashboardHeadModule):
    """Lists experiments and serves their reports; Ray checks the token before any of its routes is asked."""

    @routes.get("/raymnist")
    async def list_experiments(self, request: web.Request) -> web.Response:
        """Show the page. Reading the folders happens in a thread, as Ray's routes share this one."""
        text = await asyncio.to_thread(page.render, self._place())
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})

    @routes.get("/raymnist/{name}/report.html")
    async def report(self, request: web.Request) -> web.StreamResponse:
        """Serve the report of one of the listed experiments; `-` is none, and asks whether the page is there."""
        name = request.match_info["name"]
        found = None if name == "-" else await asyncio.to_thread(page.report, self._place(), name)
        if found is None:
            return web.Response(status=404, body=hook.NO_REPORT)
        return web.FileResponse(found, headers=ALONE)

    def _place(self) -> Path:
        return Path(os.environ[hook.PLACE])

    async def run(self) -> None:
        """Do nothing: the page is made when it is asked for."""

    @staticmethod
    def is_minimal_module() -> bool:
        """Tell that the page needs the whole dashboard."""
        return False
