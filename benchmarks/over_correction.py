"""Is biology removed together with the batch? A state of two donors, and a type of one donor.

python benchmarks/over_correction.py run
python benchmarks/over_correction.py        # prints the table

Cells of OneK1K are dealt to twelve donors, and every donor gets log-fold changes of its own, the
same in all cell types: what has to be corrected. *Planted*: in two donors the cells of the most
frequent type have 200 further genes shifted, and another type is taken out of all donors but one.
*Nothing planted*: neither is done, with the same cells and the same labels, as the control. What
is removed of the state is what a forest reads of it less, with the batch mixed or not beside it.
``run`` writes ``results/over_correction.json`` after every fit and leaves out what is saved.
"""

from __future__ import annotations

import sys
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from _record import SOURCE, markdown, save, saved
from correction import DataSet, of_comparator, of_model, readable, recalls_of
from pseudo_donors import N_CELLS, N_DONORS, dealt, thin
from sklearn.neighbors import NearestNeighbors

import scmedal_tools as smt

SEEDS = (0, 1)
DONOR_SD = 0.4  # of log-fold changes
N_SHIFTED, FOLD = 200, 2.0
DONORS_OF_STATE, DONOR_OF_TYPE = ("D00", "D01"), "D02"
N_NEIGHBORS = 30
DATA = DataSet(None, "donor")
RECORD = "over_correction"


def random_effects(adata: ad.AnnData, data_set: DataSet, seed: int) -> np.ndarray:
    """Latent of RE, which carries the effects of the batch."""
    scvi.settings.seed = seed
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key=data_set.batch_key)
    model = smt.model.SCMEDAL_RE(adata)
    model.train(enable_progress_bar=False)
    return model.get_latent_representation()


METHODS = {
    "PCA": of_comparator("pca"),
    "Harmony": of_comparator("harmony"),
    "FE": of_model("SCMEDAL_FE"),
    "FEC": of_model("SCMEDAL_FEC"),
    "RE's content": of_model("SCMEDAL_RE"),
    "RE's latent": random_effects,
}


def cells_of(seed: int, planted: bool) -> tuple[ad.AnnData, str, str]:
    """Cells with a batch effect, the type that has the state and that of one donor."""
    rng = np.random.default_rng(200 + seed)
    adata = dealt(seed, "equal")[:N_CELLS].copy()
    with_state, of_one = adata.obs["cell_type"].value_counts().index[[0, 2]]
    donor = adata.obs["donor"].cat.codes.to_numpy()
    change = rng.normal(0, DONOR_SD, (N_DONORS, adata.n_vars))[donor]
    of_state = state_label(adata, with_state)
    genes = rng.permutation(adata.n_vars)[:N_SHIFTED]
    if planted:
        signs = rng.choice([-1.0, 1.0], N_SHIFTED)
        change[np.ix_(of_state, genes)] += np.log(FOLD) * signs
    # Thinning only takes away: changes are relative to the largest of a gene.
    adata.X = thin(adata.X, np.exp(change - change.max(0)), rng)
    kept = np.asarray(adata.X.sum(1)).ravel() > 0
    if planted:
        kept &= (adata.obs["cell_type"] != of_one) | (adata.obs["donor"] == DONOR_OF_TYPE)
    adata = adata[kept].copy()
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    return adata, with_state, of_one


def state_label(adata: ad.AnnData, with_state: str) -> np.ndarray:
    """Whether a cell is of the donors and the type that have the state."""
    of_donors = adata.obs["donor"].isin(DONORS_OF_STATE)
    return (of_donors & (adata.obs["cell_type"] == with_state)).to_numpy()


def clustered(embedding: np.ndarray, is_state: np.ndarray) -> float:
    """F1 of the clusters in which most cells have the state."""
    cells = ad.AnnData(np.zeros((len(embedding), 1), dtype=np.float32))
    cells.obsm["embedding"] = np.asarray(embedding, dtype=np.float32)
    sc.pp.neighbors(cells, n_neighbors=15, use_rep="embedding", random_state=0)
    sc.tl.leiden(cells, flavor="igraph", n_iterations=2, random_state=0)
    found = pd.Series(is_state).groupby(cells.obs["leiden"].to_numpy()).transform("mean") > 0.5
    hits = (found & is_state).sum()
    return float(2 * hits / (found.sum() + is_state.sum()))


def measures(embedding: np.ndarray, adata: ad.AnnData, with_state: str, of_one: str) -> dict:
    label = adata.obs["cell_type"].astype(str).to_numpy()
    batch = adata.obs["donor"].astype(str).to_numpy()
    of_type = label == with_state
    is_state = state_label(adata, with_state)[of_type]
    nearest = NearestNeighbors(n_neighbors=N_NEIGHBORS + 1).fit(embedding)
    alone = (label == of_one) & (batch == DONOR_OF_TYPE)
    neighbors = nearest.kneighbors(embedding[alone], return_distance=False)[:, 1:]
    others = readable(embedding[~of_type], pd.Series(batch[~of_type]), pd.Series(label[~of_type]))
    return {
        "batch": others["forest: batch within type, excess"],
        "state": float(recalls_of(embedding[of_type], is_state).mean()),
        "clusters": clustered(embedding[of_type], is_state),
        "type": float((label[neighbors] == of_one).mean()),
    }


def run(seed: int, planted: bool) -> None:
    done = {(row["seed"], row["planted"], row["method"]) for row in saved(RECORD)}
    methods = [name for name in METHODS if (seed, planted, name) not in done]
    adata, with_state, of_one = cells_of(seed, planted)
    for name in methods:
        embedding = METHODS[name](adata.copy(), DATA, seed)
        row = {"seed": seed, "planted": planted, "method": name, "commit": SOURCE["commit"]}
        row |= measures(embedding, adata, with_state, of_one)
        save(RECORD, [*saved(RECORD), row])
        print(row, flush=True)


def tables() -> dict[str, str]:
    rows = pd.DataFrame(saved(RECORD))
    mean = rows.groupby(["method", "planted"])[["batch", "state", "clusters", "type"]].mean()
    lines = []
    for name in METHODS:
        with_state, without = mean.loc[name, True], mean.loc[name, False]
        line = {"method": name, "batch": f"{with_state['batch']:.2f}"}
        for measure in ("state", "clusters", "type"):
            line[measure] = f"{with_state[measure]:.2f}"
            line[f"{measure}, control"] = f"{without[measure]:.2f}"
        lines.append(line)
    titles = {
        "method": "method",
        "donor predicted, other types": "batch",
        "state predicted": "state",
        "nothing planted": "state, control",
        "state in clusters, F1": "clusters",
        "nothing planted ": "clusters, control",
        "neighbors of the type of one donor": "type",
        "type of all donors": "type, control",
    }
    return {"planted": markdown(lines, {t: f"{{{key}}}" for t, key in titles.items()})}


if __name__ == "__main__":
    smt.train.quiet()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        for seed in SEEDS:
            for planted in (True, False):
                run(seed, planted)
    else:
        print(tables()["planted"])
