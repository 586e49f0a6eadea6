"""Data, models and conditions that tests share."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    # Or each of some twenty processes compiles torch and scvi-tools anew, two thirds of an import.
    # What is compiled is kept out of the folders that are not to be written to.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several processes get in each other's way
    for library in ("OMP", "MKL", "NUMBA"):  # numba gives PyTorch its own number of threads
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if "numba" in sys.modules:  # another package's plugin of pytest imported it before
        sys.modules["numba"].core.config.reload_config()

import numpy as np
import pytest

TINY = {"n_hidden": (16, 8), "n_latent": 4, "adversary_hidden": (16,)}
QUICK = {
    "max_epochs": 2,
    "batch_size": 64,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets; the only place that knows where they are."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SCMEDAL_DATA") or beside)
    if not folder.is_dir():
        reason = f"no data sets at {folder}: name their folder with SCMEDAL_DATA"
        if os.environ.get("SCMEDAL_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


# Begun first, the longest before the others, so that no process is left with them at the end.
LONG = ("test_real.py", "test_tutorials.py", "test_columns.py", "test_docstrings.py")
LONG += ("test_formats.py", "test_reproduce.py", "test_resumption.py", "test_run.py")


def pytest_collection_modifyitems(items):
    order = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needs_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needs_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def pytest_collection_finish():
    """A million objects of the libraries stay, and no collection of garbage goes over them."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def plugins_searched_once():
    """Lightning reads what all packages offer anew for each of some thousand trainers."""
    import functools

    from lightning.fabric.utilities import registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", functools.cache(registry.entry_points))
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_umaps():
    """Two axes in place of a UMAP, which each process would compile for half a minute."""
    from scmedal_tools.tl import _umap

    project = _umap._project
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_umap, "_project", lambda latent, *_: np.array(latent[:, :2]))
        yield project


@pytest.fixture(scope="module")
def umaps(quick_umaps):
    """UMAPs as users get them."""
    from scmedal_tools.tl import _umap

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_umap, "_project", quick_umaps)
        yield


@pytest.fixture
def one_thread():
    """Tiny networks are fastest so, and sums of several threads have their order by chance."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cells():
    """240 log-normalised cells of four donors and three types; copy before changing them."""
    import scmedal_tools as smt

    adata = smt.datasets.simulated(n_donors=4, n_genes=120, n_cell_types=3)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=60)
    chosen = np.random.default_rng(0).permutation(adata.n_obs)[:240]
    return adata[np.sort(chosen)].copy()


@pytest.fixture
def adata(cells):
    """A copy of the cells that the test may change."""
    return cells.copy()


@pytest.fixture(scope="session")
def build():
    """Give a function that registers cells and builds a tiny model, from the same seed always.

    It takes an AnnData or a MuData.
    """
    import scvi
    import torch
    from anndata import AnnData

    import scmedal_tools as smt

    n_threads = torch.get_num_threads()

    def build(name, adata, setup=None, **kwargs):
        model_class = getattr(smt.model, name)
        of_one = isinstance(adata, AnnData)
        register = model_class.setup_anndata if of_one else model_class.setup_mudata
        register(adata, **{"batch_key": "donor"} | (setup or {}))
        scvi.settings.seed = 0
        torch.set_num_threads(1)  # tiny networks are fastest so; numba raises it now and then
        return model_class(adata, **TINY | kwargs)

    yield build
    scvi.settings.seed = None
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def fit(build):
    """Give a function that builds a tiny model and trains it for two epochs."""

    def fit(name, adata, setup=None, model=None, **kwargs):
        model = build(name, adata, setup, **(model or {}))
        model.train(**QUICK | kwargs)
        return model

    return fit
