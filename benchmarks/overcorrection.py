"""What batch correction removes: a state that some donors alone have, a type of one donor alone.

python benchmarks/overcorrection.py run   # writes results/overcorrection.json, after every fit
python benchmarks/overcorrection.py       # prints the tables

OneK1K. *A state*: in two donors, half of the naive T cells get 200 genes doubled or halved. Such
cells are of the donor and of biology at once; what an embedding keeps of them is the balanced
accuracy at which a forest tells them from the donors' other T cells, and how well the best of its
clusters matches them (F1). *A type of one donor*: all memory B cells but those of one donor are
left out; do they stay apart from the monocytes and T cells of all donors?
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from _record import data_folder, markdown, save, saved
from pseudo_donors import thin
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors

import scmedal_tools as smt

SEEDS = (0, 1, 2)
FILE = "onek1k_pbmc_40donors_1000genes.h5ad"
BATCH_KEY, LABELS_KEY = "donor", "cell_type"
SHIFTED, ALONE = "CD4 naive/central memory T", "memory B"
N_DONORS, N_GENES = 2, 200
RESOLUTIONS = (0.5, 1.0, 2.0, 4.0)
METHODS = ("PCA", "Harmony", "FE", "RE's content", "RE")


class Design(NamedTuple):
    """Cells, and which of them are to be found again."""

    adata: ad.AnnData
    planted: np.ndarray
    compared: np.ndarray
    """Cells among which they have to be found."""


def state(seed: int) -> Design:
    """Half of the T cells of two donors, with 200 genes doubled or halved."""
    rng = np.random.default_rng(seed)
    adata = ad.read_h5ad(data_folder() / FILE)
    of_type = (adata.obs[LABELS_KEY] == SHIFTED).to_numpy()
    frequent = adata.obs.loc[of_type, BATCH_KEY].value_counts().index[: 4 * N_DONORS]
    donors = rng.choice(frequent.to_numpy(), N_DONORS, replace=False)
    candidates = of_type & adata.obs[BATCH_KEY].isin(donors).to_numpy()
    planted = candidates & (rng.random(adata.n_obs) < 0.5)
    genes = rng.choice(adata.n_vars, N_GENES, replace=False)
    lower, higher = np.split(genes, 2)
    kept = np.ones((adata.n_obs, adata.n_vars), dtype=np.float32)
    kept[np.ix_(planted, lower)] = 0.5
    kept[np.ix_(~planted, higher)] = 0.5
    adata.X = thin(adata.X, kept, rng)
    return Design(adata, planted, candidates)


def one_donor(seed: int) -> Design:
    """Memory B cells of one donor alone."""
    rng = np.random.default_rng(seed)
    adata = ad.read_h5ad(data_folder() / FILE)
    of_type = (adata.obs[LABELS_KEY] == ALONE).to_numpy()
    frequent = adata.obs.loc[of_type, BATCH_KEY].value_counts().index[:8]
    kept = ~of_type | (adata.obs[BATCH_KEY] == rng.choice(frequent.to_numpy())).to_numpy()
    adata = adata[kept].copy()
    return Design(adata, of_type[kept], np.ones(adata.n_obs, dtype=bool))


DESIGNS = {"state of two donors": state, "type of one donor": one_donor}


def embedded(adata: ad.AnnData, seed: int) -> dict[str, np.ndarray]:
    """Latents of every method; RE's are one network's."""
    scvi.settings.seed = seed
    found = {"PCA": smt.ext.pca, "Harmony": smt.ext.harmony}
    found = {n: adata.obsm[f(adata, batch_key=BATCH_KEY, seed=seed)] for n, f in found.items()}
    for name, cls in (("FE", smt.model.SCMEDAL_FE), ("RE", smt.model.SCMEDAL_RE)):
        cls.setup_anndata(adata, batch_key=BATCH_KEY)
        model = cls(adata)
        model.train(enable_progress_bar=False)
        found[name] = model.get_latent_representation()
    found["RE's content"] = model.get_latent_representation(kind="content")
    return {name: found[name] for name in METHODS}


def judged(design: Design, latent: np.ndarray, seed: int) -> dict[str, float]:
    """How well the planted cells are found again."""
    x, truth = latent[design.compared], design.planted[design.compared]
    forest = RandomForestClassifier(200, class_weight="balanced", random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    guess = cross_val_predict(forest, x, truth, cv=folds)
    near = NearestNeighbors(n_neighbors=16).fit(x).kneighbors(x[truth], return_distance=False)
    return {
        "forest": round(float(balanced_accuracy_score(truth, guess)), 4),
        "neighbours": round(float(truth[near[:, 1:]].mean()), 4),
        "chance": round(float(truth.mean()), 4),
        "cluster": round(best_cluster(latent, design, seed), 4),
    }


def best_cluster(latent: np.ndarray, design: Design, seed: int) -> float:
    """Largest F1 of a Leiden cluster of all cells as a guess of the planted ones."""
    cells = ad.AnnData(np.zeros((len(latent), 1), dtype=np.float32), obsm={"X": latent})
    sc.pp.neighbors(cells, use_rep="X", random_state=seed)
    best = 0.0
    for resolution in RESOLUTIONS:
        sc.tl.leiden(
            cells, resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed
        )
        clusters = cells.obs["leiden"].to_numpy()
        best = max(best, *(f1_score(design.planted, clusters == c) for c in np.unique(clusters)))
    return best


def run() -> None:
    results = saved("overcorrection")
    done = {(row["design"], row["seed"]) for row in results}
    for seed in SEEDS:
        for name, make in DESIGNS.items():
            if (name, seed) in done:
                continue
            design = make(seed)
            smt.pp.preprocess(design.adata, batch_key=BATCH_KEY, n_top_genes=None)
            for method, latent in embedded(design.adata, seed).items():
                row = {"design": name, "seed": seed, "method": method}
                results.append(row | judged(design, latent, seed))
            save("overcorrection", results)
            print(pd.DataFrame(results[-len(METHODS) :]).to_string(), flush=True)


def tables() -> dict[str, str]:
    frame = pd.DataFrame(saved("overcorrection"))
    means = frame.groupby(["design", "method"]).mean(numeric_only=True)
    rows = [
        {"design": design, "method": method} | means.loc[(design, method)].to_dict()
        for design in DESIGNS
        for method in METHODS
        if (design, method) in means.index
    ]
    columns = {"planted": "{design}", "embedding": "{method}", "read by a forest": "{forest:.2f}"}
    columns |= {
        "of a planted cell's 15 neighbours": "{neighbours:.2f}",
        "by chance": "{chance:.2f}",
    }
    return {"found": markdown(rows, columns | {"best cluster, F1": "{cluster:.2f}"})}


if __name__ == "__main__":
    for logger in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run()
    else:
        for text in tables().values():
            print(text)
