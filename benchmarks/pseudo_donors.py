"""Effects and intervals where the truth is known, in real cells dealt to donors that are made up.

python benchmarks/pseudo_donors.py run null planted
python benchmarks/pseudo_donors.py                     # prints the tables

Designs that are saved are not run again.

Cells of OneK1K are dealt to twelve donors. *null*: nothing else is done, or half of the donors
have their counts thinned to three quarters; every effect that is found is false. *planted*: each
gene of one half has a log-fold change of its own in every donor, and in every type of a donor, by
thinning its counts; the truth is the mean over all cells of a type under the changes of either
donor, on many thinnings. Results go to ``results/pseudo_donors.json``.
"""

from __future__ import annotations

import sys
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _intervals import LEVEL, of_strata
from _networks import weights_of, with_network
from _record import SOURCE, data_folder, load, markdown, save, saved
from scipy import sparse, stats

import scmedal_tools as smt
from scmedal_tools._gene_model import GroupSums, fit_mixed_model, state_correlation

FILE = "onek1k_pbmc_40donors_1000genes.h5ad"
N_DONORS, N_CELLS, N_GENES = 12, 3_000, 500
THINNED = 0.75
# Seeds of designs: equal or unequal composition, all donors at one depth or half of them thinned.
NULL_DESIGNS = {
    ("equal", 1.0): (0, 1, 2),
    ("unequal", 1.0): (0, 1, 2),
    ("equal", THINNED): (0, 1),
    ("unequal", THINNED): (0, 1),
}
PLANTED_SEEDS = (0, 1)
DONOR_SD, TYPE_SD = 0.4, 0.3  # of log-fold changes
N_THINNINGS = 20
N_DRAWS = 60


def dealt(seed: int, composition: str) -> ad.AnnData:
    """Some genes of some cells, raw counts, each with a made-up donor."""
    rng = np.random.default_rng(seed)
    adata = ad.read_h5ad(data_folder() / FILE)
    expressed = np.asarray((adata.X > 0).mean(0)).ravel()
    genes = np.sort(rng.choice(np.flatnonzero(expressed > 0.01), N_GENES, replace=False))
    adata = adata[rng.permutation(adata.n_obs), genes].copy()
    if composition == "equal":
        donor = rng.integers(N_DONORS, size=adata.n_obs)
    else:
        types = adata.obs["cell_type"].cat.codes.to_numpy()
        shares = rng.dirichlet(np.ones(N_DONORS), size=types.max() + 1)
        donor = np.array([rng.choice(N_DONORS, p=shares[label]) for label in types])
    adata.obs["donor"] = pd.Categorical([f"D{k:02d}" for k in donor])
    return adata


def thin(counts: sparse.csr_matrix, share: np.ndarray, rng: np.random.Generator):
    """Counts of which each molecule is kept with a probability, cells x genes or by cell."""
    kept = sparse.csr_matrix(counts, copy=True)
    rows = np.repeat(np.arange(kept.shape[0]), np.diff(kept.indptr))
    of_entries = share[rows] if share.ndim == 1 else share[rows, kept.indices]
    kept.data = rng.binomial(kept.data.astype(int), of_entries).astype(np.float32)
    return kept


def trained(adata: ad.AnnData, seed: int) -> smt.model.SCMEDAL_RE:
    scvi.settings.seed = seed
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
    model = smt.model.SCMEDAL_RE(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that effects have collapsed, rightly
        model.train(enable_progress_bar=False)
    return model


def null_design(composition: str, depth: float, seed: int) -> dict:
    adata = dealt(seed, composition)[:N_CELLS].copy()
    rng = np.random.default_rng(seed)
    donor = adata.obs["donor"].cat.codes.to_numpy()
    if depth < 1:
        adata.X = thin(adata.X, np.where(donor % 2, depth, 1.0), rng)
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    model = trained(adata, seed)
    effects = model.get_batch_effects()
    z = effects["z"].abs()
    return {
        "composition": composition,
        "depth": depth,
        "seed": seed,
        "excludes_zero": float((z > stats.norm.ppf((1 + LEVEL) / 2)).mean()),
        "z_above_3": float((z > 3).mean()),
        "largest_z": float(z.max()),
        "rms": float(effects["effect"].pow(2).mean() ** 0.5),
        "lfsr_below_05": float((effects["lfsr"] < 0.05).mean()),
        "p_nonzero": float(effects["p_nonzero"].mean()),
        "swap_gap": model.get_swap_gap(),
    }


def planted_design(seed: int) -> list[dict]:
    """Coverage and Winkler score of RE, RE with the types given, and the mixed model."""
    pool = dealt(seed, "equal")
    rng = np.random.default_rng(100 + seed)
    types = pool.obs["cell_type"].cat
    changed = rng.permutation(N_GENES) < N_GENES // 2
    change = rng.normal(0, DONOR_SD, (N_DONORS, 1, N_GENES))
    change = change + rng.normal(0, TYPE_SD, (N_DONORS, len(types.categories), N_GENES))
    change *= changed
    kept = np.exp(change - change.max(0))  # shares of the molecules: changes relative to the most
    label = types.codes.to_numpy()
    donor = pool.obs["donor"].cat.codes.to_numpy()
    truth = true_means(pool.X, label, kept, rng)
    adata = pool[:N_CELLS].copy()
    adata.X = thin(adata.X, kept[donor[:N_CELLS], label[:N_CELLS]], rng)
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    model = trained(adata, seed)
    parts = (model.train_indices, model.validation_indices, model.test_indices)
    models = {
        "RE": model,
        "RE with states given": with_network(
            weights_of(model), adata, parts, "donor", states_key="cell_type"
        ),
    }
    limits, groups = {}, None
    for name, model in models.items():
        shifts = smt.tl.counterfactual_means(
            model, adata, list(adata.obs["donor"].cat.categories), labels_key="cell_type",
            n_samples=N_DRAWS, interval=LEVEL, progress=False,
        )  # fmt: skip
        shifts = shifts[shifts.obs["source"] != shifts.obs["target"]]
        groups = shifts.obs
        limits[name] = (shifts.layers["lower"], shifts.layers["upper"])
    names = {
        k: pd.Index(adata.obs[c].cat.categories)
        for k, c in (("source", "donor"), ("target", "donor"), ("cell_type", "cell_type"))
    }
    source, target, kind = (names[k].get_indexer(groups[k]) for k in names)
    shift = truth[target, kind] - truth[source, kind]
    train = adata[np.sort(model.train_indices)]
    limits["mixed model (given cell types)"] = mixed_model_limits(train, source, target, kind)
    return [
        {"method": name, "seed": seed} | row
        for name, pair in limits.items()
        for row in of_strata(shift, *pair)
    ]


def true_means(counts, label: np.ndarray, kept: np.ndarray, rng) -> np.ndarray:
    """Mean log-normalised expression of each type under each donor's changes."""
    n_donors, n_types, _ = kept.shape
    means = np.zeros(kept.shape)
    for donor in range(n_donors):
        for _ in range(N_THINNINGS):
            drawn = ad.AnnData(thin(counts, kept[donor, label], rng))
            totals = np.asarray(drawn.X.sum(1)).ravel()
            x = drawn.X.multiply(1e4 / np.maximum(totals, 1)[:, None]).tocsr().log1p()
            for kind in range(n_types):
                means[donor, kind] += np.asarray(x[label == kind].mean(0)).ravel() / N_THINNINGS
    return means


def mixed_model_limits(adata: ad.AnnData, source, target, kind) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of the mixed model of each gene, given the types."""
    donor, label = (adata.obs[key].cat for key in ("donor", "cell_type"))
    sums = GroupSums(len(donor.categories), len(label.categories), adata.n_vars)
    sums.add(adata.X.toarray(), donor.codes.to_numpy(int), label.codes.to_numpy(int))
    profiles = sums.sums.sum(0) / sums.sizes.sum(0)[:, None]
    fitted = fit_mixed_model(sums, state_correlation(torch.from_numpy(profiles)))
    shift = fitted.loc[target, kind] - fitted.loc[source, kind]
    variance = fitted.sd[target, kind] ** 2 + fitted.sd[source, kind] ** 2
    width = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance)
    return shift - width, shift + width


def run(kinds: list[str]) -> None:
    results = saved("pseudo_donors")
    made_by = {"commit": SOURCE["commit"]}
    if "null" in kinds:
        for (composition, depth), seeds in NULL_DESIGNS.items():
            for seed in seeds:
                design = {"kind": "null", "composition": composition, "depth": depth, "seed": seed}
                if any(design.items() <= row.items() for row in results):
                    continue
                row = null_design(composition, depth, seed)
                results.append(design | made_by | row)
                save("pseudo_donors", results, data=FILE)
                print(row, flush=True)
    if "planted" in kinds:
        for seed in PLANTED_SEEDS:
            design = {"kind": "planted", "seed": seed}
            if any(design.items() <= row.items() for row in results):
                continue
            rows = planted_design(seed)
            results += [design | made_by | row for row in rows]
            save("pseudo_donors", results, data=FILE)
            print(pd.DataFrame(rows).to_string(), flush=True)


def tables() -> dict[str, str]:
    """Tables of the documentation."""
    rows = load("pseudo_donors")["results"]
    null = [row for row in rows if row["kind"] == "null"]
    planted = pd.DataFrame([row for row in rows if row["kind"] == "planted"])
    keys = ["method", "stratum"]
    planted = planted.groupby(keys, sort=False)[["coverage", "winkler"]].mean().reset_index()
    return {
        "null": markdown(
            null,
            {
                "composition": "{composition}",
                "depth of half of the donors": "{depth:g}",
                "90% intervals without zero": "{excludes_zero:.3f}",
                "abs(z) above 3": "{z_above_3:.3f}",
                "root mean square effect": "{rms:.4f}",
                "lfsr below .05": "{lfsr_below_05:.3f}",
            },
        ),
        "planted": markdown(
            planted.to_dict("records"),
            {
                "method": "{method}",
                "shifts": "{stratum}",
                "coverage": "{coverage:.2f}",
                "Winkler score": "{winkler:.3f}",
            },
        ),
    }


if __name__ == "__main__":
    smt.train.quiet()
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run(sys.argv[2:] or ["null", "planted"])
    else:
        for text in tables().values():
            print(text, end="\n\n")
