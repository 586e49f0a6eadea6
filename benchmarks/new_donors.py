"""What is gained by learning the effects of a new donor from few of its cells.

python benchmarks/new_donors.py run      # writes results/new_donors.json after every donor
python benchmarks/new_donors.py          # prints the table
python benchmarks/new_donors.py figure   # draws docs/_static/new_donors.svg

Three donors of the AML set, drawn among those with 400 cells and more, are left out of the
training; three training seeds. Each donor is then mapped with some of its cells, and its
reconstruction error is measured on a third of them that is never used.
"""

from __future__ import annotations

import sys
import warnings

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scvi
import torch
from _record import ROOT, SOURCE, data_folder, load, markdown, save

import scmedal_tools as smt

FILE = "aml_vangalen2019_d0.h5ad"
N_GENES = 2916
N_DONORS, MIN_CELLS = 3, 400
SEEDS = (0, 1, 2)
N_CELLS = (50, 100, None)
FIGURE = ROOT / "docs" / "_static" / "new_donors.svg"
PANELS = {"error_of_means": "donor's mean expression", "error_of_cells": "single cells"}
# Okabe-Ito blue, vermillion and green, distinct with every common colour vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73")
MARKERS = ("o", "s", "^")


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


def figure() -> None:
    """Gain by the number of cells, a line for each donor and seed."""
    results = pd.DataFrame(load("new_donors")["results"])
    drawing, axes = plt.subplots(1, len(PANELS), figsize=(7.2, 3.2), layout="constrained")
    for ax, (error, title) in zip(axes, PANELS.items(), strict=True):
        styles = zip(results.groupby("donor"), COLOURS, MARKERS, strict=True)
        for (donor, of_donor), colour, marker in styles:
            style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 0.9}
            for _, curve in of_donor.sort_values("cells").groupby("seed"):
                line = ax.plot(curve["cells"], 100 * (1 - curve[error]), **style)
            line[0].set_label(donor)
        ax.axhline(0, color="0.6", linewidth=0.8, linestyle=":")
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("cells of the new donor, log scale")
        ax.set_xscale("log")
        ax.set_xticks([50, 100, 300, 1500], ["50", "100", "300", "1,500"])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(0, 100)
    axes[0].set_ylabel("squared error removed, %")
    axes[0].legend(frameon=False, loc="lower right", title="new donor")
    FIGURE.parent.mkdir(exist_ok=True)
    # The same bytes at every run.
    with plt.rc_context({"svg.hashsalt": FIGURE.stem}):
        drawing.savefig(FIGURE, metadata={"Date": None})


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run()
    if sys.argv[1:2] == ["figure"]:
        figure()
    for name, table in tables().items():
        print(f"{name}\n{table}\n")
