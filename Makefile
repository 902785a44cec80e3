# Everything happens in .venv, so that nothing else on the machine changes.
# A stamp file tells make whether the installation is up to date with what it was made from.

PYTHON ?= python3

.PHONY: demo test test-long test-cluster test-browser lint clean

demo: .venv/installed
	.venv/bin/raymnist run quickstart

test: .venv/installed-test
	.venv/bin/python -m pytest -n 2 --dist loadfile -m "not long and not cluster and not browser"

test-long: .venv/installed-test
	.venv/bin/python -m pytest -n 2 --dist loadfile -m "long and not cluster and not browser"

# Needs root on Linux, and from Debian openssh-server, rsync and iproute2; says so where it cannot run.
test-cluster: .venv/installed-test
	.venv/bin/python -m pytest tests/cluster -m cluster -s -p no:xdist

# Needs from Debian chromium and prometheus, and says so where they are not.
test-browser: .venv/installed-test
	.venv/bin/python -m pytest -m browser tests/test_dashboard.py

lint: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

clean:
	rm -rf .venv

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch .venv/installed $@
