"""False positives of ``tl.group_effects`` for questions other than two groups.

python benchmarks/group_effects_questions.py run   # writes results/group_effects_questions.json
python benchmarks/group_effects_questions.py       # prints the tables

Donors of OneK1K are given, at random, what they do not have: a number, one of three groups, a
diagnosis and a treatment. Nothing differs but the depth, by thinning, or the mixture of types, in
the designs that say so. *planted*: half of the genes rise or fall with the number, by thinning.
Rivals are applied where every donor has one sample. What is saved is not run again.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from _group_effects_cells import T_CELLS, onek1k
from _group_effects_tables import METHODS, judged
from _pseudobulk_tests import of_sums
from _record import SOURCE, load, markdown, save, saved
from pseudo_donors import thin

import scmedal_tools as smt
from scmedal_tools._sample_model import _fit, sum_counts

if TYPE_CHECKING:
    import anndata as ad

# Those below 1,000 served the size of the correction; those from 1,000 showed that one is needed.
N_SETS, FIRST_SEED = 30, 2_000
N_DONORS = 12
N_CELLS = 40  # of a donor; in pairs half of them are treated
KEPT = 0.25  # of a kind of cells that is made rarer
EFFECT = 0.25  # mean size of the log-fold change with a unit of the number
MIN_CELLS = 5


class Question(NamedTuple):
    name: str
    formula: str
    contrast: str | list[str]
    deep: str = ""  # the column whose second value, or larger numbers, have less depth
    of_types: bool = False
    planted: bool = False

    @property
    def has_rivals(self) -> bool:
        return self.contrast == "number"


TREATED, CROSSED = "treatment[T.yes]", "~ diagnosis * treatment"
GROUPS = ["group[T.b]", "group[T.c]"]
BOTH = "diagnosis[T.ill]:treatment[T.yes]"
QUESTIONS = (
    Question("a number, skewed", "~ number", "number"),
    Question("a number with which depth falls to half", "~ number", "number", "number"),
    Question("any of three groups (4 donors each), at once", "~ group", GROUPS),
    Question("the same, one of them at half depth", "~ group", GROUPS, "group"),
    Question("interaction: treatment in 6 ill and 6 healthy", CROSSED, BOTH),
    Question("the same, half depth with treatment in the ill", CROSSED, BOTH, "both"),
    Question("overall in pairs, types in other ratios", "~ treatment", TREATED, of_types=True),
    Question("a number, groups differ in depth", "~ group + number", "number", "group"),
    Question("a number, skewed, planted", "~ number", "number", planted=True),
)  # fmt: skip


def cells_of(question: Question, rng: np.random.Generator) -> ad.AnnData:
    """Cells of twelve donors with made-up properties."""
    pool = onek1k()
    if not question.of_types:
        pool = pool[pool.obs["cell_type"] == T_CELLS]
    sizes = pool.obs["donor"].value_counts()
    donors = rng.permutation(np.sort(sizes.index[sizes >= N_CELLS].astype(str)))[:N_DONORS]
    taken = []
    for donor in donors:
        cells = rng.permutation(np.flatnonzero(pool.obs["donor"] == donor))
        taken.append(cells if question.of_types else cells[:N_CELLS])
    donor = np.repeat(np.arange(N_DONORS), [len(cells) for cells in taken])
    adata = pool[np.concatenate(taken)].copy()
    number = rng.lognormal(0, 1, N_DONORS)
    obs = {
        "number": number[donor],
        "group": pd.Categorical(np.array(["a", "b", "c"])[donor % 3]),
        "diagnosis": pd.Categorical(np.where(donor % 2, "ill", "healthy")),
        "treatment": pd.Categorical(np.where(rng.random(len(donor)) < 0.5, "yes", "no")),
    }
    adata.obs = adata.obs.assign(**obs)
    if question.deep:
        adata.X = thin(adata.X, depth_of(adata.obs, question.deep), rng)
    if question.of_types:
        monocytic = adata.obs["cell_type"].str.contains("mono").to_numpy()
        rare = monocytic == (adata.obs["treatment"] == "yes").to_numpy()
        adata = adata[~rare | (rng.random(adata.n_obs) < KEPT)]
    return adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()


def depth_of(obs: pd.DataFrame, column: str) -> np.ndarray:
    """Share of its counts that each cell keeps."""
    if column == "number":
        return 1 - 0.5 * (obs["number"].rank(method="dense", pct=True)).to_numpy()
    less = {
        "group": obs["group"] == "b",
        "both": (obs["diagnosis"] == "ill") & (obs["treatment"] == "yes"),
    }[column]
    return np.where(less, 0.5, 1.0)


def plant(adata: ad.AnnData, rng: np.random.Generator) -> pd.Series:
    """Let half of the genes rise or fall with the number; the log-fold change of each."""
    number = adata.obs["number"].to_numpy()
    size = rng.gamma(4, EFFECT / 4, adata.n_vars) * rng.choice([-1, 1], adata.n_vars)
    effects = size * (rng.permutation(adata.n_vars) < adata.n_vars // 2)
    from_end = np.where(effects > 0, number[:, None] - number.max(), number[:, None])
    adata.X = thin(adata.X, np.exp(effects * from_end), rng)
    return pd.Series(effects, adata.var_names)


def p_values(adata: ad.AnnData, question: Question) -> dict[str, pd.Series]:
    """P-values by method, of the genes that ``group_effects`` tests."""
    found = {"group_effects": of_group_effects(adata, question)}
    if question.has_rivals:
        with patch.object(_fit, "KURTOSIS", 1e-9):
            found["uncorrected"] = of_group_effects(adata, question)
        found |= rivals(adata, question, found["group_effects"].index)
    return found


def of_group_effects(adata: ad.AnnData, question: Question) -> pd.Series:
    table = smt.tl.group_effects(
        adata,
        question.formula,
        "donor",
        contrast=question.contrast,
        labels_key="cell_type" if question.of_types else None,
        min_cells=MIN_CELLS,
    ).table
    if question.of_types:
        table = table[table["state"] == "overall"]
    return table.set_index("variable")["p_value"]


def rivals(adata: ad.AnnData, question: Question, genes: pd.Index) -> dict[str, pd.Series]:
    """Moderated t of the logarithms of donors' sums."""
    donor = adata.obs["donor"].cat.remove_unused_categories().cat.codes.to_numpy(int)
    sums = sum_counts(adata.X, donor, donor.max() + 1)
    sums = sums.of_genes(adata.var_names.get_indexer(genes))
    obs = adata.obs.groupby(donor)[["number", "group"]].first()
    others = obs["group"] if "group" in question.formula else np.zeros(len(obs))
    matrix = np.column_stack([obs["number"], pd.get_dummies(others).astype(float)])
    found = of_sums(sums, matrix, np.eye(matrix.shape[1])[0])
    return {name: pd.Series(p, genes) for name, p in found.items()}


def measure(question: Question, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    adata = cells_of(question, rng)
    effects = plant(adata, rng) if question.planted else pd.Series(0.0, adata.var_names)
    rows = []
    for method, p in p_values(adata, question).items():
        rows.append(
            {
                "question": question.name,
                "planted": question.planted,
                "seed": seed,
                "method": method,
                "commit": SOURCE["commit"],
            }
            | judged(p, effects)
        )
    return rows


def run() -> None:
    results = saved("group_effects_questions")
    done = {(row["question"], row["seed"]) for row in results}
    for question in QUESTIONS:
        start = time.perf_counter()
        for seed in range(FIRST_SEED, FIRST_SEED + N_SETS):
            if (question.name, seed) not in done:
                results += measure(question, seed)
                save("group_effects_questions", results)
        print(question.name, f"{time.perf_counter() - start:.0f} s", flush=True)


def tables() -> dict[str, str]:
    results = pd.DataFrame(load("group_effects_questions")["results"])
    results["method"] = results["method"].map(METHODS)
    results["with_finding"] = results["false"] > 0
    grouped = results.groupby(["planted", "question", "method"], sort=False)
    means = grouped.mean(numeric_only=True)
    means = means.join(grouped[["below_05", "below_01", "true"]].sem().add_suffix("_se"))
    means["fdr"] = means["false"] / (means["true"] + means["false"]).clip(lower=1e-9)
    means["n"], means["with_finding"] = grouped.size(), grouped["with_finding"].sum()
    rows = {planted: of.reset_index().to_dict("records") for planted, of in means.groupby(level=0)}
    return {
        "null": markdown(
            rows[False],
            {
                "question": "{question}",
                "method": "{method}",
                "p < .05": "{below_05:.3f} ± {below_05_se:.3f}",
                "p < .01": "{below_01:.4f} ± {below_01_se:.4f}",
                "genes found per data set": "{false:.2f}",
                "genes": "{genes:.0f}",
                "data sets with a false positive": "{with_finding} of {n}",
            },
        ),
        "planted": markdown(
            rows[True],
            {
                "method": "{method}",
                "genes found, of those with an effect": "{true:.1f} ± {true_se:.1f} "
                "of {with_effect:.0f}",
                "share of false discoveries": "{fdr:.3f}",
                "data sets": "{n}",
            },
        ),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run()
    for title, table in tables().items():
        print(f"{title}\n{table}\n")
