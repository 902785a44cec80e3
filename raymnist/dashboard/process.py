"""The dashboard's process: Ray's own script, given as the first argument, with our modules beside Ray's.

Run as a script by Ray (`hook.py`), never imported.
"""

import importlib
import runpy
import sys

if __name__ == "__main__":
    del sys.argv[0], sys.path[0]  # as if Ray's script had been started: our folder would hide other packages' modules
    from raymnist.dashboard import hook

    try:
        modules = importlib.import_module("ray.dashboard.modules")
        modules.__path__.append(str(hook.MODULES))
        importlib.import_module("ray.dashboard.modules.raymnist_page")
    except Exception as error:  # whatever another version of Ray lacks: the dashboard itself is to start
        hook.warn(error)
        modules.__path__[:] = [path for path in modules.__path__ if path != str(hook.MODULES)]
    runpy.run_path(sys.argv[0], run_name="__main__")
