"""How long the scores of all cells take, beside scikit-learn on 10,000 of them.

python benchmarks/scores.py run   # AML, 50 principal components: writes results/scores.json
python benchmarks/scores.py       # prints the table from it
"""

from __future__ import annotations

import sys
import time

import anndata as ad
import numpy as np
from _record import data_folder, load, markdown, save
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

import scmedal_tools as smt
from scmedal_tools.bm._scores._scores import MIN_CELLS
from scmedal_tools.bm._scores._silhouette import Grouping, silhouette_widths

ROUNDS = 5


def load_cells() -> ad.AnnData:
    adata = ad.read_h5ad(data_folder() / "aml_vangalen2019_d0_hvg3000.h5ad")
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    adata.obsm["X_pca"] = PCA(50, random_state=0).fit_transform(adata.X.toarray())
    return adata


def by_sklearn(adata: ad.AnnData) -> dict[str, float]:
    """Silhouette widths of the three groupings, one call for each cluster comparison."""
    x = adata.obsm["X_pca"]
    donors, types = (adata.obs[key].astype(str).to_numpy() for key in ("donor", "cell_type"))
    within = Grouping.within(donors, types, MIN_CELLS)
    return {
        "batch": silhouette_score(x, donors),
        "batch within label": np.mean(
            [silhouette_score(x[cells], donors[cells]) for cells in within.parts()]
        ),
        "label": silhouette_score(x, types),
    }


def ours(adata: ad.AnnData) -> dict[str, float]:
    table = smt.bm.scores(adata, ["X_pca"], "donor", "cell_type", max_cells=None)
    return table.query("metric == 'ASW'").set_index("of")["value"].to_dict()


def batch_silhouette(adata: ad.AnnData) -> np.ndarray:
    grouping = Grouping.of(adata.obs["donor"].astype(str).to_numpy())
    return silhouette_widths(adata.obsm["X_pca"], [grouping])[0].mean()


def timed(function, *arguments) -> tuple[float, object]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def run() -> None:
    adata = load_cells()
    drawn = np.random.default_rng(0).choice(adata.n_obs, 10_000, replace=False)
    part = adata[np.sort(drawn)].copy()
    own, reference = ours(part), by_sklearn(part)
    results = []
    for i in range(ROUNDS):  # side by side: the load of the machine is that of both
        seconds, _ = timed(ours, adata)
        own_one, _ = timed(batch_silhouette, adata)
        three, _ = timed(by_sklearn, part)
        one, _ = timed(silhouette_score, part.obsm["X_pca"], part.obs["donor"])
        results.append(
            {
                "round": i,
                "all_cells": seconds,
                "one": own_one,
                "sklearn_three": three,
                "sklearn_one": one,
            }
        )
    difference = max(abs(own[of] - reference[of]) for of in reference)
    save("scores", results, n_cells=adata.n_obs, largest_difference=difference)


def tables() -> dict[str, str]:
    record = load("scores")
    results = record["results"]
    median = {key: np.median([row[key] for row in results]) for key in results[0]}

    def row(what: str, n_cells: int, key: str) -> dict:
        own = "one" if key.endswith("one") else "all_cells"
        ratios = [other[key] / other[own] for other in results]
        span = f"{np.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        span = span if key.startswith("sklearn") else ""
        return {"what": what, "n": n_cells, "seconds": median[key], "ratio": span}

    rows = [
        row("`bm.scores`, all nine", record["n_cells"], "all_cells"),
        row("scikit-learn, the three silhouettes", 10_000, "sklearn_three"),
        row("ours, silhouette of the batch", record["n_cells"], "one"),
        row("scikit-learn, silhouette of the batch", 10_000, "sklearn_one"),
    ]
    columns = {
        "": "{what}",
        "cells": "{n:,}",
        "seconds": "{seconds:.1f}",
        "times ours": "{ratio}",
    }
    return {"time": markdown(rows, columns)}


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        run()
    print(*tables().values(), sep="\n\n")
