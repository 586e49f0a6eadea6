"""False positives of ``tl.differential_abundance``, in real cells dealt to made-up donors.

python benchmarks/differential_abundance.py run   # writes results/differential_abundance.json
python benchmarks/differential_abundance.py       # prints the table

Cells of OneK1K are dealt at random to donors, who therefore have the same mixture of cells.
Groups at random are right by symmetry, as p-values come from giving the groups to other donors;
so groups are unlike in the number of their cells, or in depth. Every data set has a network of its
own. Those that are saved are not run again.
"""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import scvi
import torch
from _group_effects_cells import onek1k
from _group_effects_tables import LEVEL
from _record import SOURCE, load, markdown, save, saved
from pseudo_donors import thin

import scmedal_tools as smt

N_SETS, FIRST_SEED, EPOCHS = 6, 1_000, 50
N_CELLS, N_GENES = 1_800, 500


class Design(NamedTuple):
    name: str
    weights: tuple[int, ...]
    """Relative numbers of cells of the donors, of the first group first."""
    n_first: int
    depth: float = 1.0
    """Of the first group."""


DESIGNS = (
    Design("3 with four times the cells, and 9", (4,) * 3 + (1,) * 9, 3),
    Design("6 at three quarters of the depth, and 6", (1,) * 12, 6, 0.75),
    Design("6 at half the depth, and 6", (1,) * 12, 6, 0.5),
)


def measure(design: Design, seed: int) -> dict:
    rng, pool = np.random.default_rng(seed), onek1k()
    expressed = np.asarray((pool.X > 0).mean(0)).ravel()
    genes = np.sort(expressed.argsort()[-N_GENES:])
    adata = pool[rng.permutation(pool.n_obs)[:N_CELLS], genes].copy()
    shares = np.array(design.weights) / sum(design.weights)
    donor = rng.choice(len(shares), adata.n_obs, p=shares)
    adata.obs["donor"] = pd.Categorical([f"D{k:02d}" for k in donor])
    first = donor < design.n_first
    adata.obs["group"] = pd.Categorical(np.where(first, "a", "b"))
    if design.depth < 1:
        adata.X = thin(adata.X, np.where(first, design.depth, 1.0), rng)
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None, min_cells=0)
    scvi.settings.seed = seed
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
    model = smt.model.SCMEDAL_RE(adata)
    model.train(max_epochs=EPOCHS, enable_progress_bar=False)
    table = smt.tl.differential_abundance(model, group_key="group", seed=seed)
    return {
        "neighbourhoods": len(table),
        "below_05": float((table["p_value"] < LEVEL).mean()),
        "found": int((table["adj_p_value"] < LEVEL).sum()),
    }


def run() -> None:
    results = saved("differential_abundance")
    for design in DESIGNS:
        for seed in range(FIRST_SEED, FIRST_SEED + N_SETS):
            key = {"design": design.name, "seed": seed}
            if any(key.items() <= row.items() for row in results):
                continue
            results.append(key | {"commit": SOURCE["commit"]} | measure(design, seed))
            save("differential_abundance", results, epochs=EPOCHS)
            print(results[-1], flush=True)


def tables() -> dict[str, str]:
    results = pd.DataFrame(load("differential_abundance")["results"])
    results["any"] = results["found"] > 0
    grouped = results.groupby("design", sort=False)
    rows = grouped[["below_05", "found"]].mean()
    rows = rows.assign(se=grouped["below_05"].sem(), any=grouped["any"].sum(), n=grouped.size())
    return {
        "null": markdown(
            rows.reset_index().to_dict("records"),
            {
                "groups of donors": "{design}",
                "p < .05": "{below_05:.3f} ± {se:.3f}",
                "neighbourhoods with adjusted p < .05": "{found:.1f}",
                "data sets with one or more": "{any} of {n}",
            },
        )
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    smt.train.quiet()
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run()
    for title, table in tables().items():
        print(f"{title}\n{table}\n")
