"""The commands and links of the README and docs work."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import needs_mnist

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Real runs, made short by their last arguments; the demo runs quickstart as it is.
SHORTER = {
    "quickstart": "--set studies.*.sweep.images=100 --set studies.*.sweep.trials=1 --set studies.*.train.epochs=2 "
    "--set evaluation.scored_images=100 --set evaluation.images=100 --set evaluation.reducers=[none,pca]",
    "classifier": "--set studies.classifier.train.epochs=1",
    "real_vs_fake_small": "--set dataset.limit=1500 --set studies.*.train.epochs=1 --set studies.*.sweep.trials=2 "
    # bfloat16 takes minutes on a processor without instructions for it
    "--set evaluation.images=150 --set studies.*.train.precision=float32",
}


def commands(page):
    """List the lines of a page's `bash` blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_the_installing_commands_are_those_of_the_makefile():
    """`make demo` and `make test` run in CI; their one-line equivalents are the Makefile's lines."""
    readme, makefile = commands(ROOT / "README.md"), (ROOT / "Makefile").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    lines = [line for line in readme if "venv" in line and "pip" in line]
    assert len(lines) == 2
    for line in lines:
        for part in line.split(" && "):
            part = part.replace("python3 ", "$(PYTHON) ", 1) if part.startswith("python3 ") else part
            assert part in makefile


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    path = tmp_path_factory.mktemp("workplace")
    shutil.copytree(ROOT / "experiments", path / "experiments")
    return path


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=[needs_mnist, pytest.mark.long] if "real_vs_fake_small" in line else ())
        for page in PAGES
        for line in dict.fromkeys(commands(page))
        if line.startswith("raymnist ")
    ],
)
def test_a_documented_command_works(line, workplace):
    words = shlex.split(line)
    if words[1] == "run":
        words += SHORTER[words[2]].split()
    finished = subprocess.run(
        [sys.executable, "-m", *words], cwd=workplace, capture_output=True, text=True, timeout=500, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_every_documented_command_is_tested_or_known():
    known = ("raymnist ", "make ", "python3 -m venv")
    assert [line for page in PAGES for line in commands(page) if not line.startswith(known)] == []


def test_documented_python_works(workplace):
    """After the commands above have run quickstart."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    subprocess.run([sys.executable, "-c", block], cwd=workplace, capture_output=True, check=True, timeout=300)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\((?!http)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_file_map_names_every_module():
    readme = (ROOT / "README.md").read_text()
    modules = [path for path in (ROOT / "raymnist").iterdir() if not path.name.startswith(("_", "."))]
    assert [path.name for path in modules if f"{path.name}" not in readme] == []
