"""Tutorials run, and what is kept of them is presentable."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client import KernelManager

TUTORIALS = Path(__file__).parents[1] / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
# Where the data of each come from.
ACCESSION = re.compile(r"\bGSE\d{5,6}\b")
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|mnt|var)/")
MAX_BYTES = 1_500_000
# Two epochs, two folds and small forests on few cells and genes, two axes in place of UMAPs, which
# take half a minute to compile, and no search for versions, whatever a notebook asks for.
FEW = """
import warnings
import scanpy
import session_info2
from lightning.pytorch import Trainer
import scmedal_tools as smt

def fit(trainer, *args, _fit=Trainer.fit, **kwargs):
    trainer.fit_loop.max_epochs = 2
    _fit(trainer, *args, **kwargs)

def simulated(n_donors=8, n_genes=200, *, _simulated=smt.datasets.simulated, **kwargs):
    return _simulated(n_donors, n_genes, **kwargs)

def neighbors(adata, use_rep):
    adata.obsm["X_umap"] = adata.obsm[use_rep][:, :2].copy()

Trainer.fit = fit
scanpy.pp.neighbors, scanpy.tl.umap = neighbors, lambda adata: None
session_info2.session_info = lambda **_: None
smt.bm.cross_validate.__kwdefaults__.update(n_trees=5, folds=[0, 1])
smt.tl._umap._project = lambda latent, *_: latent[:, :2].copy()
smt.datasets.simulated = simulated
warnings.filterwarnings("ignore", message="n_top_genes")
warnings.filterwarnings("ignore", message="Most of these cells are in states")
"""
FORGET = "%reset -f"  # names


def _code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def run_tutorials():
    spec = importlib.util.spec_from_file_location("run_tutorials", TUTORIALS / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kernel(run_tutorials, tmp_path_factory):
    """One for all, which imports and compiles once, and the folder that it is in."""
    folder = tmp_path_factory.mktemp("kernel")
    # One thread: tiny networks are fastest so.
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    unset = ("SCMEDAL_DATA", "MPLBACKEND")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    variables = dict.fromkeys(threads, "1") | variables
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder), env=variables)
    few = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FEW)])
    run_tutorials.run(few, folder, kernel=manager)
    yield manager, folder
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, run_tutorials, kernel):
    manager, folder = kernel
    notebook = nbformat.read(path, as_version=4)
    forget = nbformat.v4.new_code_cell(FORGET)
    notebook.cells.insert(0, forget)
    run_tutorials.run(notebook, folder, timeout=300, kernel=manager)
    notebook.cells.remove(forget)
    _check_outputs(notebook)
    assert not list(folder.iterdir())  # nothing is left behind


def test_warnings_of_a_cell_are_text_without_paths_and_other_errors_stay(run_tutorials):
    few = "/tmp/ipykernel_7/12.py:3: UserWarning: Few donors.\n  model.train(\n"
    many = "\n/lib/scmedal_tools/model.py:9: UserWarning: Many\nlines.\n  model.train()\n"
    future = "/tmp/ipykernel_7/12.py:3: FutureWarning: Renamed.\n  sc.pp.scale(\n"
    library = "/lib/scvi/data.py:3: UserWarning: Few cells.\n  warn(\n"
    outputs = [
        nbformat.v4.new_output("stream", name="stderr", text=text)
        for text in (few + many + few, few, library, future)
    ]
    kept = list(run_tutorials.with_warnings_as_text(outputs))
    assert [(output.name, output.text) for output in kept] == [
        ("stdout", "Warning: Few donors.\nWarning: Many\nlines.\n"),
        ("stderr", library),
        ("stderr", future),
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_is_presentable(path):
    notebook = nbformat.read(path, as_version=4)
    _check_outputs(notebook)
    assert path.stat().st_size < MAX_BYTES
    assert "widgets" not in notebook.metadata
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
    assert not any("widget" in kind for output in outputs for kind in output.get("data", {}))
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
