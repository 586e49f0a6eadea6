"""Variance between donors: of RE, of a mixed model of single genes, and the truth.

python benchmarks/variance_components.py run   # writes results/variance_components.json
python benchmarks/variance_components.py       # prints the tables

Simulated data, one training for each. The mixed model has each gene's expression in the training
cells, with fixed effects of the cell types, which RE is not given, and random effects of donors
and of donors in a type. The truth is what the simulation expects of all cells in every donor.
"""

from __future__ import annotations

import sys
import time
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import scvi
import statsmodels.formula.api as smf
import torch
from _record import SOURCE, load, markdown, save
from scipy.stats import spearmanr

import scmedal_tools as smt

SEEDS = (0, 1)
N_GENES = 200
PARTS = {"batch": "batch", "batch_share": "batch share"}
METHODS = {"re": "RE", "mixed_model": "mixed model", "truth": "truth"}


def run() -> None:
    results = []
    for seed in SEEDS:
        adata = smt.datasets.simulated(seed=seed)
        smt.pp.preprocess(adata, batch_key="donor")
        chosen = np.random.default_rng(seed).choice(adata.n_vars, N_GENES, replace=False)
        genes = adata.var_names[np.sort(chosen)]
        start = time.perf_counter()
        scvi.settings.seed = seed
        smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
        model = smt.model.SCMEDAL_RE(adata)
        model.train(enable_progress_bar=False)
        of_re = smt.tl.variance_components(model, progress=False).loc[genes]
        trained = time.perf_counter()
        training_cells = adata[model.train_indices]
        estimates = {
            "re": of_re[list(PARTS)],
            "mixed_model": pd.DataFrame([by_statsmodels(training_cells, g) for g in genes], genes),
            "truth": truth(adata[:, genes]),
        }
        results.append(
            {
                "commit": SOURCE["commit"],
                "seed": seed,
                "cells": adata.n_obs,
                "seconds_re": round(trained - start),
                "seconds_mixed_model": round(time.perf_counter() - trained),
                "genes": list(genes),
                "has_effect": adata.var.loc[genes, "has_effect"].tolist(),
                "varies": of_re["batch_share"].notna().tolist(),
            }
            | {
                f"{method}_{part}": [float(f"{value:.5g}") for value in table[part].fillna(0)]
                for method, table in estimates.items()
                for part in PARTS
            }
        )
        save("variance_components", results)
        print(*(f"{k}: {v}" for k, v in results[-1].items() if k.startswith("sec")), flush=True)


def by_statsmodels(cells, gene: str) -> dict[str, float]:
    table = cells.obs[["donor", "cell_type"]].astype(str)
    table["y"] = cells[:, gene].X.toarray().ravel().astype(float)
    model = smf.mixedlm(
        "y ~ C(cell_type)",
        table,
        groups="donor",
        re_formula="1",
        vc_formula={"type": "0 + C(cell_type)"},
    )
    # The default optimiser stops far from the optimum for some genes, without saying so.
    fitted = model.fit(method=["powell", "lbfgs"])
    batch = fitted.cov_re.iloc[0, 0] + fitted.vcomp[0]
    total = np.var(model.exog @ fitted.fe_params) + batch + fitted.scale
    return {"batch": batch, "batch_share": batch / total if total else 0.0}


def truth(adata) -> pd.DataFrame:
    """Variance between donors of what cells are expected to express, and its share.

    A group is the cells of a donor and a type. Its expected expression in every donor is known;
    the variance over donors is averaged over the groups by their numbers of cells. The rest is
    the variance of the measured cells once the true effect of their own donor is taken off.
    """
    expected = adata.varm["true_expression"]
    donors = adata.obs["donor"].cat.categories
    measured = adata.X.toarray().astype(float)
    batch = np.zeros(adata.n_vars)
    groups = adata.obs.reset_index().groupby(["cell_type", "donor"], observed=True).indices
    for (label, donor), cells in groups.items():
        in_donors = expected[[f"{label}|{donor}|{target}" for target in donors]].astype(float)
        batch += len(cells) / adata.n_obs * in_donors.var(axis=1).to_numpy()
        own_effect = in_donors[f"{label}|{donor}|{donor}"] - in_donors.mean(axis=1)
        measured[cells] -= own_effect.to_numpy()
    total = batch + measured.var(0)
    share = np.divide(batch, total, out=np.zeros_like(batch), where=total > 0)
    return pd.DataFrame({"batch": batch, "batch_share": share}, adata.var_names)


def tables() -> dict[str, str]:
    agreement, sums = [], []
    for result in load("variance_components")["results"]:
        genes = pd.DataFrame({k: v for k, v in result.items() if isinstance(v, list)})
        genes = genes[genes["varies"]]
        seed = {"seed": result["seed"]}
        pairs = list(combinations(METHODS, 2))
        agreement += [seed | compare(genes, part, *pair) for part in PARTS for pair in pairs]
        for name, some in (
            ("with", genes[genes["has_effect"]]),
            ("without", genes[~genes["has_effect"]]),
        ):
            total = {method: some[f"{method}_batch"].sum() for method in METHODS}
            sums.append(seed | {"genes": f"{len(some)} {name} effect"} | total)
    of_pairs = {
        "simulation": "{seed}",
        "": "{part}",
        "compared": "{first} to {second}",
        "correlation": "{correlation:.2f}",
        "rank correlation": "{rank:.2f}",
        "of genes with effect": "{rank_with_effect:.2f}",
        "median ratio": "{ratio:.2f}",
        "of the largest quarter": "{ratio_largest:.2f}",
    }
    of_sums = {"simulation": "{seed}", "genes": "{genes}"}
    of_sums |= {name: f"{{{method}:.2f}}" for method, name in METHODS.items()}
    return {"agreement": markdown(agreement, of_pairs), "sums": markdown(sums, of_sums)}


def compare(genes: pd.DataFrame, part: str, first: str, second: str) -> dict:
    """Agreement of two methods over all genes; ratios of those with an effect."""
    x, y = genes[f"{first}_{part}"], genes[f"{second}_{part}"]
    with_effect = genes["has_effect"]
    ratio = (x / y)[with_effect]
    return {
        "part": PARTS[part],
        "first": METHODS[first],
        "second": METHODS[second],
        "correlation": x.corr(y),
        "rank": spearmanr(x, y).statistic,
        "rank_with_effect": spearmanr(x[with_effect], y[with_effect]).statistic,
        "ratio": ratio.median(),
        "ratio_largest": ratio[y[with_effect].nlargest(with_effect.sum() // 4).index].median(),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run()
    for name, table in tables().items():
        print(f"{name}\n{table}\n")
