"""The notebook runs from its first cell to its last, and shows what it speaks of."""

import base64
import io
import shutil
from pathlib import Path

import nbformat
import pytest
from conftest import HAS_MNIST
from matplotlib.image import imread
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent


@pytest.mark.long
def test_the_notebook_runs_and_shows_fakes_and_the_scatter(tmp_path):
    """Beside a copy, as it writes results to the folder above; with few images, and digits where there is no MNIST."""
    dataset = "mnist" if HAS_MNIST else "digits"
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    notebook = nbformat.read(ROOT / "docs" / "real_vs_fake.ipynb", as_version=4)
    changes = {'"dataset": "mnist"': f'"dataset": "{dataset}"', '"evaluation.images": 2000': '"evaluation.images": 200'}
    for written, short in changes.items():
        (cell,) = [cell for cell in notebook.cells if written in cell.source]
        cell.source = cell.source.replace(written, short)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path / "docs")}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    streams = [output.text for output in shown if output.output_type == "stream"]
    assert not [text for text in streams if "INFO" in text or "Warning" in text]  # Ray's and others' chatter
    pictures = [output.data["image/png"] for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    for picture in pictures:
        assert imread(io.BytesIO(base64.b64decode(picture)), format="png")[..., :3].std() > 0.05
    text = "".join(output.get("data", {}).get("text/plain", "") for output in shown)
    assert "mixing" in text
    assert "(64, (28, 28, 1), (0.0, 1.0))" in text
    assert (tmp_path / "results" / "clustering" / "report.html").is_file()
