"""Limits of ``tl.group_effects``: repeated samples, few genes, large effects, depth.

python benchmarks/group_effects_limits.py run        # writes results/group_effects_limits.json
python benchmarks/group_effects_limits.py run depth  # measures one part again
python benchmarks/group_effects_limits.py            # prints the tables

Negative binomial counts of cells, as real ones that fit these questions are scarce. *samples*:
donors with several samples each, where what is tested has no effect, though donors may respond to
it. *few*: a few genes at a time are tested, with the totals of all; nothing differs. *intervals*:
effects of known size, in a fifth of the genes. *depth*: genes that vary a lot between cells, at
half the depth in one group.
"""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import torch
from _record import SOURCE, load, markdown, save, saved
from scipy import sparse, stats

import scmedal_tools as smt

LEVEL = 0.05
N_SETS, N_GENES = 10, 300
DONOR_SD, SAMPLE_SD = 0.2, 0.1
SIZE = 2.0  # of the negative binomial, by default
FEW, GENES_OF_FEW = (1, 5, 20, 80), 80
FOLDS = (1, 2, 8, 20)
SIZES = (0.1, 0.5, 5.0)


class Study(NamedTuple):
    name: str
    donor: np.ndarray
    x: np.ndarray
    """What is tested, by sample."""
    response_sd: float = 0.0
    sample_sd: float = SAMPLE_SD


def pairs(name: str, n_donors: int, numbers: list[float], n_each: int = 1, **options) -> Study:
    """Every donor with every number, so many times."""
    x = np.repeat(numbers, n_each)
    donor = np.repeat(np.arange(n_donors), len(x))
    return Study(name, donor, np.tile(x, n_donors), **options)


def between(name: str, n_samples: list[int], n_first: int, **options) -> Study:
    """Donors of two groups, with so many samples each."""
    donor = np.repeat(np.arange(len(n_samples)), n_samples)
    return Study(name, donor, (donor >= n_first).astype(float), **options)


STUDIES = (
    pairs("6 pairs, 4 samples of each, donors respond equally", 6, [0, 1], 4),
    pairs("the same, donors respond differently (s.d. .15)", 6, [0, 1], 4, response_sd=0.15),
    pairs("the same, s.d. .3", 6, [0, 1], 4, response_sd=0.3),
    between("3 donors with one sample, 9 with five (samples s.d. .3)", [1] * 3 + [5] * 9, 3,
            sample_sd=0.3),
    between("3 donors with five samples, 9 with one (samples s.d. .3)", [5] * 3 + [1] * 9, 3,
            sample_sd=0.3),
    pairs("a number over 4 visits, 8 donors change equally", 8, [0, 1, 2, 3]),
    pairs("the same, they change differently (s.d. .1)", 8, [0, 1, 2, 3], response_sd=0.1),
    pairs("the same, s.d. .2", 8, [0, 1, 2, 3], response_sd=0.2),
    pairs("the first and last of these visits, s.d. .2", 8, [0, 3], response_sd=0.2),
)  # fmt: skip


def counts_of(
    study: Study,
    rng: np.random.Generator,
    n_genes: int = N_GENES,
    n_cells: int = 20,
    effects: np.ndarray | float = 0.0,
    size: np.ndarray | float = SIZE,
    depth: float = 1.0,
) -> ad.AnnData:
    """Cells of the samples; ``effects`` are logarithms, ``depth`` is that of the second group."""
    n_donors = study.donor.max() + 1
    own = rng.normal(0, DONOR_SD, (n_donors, n_genes))[study.donor]
    response = rng.normal(0, study.response_sd, (n_donors, n_genes))[study.donor]
    own += study.x[:, None] * (response + effects) + np.log(depth) * (study.x[:, None] == 1)
    own += rng.normal(0, study.sample_sd, own.shape)
    cell = np.repeat(np.arange(len(study.x)), n_cells)
    means = rng.lognormal(0, 0.7, n_genes) * np.exp(own)[cell]
    counts = rng.poisson(rng.gamma(size, means / size)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "donor": [f"D{k:02d}" for k in study.donor[cell]],
            "sample": [f"s{k:02d}" for k in cell],
            "x": study.x[cell],
            "group": np.where(study.x[cell] > 0, "b", "a"),
            "total": counts.sum(1),
        },
        [f"c{i}" for i in range(len(cell))],
    )
    genes = pd.DataFrame(index=[f"g{i}" for i in range(n_genes)])
    return ad.AnnData(sparse.csr_matrix(counts), obs, genes)


def effects_of(adata: ad.AnnData, formula: str = "~ group", **options) -> pd.DataFrame:
    return smt.tl.group_effects(adata, formula, "donor", **options).table.set_index("variable")


def shares(p: pd.Series) -> dict[str, float]:
    return {"below_05": float((p < LEVEL).mean()), "below_01": float((p < LEVEL / 5).mean())}


def of_samples(seed: int) -> list[dict]:
    rows = []
    for study in STUDIES:
        adata = counts_of(study, np.random.default_rng(seed))
        formula = "~ x" if study.x.max() > 1 else "~ group"
        table = effects_of(adata, formula, sample_key="sample")
        row = {"study": study.name, "found": int((table["adj_p_value"] < LEVEL).sum())}
        rows.append(row | shares(table["p_value"]))
    return rows


def of_few(seed: int) -> list[dict]:
    rows = []
    for n_each in (3, 6):
        study = between("", [1] * 2 * n_each, n_each)
        adata = counts_of(study, np.random.default_rng(seed), GENES_OF_FEW)
        for n_genes in FEW:
            parts = range(0, adata.n_vars, n_genes)
            tables = [
                effects_of(adata[:, i : i + n_genes].copy(), size_factor_key="total", min_counts=0)
                for i in parts
            ]
            row = {"n_each": n_each, "n_genes": n_genes}
            rows.append(row | shares(pd.concat(tables)["p_value"]))
    return rows


def of_intervals(seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    fold = np.where(rng.random(N_GENES) < 0.8, 1, rng.choice(FOLDS[1:], N_GENES))
    effects = np.log(fold) * rng.choice([-1, 1], N_GENES)
    study = between("", [1] * 12, 6)
    adata = counts_of(study, rng, n_cells=30, effects=effects)
    table = effects_of(adata)
    order = adata.var_names.get_indexer(table.index)
    deviation = table["log_fc"] - effects[order] / np.log(2)
    missed = deviation.abs() > stats.norm.ppf(0.975) * table["se"]
    bias = deviation * np.sign(effects[order])
    of_folds = pd.DataFrame({"missed": missed, "bias": bias}).groupby(fold[order]).mean()
    return of_folds.rename_axis("fold").reset_index().to_dict("records")


def of_depth(seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    size = np.array(SIZES)[np.arange(N_GENES) % len(SIZES)]
    rows = []
    for depth in (1.0, 0.5):
        adata = counts_of(between("", [1] * 24, 12), rng, size=size, depth=depth)
        table = effects_of(adata)
        of_genes = pd.Series(size, adata.var_names)[table.index].to_numpy()
        for of_size, part in table.groupby(of_genes):
            row = {"size": of_size, "depth": depth, "log_fc": float(part["log_fc"].mean())}
            rows.append(row | shares(part["p_value"]))
    return rows


PARTS = {"samples": of_samples, "few": of_few, "intervals": of_intervals, "depth": of_depth}


def run(part: str) -> None:
    results = [row for row in saved("group_effects_limits") if row["part"] != part]
    for seed in range(N_SETS):
        key = {"part": part, "seed": seed, "commit": SOURCE["commit"]}
        results += [key | row for row in PARTS[part](seed)]
    save("group_effects_limits", results)


def tables() -> dict[str, str]:
    results = pd.DataFrame(load("group_effects_limits")["results"])
    below = {"p < .05": "{below_05:.3f} ± {below_05_se:.3f}"}
    low = below | {"p < .01": "{below_01:.4f} ± {below_01_se:.4f}"}
    columns = {
        "samples": {"study": "{study}"} | low | {"genes found per data set": "{found:.2f}"},
        "few": {"donors": "{n_each:.0f} and {n_each:.0f}", "genes tested": "{n_genes:.0f}"} | low,
        "intervals": {
            "true fold change": "{fold:.0f}",
            "95% intervals without it": "{missed:.3f} ± {missed_se:.3f}",
            "mean error towards larger effects, log2": "{bias:.2f}",
        },
        "depth": {
            "size of the negative binomial": "{size:g}",
            "depth of one group": "{depth:g}",
            "mean log2 fold change": "{log_fc:.3f} ± {log_fc_se:.3f}",
        }
        | below,
    }
    keys = {
        "samples": ["study"],
        "few": ["n_each", "n_genes"],
        "intervals": ["fold"],
        "depth": ["size", "depth"],
    }
    return {part: markdown(averaged(results, part, keys[part]), columns[part]) for part in PARTS}


def averaged(results: pd.DataFrame, part: str, keys: list[str]) -> list[dict]:
    """Means over data sets with their standard errors."""
    grouped = (
        results[results["part"] == part]
        .drop(columns=["part", "seed", "commit"])
        .groupby(keys, sort=False)
    )
    numbers = grouped.mean(numeric_only=True)
    errors = grouped.sem(numeric_only=True).add_suffix("_se")
    return numbers.join(errors).reset_index().to_dict("records")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        for chosen in sys.argv[2:] or PARTS:
            run(chosen)
    for title, table in tables().items():
        print(f"{title}\n{table}\n")
