"""The Python code of the documentation runs: all blocks of a page, in the order of the page.

On few simulated cells, for two epochs and without a GPU; files that a page reads are miniatures.
"""

from __future__ import annotations

import gzip
import re
from functools import wraps
from inspect import signature, unwrap
from pathlib import Path
from unittest.mock import create_autospec

import dask.distributed
import lightning.pytorch.loggers
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from scipy import io, sparse

import scmedal_tools as smt
from scmedal_tools.model import MedalModel

from .published import write_aml, write_asd, write_heart

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = {
    path.relative_to(ROOT).with_suffix("").as_posix(): code
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if not {"_build", "tutorials"} & set(path.parts)
    and (code := CODE.findall(path.read_text(encoding="utf-8")))
}
RAW = "adata = smt.datasets.simulated()"
CELLS = f'{RAW}\nsmt.pp.preprocess(adata, batch_key="donor")'
MODEL = f"""{CELLS}
smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
model = smt.model.SCMEDAL_RE(adata)
model.train()"""
WITH_TEST_CELLS = MODEL.replace(
    "train()",
    "train(datasplitter_kwargs={'external_indexing':"
    " smt.train.stratified_split(adata.obs, ['donor', 'cell_type'])})",
)
# What readers have done before a block, by something that it says.
BEFORE = {
    ("docs/faq", "logger="): MODEL,
    ("docs/user_guide/batch_effects", "counterfactual_shift"): WITH_TEST_CELLS,
    ("docs/user_guide/data", 'preprocess(adata, batch_key="donor")'): RAW,
    ("docs/user_guide/data", "n_top_genes=3000"): RAW,
    ("docs/user_guide/data", "n_umi_total"): f'{RAW}\nadata.obs["n_umi_total"] = adata.X.sum(1)',
    ("docs/user_guide/data", "external_indexing"): MODEL,
    ("docs/user_guide/donors", "new_cells"): (
        'new_cells = adata[adata.obs["donor"] == "donor_12"].copy()\n'
        'new_cells.obs["donor"] = "donor_13"'
    ),
    (
        "docs/user_guide/large_data",
        "# train.py",
    ): 'import shutil\nshutil.rmtree("model")',  # of another script
    ("docs/user_guide/random_effects", "hold_out_combinations"): CELLS.replace(
        "()", "(cell_scale=0.6)"
    )
    + '\nsmt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")',
    ("docs/user_guide/mudata", 'mdata.mod["rna"] = adata'): 'adata = mdata["rna"][:, ::2].copy()',
    ("docs/user_guide/command_line", "results/adata.h5ad"): (
        f'{MODEL}\nadata.write_h5ad("results/adata.h5ad")\nmodel.save("results/models/re")'
    ),
}
FEW = {"n_samples": 4, "n_permutations": 19, "n_trees": 5}
LOCAL = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
ON_GPUS = {"accelerator", "devices", "num_nodes", "strategy"}


@pytest.fixture(scope="module", autouse=True)
def little():
    """Little data and little training, whatever a page asks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scvi.settings, "seed", 0)
        patch.setattr(smt.datasets, "simulated", _few_cells)
        patch.setattr(Trainer, "fit", _fit)
        patch.setattr(MedalModel, "train", _train)
        for defaults in _defaults():
            for option in FEW.keys() & {name for name, value in defaults.items() if value}:
                patch.setitem(defaults, option, FEW[option])
        patch.setitem(smt.bm.cross_validate.__kwdefaults__, "folds", [0])
        for name in ("MLFlowLogger", "TensorBoardLogger"):
            patch.setattr(lightning.pytorch.loggers, name, _stand_in(name))
        patch.setattr(dask.distributed, "Client", lambda _: _client(processes=False, **LOCAL))
        for module, name in ((sc.pp, "neighbors"), (sc.tl, "umap"), (sc.pl, "umap")):
            patch.setattr(module, name, create_autospec(getattr(module, name)))
        for module, write in ((sc.tl, _leiden), (sc.pp, _highly_variable_genes)):
            name = write.__name__[1:]
            patch.setattr(module, name, create_autospec(getattr(module, name), side_effect=write))
        yield


def _defaults():
    """Defaults of all tools and benchmarks."""
    for module in (smt.tl, smt.bm):
        for name in module.__all__:
            yield getattr(unwrap(getattr(module, name)), "__kwdefaults__", None) or {}


_simulated, _of_trainer, _of_model = smt.datasets.simulated, Trainer.fit, MedalModel.train
_client = dask.distributed.Client


@wraps(_simulated)
def _few_cells(n_donors=12, n_genes=60, n_cell_types=3, *, cell_scale=0.2, **options):
    return _simulated(n_donors, n_genes, n_cell_types, cell_scale=cell_scale, **options)


def _fit(trainer, *args, **options):
    trainer.fit_loop.max_epochs = 2
    _of_trainer(trainer, *args, **options)


@wraps(_of_model)
def _train(model, *args, **options):
    signature(_of_model).bind(model, *args, **options)
    return _of_model(model, *args, **{k: v for k, v in options.items() if k not in ON_GPUS})


def _stand_in(name):
    """Give a logger that takes the same arguments, and needs no further package."""
    of_logger = signature(getattr(lightning.pytorch.loggers, name))

    class Logger(CSVLogger):
        def __init__(self, *args, **options):
            of_logger.bind(*args, **options)
            super().__init__(name)

    return Logger


def _leiden(adata, **_):
    adata.obs["leiden"] = pd.Categorical(np.arange(adata.n_obs) % 2).astype(str)


def _highly_variable_genes(adata, **_):
    adata.var["highly_variable"] = True


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with the files that the pages read."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("GSE116256", "autism", "GSE96583", "data", "results"):
        (folder / name).mkdir()
    write_aml(folder / "GSE116256")
    write_asd(folder / "autism")
    write_heart(folder)
    _write_kang(folder / "GSE96583")
    cells = _few_cells()
    smt.pp.preprocess(cells, batch_key="donor")
    cells.write_h5ad(folder / "cells.h5ad")
    first = cells.obs["donor"].isin([f"donor_{i:02d}" for i in range(1, 7)])
    cells[first].write_h5ad(folder / "donors_1_to_50.h5ad")
    cells[~first].write_h5ad(folder / "donors_51_to_100.h5ad")
    pairs = _few_cells()
    pairs.obs["patient_id"] = pairs.obs["donor"]
    pairs.write_h5ad(folder / "glioblastoma.h5ad")
    return folder


def _write_kang(folder):
    counts = np.random.default_rng(0).poisson(1.0, (2, 30, 20))
    for file, values in zip(("GSM2560248_2.1", "GSM2560249_2.2"), counts, strict=True):
        with gzip.open(folder / f"{file}.mtx.gz", "wb") as out:
            io.mmwrite(out, sparse.csr_matrix(values.T))
    obs = pd.DataFrame(
        {"stim": ["ctrl", "stim"] * 30, "ind": 101, "cell": "T", "multiplets": "singlet"}
    )
    obs.to_csv(folder / "GSE96583_batch2.total.tsne.df.tsv.gz", sep="\t")
    genes = pd.DataFrame({"id": range(20), "symbol": [f"G{i}" for i in range(20)]})
    genes.to_csv(folder / "GSE96583_batch2.genes.tsv.gz", sep="\t", header=False, index=False)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("page", PAGES)
def test_code_runs(page, files, monkeypatch):
    if "setup_annbatch" in "".join(PAGES[page]):
        pytest.importorskip("annbatch")
    monkeypatch.chdir(files)
    names = {}
    for number, code in enumerate(PAGES[page]):
        for (of_page, text), before in BEFORE.items():
            if page == of_page and text in code:
                exec("import scmedal_tools as smt\n" + before, names)
        code = code.replace("n_samples=50", "n_samples=19")  # the fewest for an interval
        exec(compile(code, f"{page}, block {number}", "exec"), names)
        plt.close("all")


@pytest.mark.parametrize(("page", "text"), BEFORE)
def test_what_is_done_before_belongs_to_one_block(page, text):
    assert sum(text in code for code in PAGES[page]) == 1
