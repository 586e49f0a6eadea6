"""Commands in tests, and files of a few hundred simulated cells."""

import io
import shutil

import anndata as ad
import numpy as np
import pytest
from PIL import Image

from .arguments import N_CELLS

BLANK = {}
for ending, kind in ((".png", "PNG"), (".pdf", "PDF")):
    file = io.BytesIO()
    Image.new("RGB", (1, 1), "white").save(file, kind)
    BLANK[ending] = file.getvalue()


@pytest.fixture(scope="session")
def counts():
    from scmedal_tools import datasets

    adata = datasets.simulated(n_donors=4, n_genes=150, n_cell_types=3, seed=3)[:N_CELLS].copy()
    adata.obs["n_umi"] = 2.0 * np.asarray(adata.X.sum(axis=1)).ravel()
    adata.obs["lane"] = adata.obs["donor"].cat.codes.astype(int) + 1
    adata.obs["late"] = adata.obs["lane"] > 2
    return adata


@pytest.fixture(scope="session")
def expression(counts):
    """Log-normalised to another total than the package would choose."""
    adata = counts.copy()
    adata.layers["raw"] = adata.X.copy()
    # By hand, as numba compiles scanpy's function for five seconds.
    depths = np.asarray(adata.X.sum(axis=1)).reshape(-1, 1)
    adata.X = adata.X.multiply(500 / depths).tocsr().log1p().astype(np.float32)
    return adata


@pytest.fixture(scope="session")
def files(counts, expression, tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    paths = {"counts": folder / "counts.h5ad", "expression": folder / "expression.h5ad"}
    counts.write_h5ad(paths["counts"])
    expression.write_h5ad(paths["expression"])
    return paths


@pytest.fixture(scope="module", autouse=True)
def small_forests():
    """Ten trees unless a test asks for more."""
    from scmedal_tools import bm

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bm.cross_validate.__kwdefaults__, "n_trees", 10)
        yield


@pytest.fixture(scope="session", autouse=True)
def few_draws():
    """The fewest of which an interval can be told."""
    from scmedal_tools._cli import _shifts_with_intervals

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_shifts_with_intervals, "N_DRAWS", 19)
        yield


@pytest.fixture(scope="session")
def write_blank():
    """Give a function that writes a blank picture, in the formats of the figures or in one."""

    def write_blank(file, endings=tuple(BLANK)):
        file.parent.mkdir(parents=True, exist_ok=True)
        for ending in endings:
            file.with_suffix(ending).write_bytes(BLANK[ending])

    return write_blank


@pytest.fixture
def drawn_figures():
    """Names of figures that a test has drawn as users get them."""
    return set()


@pytest.fixture(autouse=True)
def quick_figures(monkeypatch, write_blank, drawn_figures):
    """Blank pictures in place of those of a single test; a fixture of several has its own.

    To draw and write them takes longer than all else that a command does.
    """
    from scmedal_tools._cli import _evaluate_job, _run_job
    from scmedal_tools._cli._draw_and_save import draw_and_save

    def write(file, *what, **options):
        if file.stem in drawn_figures:
            draw_and_save(file, *what, **options)
        else:
            write_blank(file)

    for module in (_evaluate_job, _run_job):
        monkeypatch.setattr(module, "draw_and_save", write)


@pytest.fixture(scope="session")
def written_names(cells, tmp_path_factory):
    adata, file = cells.copy(), tmp_path_factory.mktemp("names") / "cells.h5ad"
    adata.obs["pct_CD4"] = 0.5
    adata.layers["raw"] = adata.X
    adata.obsm["X_mine"] = np.zeros((adata.n_obs, 2))
    adata.write_h5ad(file)
    return file


@pytest.fixture
def file_with_names(written_names, tmp_path):
    """A column, a layer and a latent to be named."""
    return shutil.copy(written_names, tmp_path / "cells.h5ad")


@pytest.fixture(scope="session")
def written_levels(cells, tmp_path_factory):
    adata, file = cells.copy(), tmp_path_factory.mktemp("levels") / "cells.h5ad"
    adata.obs["lane"] = adata.obs["donor"].cat.codes.astype(int)
    adata.obs["lane_category"] = adata.obs["lane"].astype("category")
    adata.obs["lane_float"] = adata.obs["lane"].astype(float)
    adata.obs["lane_nullable"] = adata.obs["lane"].astype("Int64")
    adata.obs["text"] = adata.obs["donor"].astype("string")
    adata.obs["object"] = adata.obs["donor"].astype(str).astype(object)
    adata.obs["late"] = adata.obs["lane"] > 1
    with ad.settings.override(allow_write_nullable_strings=True):  # not before anndata 0.13
        adata.write_h5ad(file, convert_strings_to_categoricals=False)
    return file


@pytest.fixture
def file_with_levels(written_levels, tmp_path):
    """The donors as text, numbers and categories, in a file that a test may change."""
    return shutil.copy(written_levels, tmp_path / "cells.h5ad")
