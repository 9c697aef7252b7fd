"""The example notebook, run from its first cell to its last, at a small size."""

import html
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOK = REPOSITORY / "examples" / "own_images.ipynb"
LENGTH = re.compile(r"STEPS, COUNT = \d+, \d+")


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_kept_without_outputs():
    """No results that nobody made again, and no paths of a machine."""
    for cell in read().cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert str(Path.home()) not in cell.source and "/tmp" not in cell.source


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    notebook = read()
    assert len(LENGTH.findall(notebook.cells[1].source)) == 1
    notebook.cells[1].source = LENGTH.sub("STEPS, COUNT = 25, 150", notebook.cells[1].source)
    # In the kernel, warnings would be lines of stderr.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(REPOSITORY / "src"), *sys.path])))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = {cell.source: [output for output in cell.outputs] for cell in cells}
    for source, outputs in shown.items():
        assert all(output.output_type != "stream" for output in outputs), (source, outputs)
        assert len(outputs) <= 3, source  # progress is one output that is updated, not many
        for output in outputs:
            assert len(output.data.get("text/plain", "").splitlines()) < 60
            assert str(REPOSITORY) not in html.unescape(str(output.data))
    pictures = [source for source, outputs in shown.items() if any("image/png" in output.data for output in outputs)]
    assert len(pictures) == 5, pictures  # the run, reconstructions, curves, two sheets of samples
    assert {path.name.split("-")[0] for path in (tmp_path / "runs").iterdir()} == {"images", "images32", "images64"}


@pytest.mark.slow
def test_a_mistake_in_a_notebook_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(REPOSITORY / "src"), *sys.path])))
    source = "import numpy, vistok\nvistok.train(numpy.zeros((9, 8, 8)))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    client = NotebookClient(notebook, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    (error,) = notebook.cells[0].outputs
    assert error.ename == "UserError" and len(error.traceback) == 1
    assert re.match(r"vistok: images: float64 from 0 to 0; vistok takes uint8", error.traceback[0])
