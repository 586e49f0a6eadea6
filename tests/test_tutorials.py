"""Tutorials run, and what is kept of them is presentable."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import nbformat
import pytest

TUTORIALS = Path(__file__).parents[1] / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
# Where the data of each come from.
ACCESSION = re.compile(r"\bGSE\d{5,6}\b")
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|mnt|var)/")
MAX_BYTES = 600_000


def _code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("run_tutorials", TUTORIALS / "run.py")
    run_tutorials = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_tutorials)
    monkeypatch.delenv("SCMEDAL_DATA", raising=False)
    monkeypatch.delenv("MPLBACKEND")
    monkeypatch.setenv("SCMEDAL_QUICK", "1")
    # One thread: tiny networks are fastest so.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    notebook = nbformat.read(path, as_version=4)
    run_tutorials.run(notebook, tmp_path, timeout=300)
    _check_outputs(notebook)
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_is_presentable(path):
    notebook = nbformat.read(path, as_version=4)
    _check_outputs(notebook)
    assert path.stat().st_size < MAX_BYTES
    assert ACCESSION.search("".join(cell.source for cell in notebook.cells))
    # Kept outputs are those of the real data.
    assert not any("donor_01" in str(cell.outputs) for cell in _code(notebook))


def _check_outputs(notebook):
    outputs = [output for cell in _code(notebook) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert {output.output_type for output in outputs} <= {
        "display_data",
        "execute_result",
        "stream",
    }
    noise = [output.text for output in outputs if output.get("name") == "stderr"]
    assert noise == []
    texts = [str(output.get("text", "")) for output in outputs]
    texts += [
        str(value)
        for output in outputs
        for kind, value in output.get("data", {}).items()
        if not kind.startswith("image/")
    ]
    assert [text for text in texts if MACHINE_PATH.search(text)] == []
