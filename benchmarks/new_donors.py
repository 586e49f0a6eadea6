"""What is gained by learning the effects of a new donor from few of its cells.

python benchmarks/new_donors.py run   # writes results/new_donors.json after every donor
python benchmarks/new_donors.py       # prints the table

Three donors of the AML set, drawn among those with 400 cells and more, are left out of the
training; three training seeds. Each donor is then mapped with some of its cells, and its
reconstruction error is measured on a third of them that is never used.
"""

from __future__ import annotations

import sys
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _record import SOURCE, data_folder, load, markdown, save

import scmedal_tools as smt

FILE = "aml_vangalen2019_d0.h5ad"
N_GENES = 2916
N_DONORS, MIN_CELLS = 3, 400
SEEDS = (0, 1, 2)
N_CELLS = (50, 100, None)


def run() -> None:
    adata = ad.read_h5ad(data_folder() / FILE)
    sizes = adata.obs["donor"].value_counts().sort_index()
    large = sizes.index[sizes >= MIN_CELLS].astype(str)
    left_out = sorted(np.random.default_rng(0).choice(large, N_DONORS, replace=False))
    known = adata[~adata.obs["donor"].isin(left_out)].copy()
    known.obs["donor"] = known.obs["donor"].cat.remove_unused_categories()
    smt.pp.preprocess(known, batch_key="donor", n_top_genes=N_GENES)
    smt.pp.preprocess(adata, n_top_genes=None, min_cells=0)
    results = []
    for seed in SEEDS:
        scvi.settings.seed = seed
        smt.model.SCMEDAL_RE.setup_anndata(known, batch_key="donor")
        model = smt.model.SCMEDAL_RE(known)
        model.train(enable_progress_bar=False)
        for donor in left_out:
            cells = adata[adata.obs["donor"] == donor, model.gene_names].copy()
            order = np.random.default_rng(seed).permutation(cells.n_obs)
            test, rest = np.split(order, [cells.n_obs // 3])
            results += [
                {"commit": SOURCE["commit"], "seed": seed, "donor": donor} | row
                for row in map_donor(model, cells, rest, np.sort(test))
            ]
            save("new_donors", results, data=FILE, genes=N_GENES)
            print(pd.DataFrame(results).tail(len(N_CELLS)), flush=True)


def map_donor(model, cells: ad.AnnData, rest: np.ndarray, test: np.ndarray) -> list[dict]:
    """Errors without effects, and with those learned from more and more cells."""
    held_back = cells[test].copy()
    x = held_back.X.toarray()
    without = model.get_reconstruction(
        held_back.copy(), return_numpy=True, unseen_batch="population"
    )
    rows = []
    for n_cells in N_CELLS:
        chosen = np.sort(rest[:n_cells])
        query = smt.model.SCMEDAL_RE.load_query_data(cells[chosen].copy(), model)
        query.train(enable_progress_bar=False)
        learned = query.get_reconstruction(held_back.copy(), return_numpy=True)
        rows.append(
            {
                "cells": len(chosen),
                "all": n_cells is None,
                # Relative to the prediction without effects.
                "error_of_cells": relative_error(x, learned, without),
                "error_of_means": relative_error(x.mean(0), learned.mean(0), without.mean(0)),
            }
        )
    return rows


def relative_error(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    return float(np.square(truth - first).sum() / np.square(truth - second).sum())


def tables() -> dict[str, str]:
    results = pd.DataFrame(load("new_donors")["results"])
    rows = []
    for (donor, is_all, n), fits in results.groupby(["donor", "all", "cells"]):
        gains = 100 * (1 - fits["error_of_cells"])
        rows.append(
            {
                "donor": donor,
                "n": f"all {n}" if is_all else n,
                "mean": gains.mean(),
                "low": gains.min(),
                "high": gains.max(),
                "means": 100 * (1 - fits["error_of_means"].mean()),
            }
        )
    columns = {
        "donor": "{donor}",
        "cells": "{n}",
        "gain in single cells, %": "{mean:.1f}",
        "seeds": "{low:.1f} to {high:.1f}",
        "gain in the donor's mean, %": "{means:.0f}",
    }
    return {"gains": markdown(rows, columns)}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run()
    for name, table in tables().items():
        print(f"{name}\n{table}\n")
