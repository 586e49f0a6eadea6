"""Random effects of two factors: a simulation whose effects are known, and real plates.

python benchmarks/factors.py run simulated mixology   # writes results/factors_<name>.json
python benchmarks/factors.py                          # prints the tables

*Simulated*: donors of ``datasets.simulated()``, whose cells are divided at random among three
protocols. One leaves the counts as they are; the others keep each count of a gene with a
probability of that gene (binomial thinning), so that the effect of the protocol on every cell is
known. *Mixology*: cell lines on five plates, of which one is Drop-seq and four are CEL-seq2; the
protocol's effect on each of the lines in Drop-seq is predicted without the cells of that line.
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
from scipy import sparse

import scmedal_tools as smt
from scmedal_tools.bm import agreement

SEEDS = (0, 1, 2)
PROTOCOLS = ("v1", "v2", "v3")
CELL_SCALE = 3
LOG_KEPT_SD = 0.5
MIN_CELLS = 10
MIXOLOGY = "mixology_tian2019_celllines.h5ad"
# Also with the weight of SCMEDAL_FE, as a few hundred cells leave the plate in the content.
NETWORKS = {"RE": {}, "RE, adversary_weight=40": {"adversary_weight": 40.0}}
DROPSEQ = {"batch": "dropseq_3cl", "protocol": "Drop-seq"}


def simulate(seed: int) -> tuple[ad.AnnData, dict[str, np.ndarray]]:
    """Cells of donors and protocols, and the log-normalised expression of all in each protocol."""
    adata = smt.datasets.simulated(cell_scale=CELL_SCALE, seed=seed)
    rng = np.random.default_rng(seed)
    protocol = rng.integers(len(PROTOCOLS), size=adata.n_obs)
    counts = adata.X.tocsr()
    measured = counts.copy()
    in_protocol = {}
    for i, name in enumerate(PROTOCOLS):
        kept = np.ones(adata.n_vars)
        if i:
            kept = np.exp(-np.abs(rng.normal(0, LOG_KEPT_SD, adata.n_vars)))
        thinned = counts.copy()
        thinned.data = rng.binomial(counts.data.astype(int), kept[counts.indices])
        in_protocol[name] = normalised(thinned)
        own = sparse.diags_array((protocol == i).astype(float))
        measured = measured + own @ (thinned - counts) if i else measured
    adata.X = sparse.csr_matrix(measured.astype(np.float32))
    adata.X.eliminate_zeros()
    adata.obs["protocol"] = pd.Categorical.from_codes(protocol, PROTOCOLS)
    return adata, in_protocol


def normalised(counts: sparse.csr_matrix) -> np.ndarray:
    totals = np.maximum(np.asarray(counts.sum(1)), 1)
    return np.log1p(1e4 * counts.toarray() / totals).astype(np.float32)


def run_simulated() -> None:
    results = []
    for seed in SEEDS:
        adata, in_protocol = simulate(seed)
        genes = adata.var_names
        smt.pp.preprocess(adata, batch_key="donor", min_genes=0)
        chosen = genes.get_indexer(adata.var_names)
        scvi.settings.seed = seed
        factors = {"batch_key": "donor", "random_effect_keys": ["protocol"]}
        smt.model.SCMEDAL_RE.setup_anndata(adata, **factors)
        model = smt.model.SCMEDAL_RE(adata)
        model.train(enable_progress_bar=False)
        rows = [
            *of_protocols(model, adata, {k: x[:, chosen] for k, x in in_protocol.items()}),
            *of_donors(model, adata),
        ]
        results += [
            {"commit": SOURCE["commit"], "seed": seed, "cells": adata.n_obs} | r for r in rows
        ]
        save("factors_simulated", results)
        print(pd.DataFrame(rows).groupby("factor").median(numeric_only=True), flush=True)


def of_protocols(model, adata: ad.AnnData, truth: dict[str, np.ndarray]) -> list[dict]:
    """Shift of the cells of each protocol and type to each other protocol."""
    reconstruction = model.get_reconstruction(return_numpy=True)
    rows = []
    for target in PROTOCOLS:
        swapped = model.get_counterfactual_expression(
            transform_batch={"protocol": target}, return_numpy=True
        )
        for (source, label), cells in groups(adata, ["protocol", "cell_type"]):
            if source == target or len(cells) < MIN_CELLS:
                continue
            predicted = (swapped[cells] - reconstruction[cells]).mean(0)
            true = (truth[target][cells] - truth[source][cells]).mean(0)
            rows.append({"factor": "protocol", "cell_type": label} | agreement(predicted, true))
    return rows


def of_donors(model, adata: ad.AnnData) -> list[dict]:
    """Shift of each donor's cells of the first protocol, in which counts are as simulated."""
    first = np.flatnonzero(adata.obs["protocol"] == PROTOCOLS[0])
    cells = adata[first].copy()
    reconstruction = model.get_reconstruction(indices=first, return_numpy=True)
    rows = []
    for target in model.batch_names:
        swapped = model.get_counterfactual_expression(
            indices=first, transform_batch=target, return_numpy=True
        )
        for (source, label), group in groups(cells, ["donor", "cell_type"]):
            if source == target or len(group) < MIN_CELLS:
                continue
            predicted = (swapped[group] - reconstruction[group]).mean(0)
            true = smt.datasets.true_shift(adata, label, source, target).to_numpy()
            rows.append({"factor": "donor", "cell_type": label} | agreement(predicted, true))
    return rows


def groups(adata: ad.AnnData, keys: list[str]):
    return adata.obs.reset_index(drop=True).groupby(keys, observed=True).indices.items()


def run_mixology() -> None:
    cells = ad.read_h5ad(data_folder() / MIXOLOGY)
    in_dropseq = cells.obs["protocol"] == DROPSEQ["protocol"]
    results = []
    for line in cells.obs["cell_type"][in_dropseq].unique():
        held_out = (in_dropseq & (cells.obs["cell_type"] == line)).to_numpy()
        for seed in SEEDS:
            adata = cells[~held_out].copy()
            smt.pp.preprocess(adata, batch_key="batch", n_top_genes=2000)
            measured = cells.copy()
            smt.pp.preprocess(measured, n_top_genes=None, min_cells=0)
            measured = measured[:, adata.var_names].to_df()
            smt.model.SCMEDAL_RE.setup_anndata(adata, "batch", random_effect_keys=["protocol"])
            of_line = np.flatnonzero(adata.obs["cell_type"] == line)
            shifts, shares = {}, {}
            for method, settings in NETWORKS.items():
                scvi.settings.seed = seed
                model = smt.model.SCMEDAL_RE(adata, **settings)
                model.train(enable_progress_bar=False)
                swapped, own = (
                    model.get_counterfactual_expression(
                        indices=of_line, transform_batch=DROPSEQ, return_numpy=True
                    ),
                    model.get_reconstruction(indices=of_line, return_numpy=True),
                )
                shifts[method] = (swapped - own).mean(0)
                components = smt.tl.variance_components(model, progress=False)
                shares[method] = components.filter(like="_share").mean().to_dict()
            others = (
                cells.obs["cell_type"].isin(cells.obs["cell_type"][in_dropseq].unique()).to_numpy()
                & (cells.obs["cell_type"] != line).to_numpy()
            )
            own = (cells.obs["cell_type"] == line).to_numpy() & ~in_dropseq.to_numpy()
            true = (measured[held_out].mean() - measured[own].mean()).to_numpy()
            additive = (
                measured[others & in_dropseq.to_numpy()].mean()
                - measured[others & ~in_dropseq.to_numpy()].mean()
            ).to_numpy()
            for method, shift in (shifts | {"other lines": additive}).items():
                row = {"commit": SOURCE["commit"], "line": line, "seed": seed, "method": method}
                results.append(row | agreement(shift, true) | shares.get(method, {}))
            save("factors_mixology", results, data=MIXOLOGY)
            print(line, seed, results[-2], flush=True)


def run_mixology_seen() -> None:
    """Shifts between plates of lines that both have, against cells that were not in training."""
    adata = ad.read_h5ad(data_folder() / MIXOLOGY)
    smt.pp.preprocess(adata, batch_key="batch", n_top_genes=2000)
    protocol = adata.obs.groupby("batch", observed=True)["protocol"].first()
    results = []
    for seed in SEEDS:
        parts = smt.train.stratified_split(
            adata.obs, ["batch", "cell_type"], (0.6, 0.1, 0.3), seed
        )
        smt.model.SCMEDAL_RE.setup_anndata(adata, "batch", random_effect_keys=["protocol"])
        methods = {"means of the training cells": means_of(adata, parts[0])}
        for name, settings in NETWORKS.items():
            scvi.settings.seed = seed
            model = smt.model.SCMEDAL_RE(adata, **settings)
            model.train(
                datasplitter_kwargs={"external_indexing": parts}, enable_progress_bar=False
            )
            methods[name] = in_plate(model, protocol)
        shifts = smt.bm.counterfactual_shift(
            methods, adata, "batch", "cell_type", train=parts[0], test=parts[2],
            baselines=False, progress=False,
        )  # fmt: skip
        source, target = (shifts[key].map(protocol.astype(str)) for key in ("source", "target"))
        within = (source == target).to_numpy()
        shifts["between"] = np.where(within, "plates of one protocol", "protocols")
        results += shifts.assign(commit=SOURCE["commit"], seed=seed).to_dict("records")
        save("factors_mixology_seen", results, data=MIXOLOGY)
        print(shifts.groupby(["between", "method"]).median(numeric_only=True), flush=True)


def in_plate(model, protocol: pd.Series):
    """The model's counterfactual to a plate, and with it to the plate's protocol."""

    def counterfactual(cells: np.ndarray, target: str) -> np.ndarray:
        levels = {"batch": target, "protocol": protocol[target]}
        return model.get_counterfactual_expression(
            indices=cells, transform_batch=levels, return_numpy=True
        )

    return counterfactual


def means_of(adata: ad.AnnData, train: np.ndarray):
    """What the means of the training cells say of a line in a plate."""
    in_train = dict(groups(adata[train], ["batch", "cell_type"]))

    def expected(cells: np.ndarray, target: str) -> np.ndarray:
        line = adata.obs["cell_type"].iloc[cells[0]]
        return np.asarray(adata.X[train[in_train[target, line]]].mean(0)).reshape(1, -1)

    return expected


def tables() -> dict[str, str]:
    simulated = pd.DataFrame(load("factors_simulated")["results"])
    rows = []
    for factor, of_factor in simulated.groupby("factor"):
        medians = of_factor.groupby("seed")[["correlation", "slope", "relative_error"]].median()
        low, high = medians["correlation"].min(), medians["correlation"].max()
        rows.append({"factor": factor, "low": low, "high": high} | medians.mean().to_dict())
    columns = {
        "factor": "{factor}",
        "correlation": "{correlation:.2f}",
        "seeds": "{low:.2f} to {high:.2f}",
        "slope": "{slope:.2f}",
        "relative error": "{relative_error:.2f}",
    }
    mixology = pd.DataFrame(load("factors_mixology")["results"])
    of_lines = mixology.groupby(["line", "method"]).mean(numeric_only=True).reset_index()
    of_line_columns = {
        "line held out of Drop-seq": "{line}",
        "method": "{method}",
        "correlation": "{correlation:.2f}",
        "slope": "{slope:.2f}",
        "relative error": "{relative_error:.2f}",
    }
    seen = pd.DataFrame(load("factors_mixology_seen")["results"])
    seen = seen.groupby(["between", "method"]).median(numeric_only=True).reset_index()
    seen_columns = {
        "shift between": "{between}",
        "method": "{method}",
        "correlation": "{correlation:.2f}",
        "ceiling": "{ceiling:.2f}",
        "slope": "{slope:.2f}",
        "error": "{error:.2f}",
    }
    names = {"content_share": "cells", "batch_share": "plates", "protocol_share": "protocols"}
    shares = mixology.loc[mixology["method"] == "RE", list(names)].mean().rename(names).to_dict()
    return {
        "simulated": markdown(rows, columns),
        "mixology": markdown(of_lines.to_dict("records"), of_line_columns),
        "seen": markdown(seen.to_dict("records"), seen_columns),
        "shares": markdown([shares], {name: f"{{{name}:.2f}}" for name in names.values()}),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in sys.argv[2:] if sys.argv[1:2] == ["run"] else ():
        {"simulated": run_simulated, "mixology": run_mixology, "seen": run_mixology_seen}[name]()
    if sys.argv[1:2] != ["run"]:
        for name, table in tables().items():
            print(f"{name}\n{table}\n")
