"""The dashboard's process: Ray's own script, with our module beside Ray's.

Run as a script by Ray (`hook.py`), never imported: process.py FOLDER RAYS_SCRIPT ...
"""

import importlib
import logging
import os
import runpy
import sys

if __name__ == "__main__":
    place = sys.argv[1]
    del sys.argv[:2], sys.path[0]  # as if Ray's script had been started: our folder would hide other packages' modules
    try:
        from raymnist.dashboard import hook

        os.environ[hook.PLACE] = place
        importlib.import_module("ray.dashboard.modules").__path__.append(str(hook.MODULES))
        importlib.import_module("ray.dashboard.modules.raymnist_page")
    except Exception as error:  # whatever another version of Ray lacks: the dashboard itself is to start
        logging.getLogger(__name__).warning("no raymnist page, as this Ray has no place for it: %s", error)
        if rays := sys.modules.get("ray.dashboard.modules"):
            rays.__path__[:] = [path for path in rays.__path__ if not path.endswith("raymnist/dashboard/modules")]
    runpy.run_path(sys.argv[0], run_name="__main__")
