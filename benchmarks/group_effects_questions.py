"""False positives of ``tl.group_effects`` for questions other than two groups.

python benchmarks/group_effects_questions.py run   # writes results/group_effects_questions.json
python benchmarks/group_effects_questions.py       # prints the table

Donors of OneK1K are given, at random, what they do not have: a number, one of three groups, a
diagnosis and a treatment. Nothing differs but the depth, by thinning, or the mixture of types, in
the designs that say so. Designs and seeds that are saved are not run again.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from _group_effects_cells import T_CELLS, onek1k
from _group_effects_tables import LEVEL
from _record import SOURCE, load, markdown, save, saved
from pseudo_donors import thin

import scmedal_tools as smt

if TYPE_CHECKING:
    import anndata as ad

N_SETS, FIRST_SEED = 30, 1_000
N_DONORS = 12
N_CELLS = 40  # of a donor; in pairs half of them are treated
KEPT = 0.25  # of a kind of cells that is made rarer


class Question(NamedTuple):
    name: str
    formula: str
    contrast: str | list[str]
    deep: str = ""  # the column whose second value, or larger numbers, have less depth
    of_types: bool = False


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
    Question("overall in pairs, types in other shares", "~ treatment", TREATED, of_types=True),
    Question("a number beside it", "~ group + number", "number", "group"),
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


def measure(question: Question, seed: int) -> dict:
    adata = cells_of(question, np.random.default_rng(seed))
    table = smt.tl.group_effects(
        adata,
        question.formula,
        "donor",
        contrast=question.contrast,
        labels_key="cell_type" if question.of_types else None,
        min_cells=5,
    ).table
    if question.of_types:
        table = table[table["state"] == "overall"]
    p = table["p_value"]
    return {
        "genes": len(table),
        "below_05": float((p < LEVEL).mean()),
        "below_01": float((p < LEVEL / 5).mean()),
        "found": int((table["adj_p_value"] < LEVEL).sum()),
    }


def run() -> None:
    results = saved("group_effects_questions")
    for question in QUESTIONS:
        start = time.perf_counter()
        for seed in range(FIRST_SEED, FIRST_SEED + N_SETS):
            key = {"question": question.name, "seed": seed}
            if not any(key.items() <= row.items() for row in results):
                results.append(key | {"commit": SOURCE["commit"]} | measure(question, seed))
                save("group_effects_questions", results)
        print(question.name, f"{time.perf_counter() - start:.0f} s", flush=True)


def tables() -> dict[str, str]:
    results = pd.DataFrame(load("group_effects_questions")["results"])
    grouped = results.groupby("question", sort=False)[["below_05", "below_01", "found", "genes"]]
    means = grouped.mean().join(grouped.sem().add_suffix("_se")).assign(n=grouped.size())
    means["with_finding"] = (results["found"] > 0).groupby(results["question"]).sum()
    return {
        "null": markdown(
            means.reset_index().to_dict("records"),
            {
                "question": "{question}",
                "p < .05": "{below_05:.3f} ± {below_05_se:.3f}",
                "p < .01": "{below_01:.4f} ± {below_01_se:.4f}",
                "genes found per data set": "{found:.2f}",
                "genes": "{genes:.0f}",
                "data sets with a finding": "{with_finding} of {n}",
            },
        )
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run()
    for title, table in tables().items():
        print(f"{title}\n{table}\n")
