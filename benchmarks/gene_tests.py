"""Gene tests on counterfactuals: p-values without a difference of groups, power, and AML.

python benchmarks/gene_tests.py run null    # writes results/gene_tests_null.json as it goes
python benchmarks/gene_tests.py run null_type  # writes results/gene_tests_null_type.json
python benchmarks/gene_tests.py run power   # writes results/gene_tests_power.json
python benchmarks/gene_tests.py run baselines  # writes results/gene_tests_baselines.json
python benchmarks/gene_tests.py run aml     # writes results/gene_tests_aml.json
python benchmarks/gene_tests.py run times   # writes results/gene_tests_times.json
python benchmarks/gene_tests.py figure      # draws docs/_static/gene_tests_qq.svg
python benchmarks/gene_tests.py             # prints the tables

Every simulation has its own data and its own network. Null: the 12 controls of 24 simulated
donors, who differ from each other but have all the same condition, put into two groups at random,
at random of unequal size, or by their number of cells. Null of a type: three donors at random
have five times as many cells of one type as the nine others, all have as many in all, and cells
of that type are projected. Power: 12 donors, six with a condition. Training is shorter and the
data are smaller than usual, so that 30 can be run. Mixed models are fitted to a random part of
the genes. *baselines*: tests that need no network, on the same data sets, and on further ones of
the design in which most of their p-values were small.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from functools import partial
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _gene_test_baselines import baselines, of_own_cells
from _gene_test_tables import LEVEL, LEVELS, figure, tables
from _record import SOURCE, data_folder, save, saved
from joblib import Parallel, delayed
from scipy import sparse, stats

import scmedal_tools as smt
from scmedal_tools._data import random_cells
from scmedal_tools.tl import _group_tests
from scmedal_tools.tl._counterfactual_de import _projections
from scmedal_tools.tl._counterfactual_means import group_means
from scmedal_tools.tl._training_cells import training_cells

N_NULL, N_POWER = 30, 10
AGAIN = range(1_000, 1_090)  # seeds of further data sets, without a network
SIMULATED = {"n_genes": 300, "n_cell_types": 4, "cell_scale": 0.3}
# Many cells with the same mixture of types in all donors, of which some are taken.
MANY = SIMULATED | {"cell_scale": 3, "confounding": 0}
TAKEN = {"cells": 100, "of_type_small_group": 50, "of_type_others": 10}
N_EPOCHS, N_CELLS, N_DRAWS, N_MIXED_MODELS = 50, 300, 10, 30
JOBS = int(os.environ.get("JOBS", "2"))
AML = {
    "file": "aml_vangalen2019_d0.h5ad",
    "genes": 2916,
    "epochs": 40,
    "drop": ("AML314", "AML371", "AML722B", "AML997"),  # scMEDAL, supplement 2.2
}
# As many donors and genes as in the paper's ASD data.
ASD = {"n_donors": 31, "n_genes": 2916, "cell_scale": 0.3}


def train(adata: ad.AnnData, seed: int, epochs: int):
    scvi.settings.seed = seed
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
    model = smt.model.SCMEDAL_RE(adata)
    model.train(max_epochs=epochs, enable_progress_bar=False, enable_model_summary=False)
    return model


def p_values(
    model, designs: dict[str, np.ndarray], mixed: bool = True, label: str | None = None
) -> dict:
    """P-values of each design and method, by the functions of ``tl.counterfactual_de``."""
    adata = model.adata
    if label is not None:
        adata = adata[adata.obs["cell_type"] == label].copy()
    cells = adata[random_cells(np.arange(adata.n_obs), N_CELLS, 0)].copy()
    donors = list(model.batch_names)
    everything = sparse.csc_array(np.full((1, cells.n_obs), 1 / cells.n_obs))
    of_cells = partial(group_means, model, cells, donors, everything, None)

    def of_donors(found: dict) -> np.ndarray:
        return np.concatenate([found[donor] for donor in donors])

    means = of_donors(next(of_cells()))
    draws = [of_donors(found) for found in of_cells(n_samples=N_DRAWS)]
    found = {}
    for name, in_group in designs.items():
        tested = {
            "donor": _group_tests.student(means, in_group)["p_value"],
            "welch": stats.ttest_ind(means[in_group], means[~in_group], equal_var=False).pvalue,
            "rubin": _group_tests.rubin(np.array(draws), in_group),
            "mannwhitney": _group_tests.mann_whitney(means, in_group)["p_value"],
            "cells": of_own_cells(adata, in_group),
        }
        found[name] = {k: np.where(np.isnan(p), 1.0, p) for k, p in tested.items()}
    if mixed:
        first = next(iter(designs))
        genes = np.random.default_rng(0).permutation(adata.n_vars) < N_MIXED_MODELS
        genes &= _group_tests.differ(means)
        expression = _projections(model, cells, donors, None)[:, :, genes]
        fitted = _group_tests.mixed_models(expression, designs[first], n_jobs=1, progress=False)
        found[first]["lme"] = fitted["p_value"]
    return found


def prepare() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)


def controls(seed: int, simulated: dict) -> ad.AnnData:
    adata = smt.datasets.simulated(n_donors=24, seed=seed, **simulated)
    adata = adata[adata.obs["condition"] == "control"].copy()
    adata.obs["donor"] = adata.obs["donor"].cat.remove_unused_categories()
    return adata


class Simulated(NamedTuple):
    """A data set, and for each design which donors, in their order, are in the first group."""

    adata: ad.AnnData
    designs: dict[str, np.ndarray]
    label: str | None = None
    """Type of the cells that are tested, if not all."""


def null_set(seed: int) -> Simulated:
    adata = controls(seed, SIMULATED)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    sizes = adata.obs["donor"].value_counts()[adata.obs["donor"].cat.categories]
    order = np.random.default_rng(seed).permutation(len(sizes))
    designs = {"random": order < 6, "unequal": order < 3}
    rank = sizes.rank(method="first").to_numpy()
    return Simulated(adata, designs | {"by_size": rank <= 6, "largest": rank > 9})


def null_again_set(seed: int) -> Simulated:
    """The design in which most p-values were small, of which new data sets are drawn."""
    drawn = null_set(seed)
    return drawn._replace(designs={"largest_again": drawn.designs["largest"]})


def null_type_set(seed: int) -> Simulated:
    adata = controls(seed, MANY)
    donors, types = adata.obs["donor"], adata.obs["cell_type"]
    rng = np.random.default_rng(seed)
    in_group = rng.permutation(donors.nunique()) < 3
    label = types.value_counts().index[1]
    taken = []
    for donor, small in zip(donors.cat.categories, in_group, strict=True):
        of_type = TAKEN["of_type_small_group" if small else "of_type_others"]
        for is_type, n in ((True, of_type), (False, TAKEN["cells"] - of_type)):
            there = np.flatnonzero((donors == donor) & ((types == label) == is_type))
            taken.append(random_cells(there, n, seed))
    adata = adata[np.sort(np.concatenate(taken))].copy()
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None, min_genes=0)
    return Simulated(adata, {"of_type": in_group}, label)


def power_set(seed: int) -> Simulated:
    adata = smt.datasets.simulated(n_donors=12, seed=seed, **SIMULATED)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    condition = adata.obs.groupby("donor", observed=True)["condition"].first()
    return Simulated(adata, {"condition": (condition == "disease").to_numpy()})


def null(seed: int) -> dict:
    prepare()
    adata, designs, _ = null_set(seed)
    return shares(seed, adata, p_values(train(adata, seed, N_EPOCHS), designs))


def null_type(seed: int) -> dict:
    prepare()
    adata, designs, label = null_type_set(seed)
    model = train(adata, seed, N_EPOCHS)
    return shares(seed, adata, p_values(model, designs, mixed=False, label=label))


def shares(seed: int, adata: ad.AnnData, tested: dict) -> dict:
    """Shares of p-values at or below each level, of the genes that a method tests."""
    found = {
        design: {
            method: [float(f"{np.mean(p[~np.isnan(p)] <= level):.4g}") for level in LEVELS]
            for method, p in of_methods.items()
        }
        for design, of_methods in tested.items()
    }
    return {"seed": seed, "cells": adata.n_obs, "genes": adata.n_vars, "shares": found}


def power(seed: int) -> dict:
    prepare()
    adata, designs, _ = power_set(seed)
    tested = p_values(train(adata, seed, N_EPOCHS), designs, mixed=False)["condition"]
    return genes_found(seed, adata, tested)


def genes_found(seed: int, adata: ad.AnnData, tested: dict) -> dict:
    """Shares of small p-values, and genes that pass the adjustment, with and without effect.

    Genes that a method does not test are not found if they have an effect, and left out if not.
    """
    has_effect = adata.var["has_effect"].to_numpy()
    of_methods = {}
    for method, p in tested.items():
        is_tested = ~np.isnan(p)
        found = np.zeros(len(p), bool)
        found[is_tested] = stats.false_discovery_control(p[is_tested]) < LEVEL
        of_methods[method] = {
            "with_effect": float(np.mean(p[has_effect] < LEVEL)),
            "without_effect": float(np.mean(p[is_tested & ~has_effect] < LEVEL)),
            "found": int(found.sum()),
            "false": int(found[~has_effect].sum()),
        }
    return {"seed": seed, "cells": adata.n_obs, "genes": adata.n_vars, "methods": of_methods}


def without_network() -> None:
    """Baselines on the data sets of the other parts, which have to be the same."""
    prepare()
    results = saved("gene_tests_baselines")
    done = {(row["part"], row["seed"]) for row in results}
    for part, draw, seeds in SETS:
        for seed in seeds:
            if (part, seed) in done:
                continue
            drawn = draw(seed)
            of_designs = {
                name: baselines(drawn.adata, in_group, drawn.label)
                for name, in_group in drawn.designs.items()
            }
            if part == "power":
                row = genes_found(seed, drawn.adata, of_designs["condition"])
            else:
                row = shares(seed, drawn.adata, of_designs)
            results.append({"part": part, "commit": SOURCE["commit"]} | row)
            save("gene_tests_baselines", results, simulated=SIMULATED)
        print(part, flush=True)


def run(part: str) -> None:
    if part in ALONE:
        return ALONE[part]()
    simulate, number, simulated = {
        "null": (null, N_NULL, SIMULATED),
        "null_type": (null_type, N_NULL, MANY | TAKEN),
        "power": (power, N_POWER, SIMULATED),
    }[part]
    file = f"gene_tests_{part}"
    results = [row for row in saved(file) if row["commit"] == SOURCE["commit"]]
    seeds = sorted(set(range(number)) - {row["seed"] for row in results})
    tasks = (delayed(simulate)(seed) for seed in seeds)
    for row in Parallel(JOBS, return_as="generator_unordered")(tasks):
        results.append({"commit": SOURCE["commit"]} | row)
        results.sort(key=lambda row: row["seed"])
        save(file, results, epochs=N_EPOCHS, simulated=simulated)
        print(part, row["seed"], flush=True)


def aml() -> None:
    """Numbers of genes in real data: 300 monocytes, patients against healthy donors."""
    prepare()
    adata = ad.read_h5ad(data_folder() / AML["file"])
    adata = adata[~adata.obs["donor"].isin(AML["drop"])].copy()
    adata.obs["donor"] = adata.obs["donor"].cat.remove_unused_categories()
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=AML["genes"])
    model = train(adata, 0, AML["epochs"])
    groups = adata.obs.groupby("donor", observed=True)["patient_group"].first().astype(str)
    adata.obs["group"] = np.where(adata.obs["patient_group"] == "AML", "AML", "healthy")
    results = []
    for method in ("donor", "mannwhitney"):
        table = smt.tl.counterfactual_de(
            model, adata, "group", method=method, labels_key="cell_type", label="Mono",
            progress=False,
        )  # fmt: skip
        results.append(counts(method, table["p_value"]))
        if method == "donor":
            results.append(counts("rubin", table["p_value_rubin"]))
    monocytes = adata[adata.obs["cell_type"] == "Mono"]
    measured = monocytes.X.toarray()
    in_group = (monocytes.obs["group"] == "AML").to_numpy()
    p = stats.ttest_ind(measured[in_group], measured[~in_group]).pvalue
    results.append(counts("cells", p))
    trained = cells_of_training(model, adata)
    save("gene_tests_aml", results, data=AML, groups=groups.to_dict(), training=trained)


def cells_of_training(model, adata: ad.AnnData) -> list[dict]:
    """Medians over donors: all cells, those like the projected ones, and monocytes."""
    monocytes = np.flatnonzero(adata.obs["cell_type"] == "Mono")
    projected = adata[random_cells(monocytes, N_CELLS, 0)].copy()
    trained = model.adata.obs.iloc[model.train_indices]
    numbers = {
        "cells": training_cells(model),
        "like": training_cells(model, projected),
        "monocytes": trained.loc[trained["cell_type"] == "Mono", "donor"].value_counts(),
    }
    groups = adata.obs.groupby("donor", observed=True)["group"].first()
    grouped = pd.DataFrame(numbers).groupby(groups)
    medians = grouped.median().assign(donors=grouped.size())
    return medians.reset_index(names="group").to_dict("records")


def times() -> None:
    """Time of each method with all cores, on projections as many as the paper's of ASD."""
    prepare()
    adata = smt.datasets.simulated(**ASD)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None, min_cells=0)
    model = train(adata, 0, 1)
    torch.set_num_threads(os.cpu_count() or 1)
    results = []
    for method in ("donor", "mannwhitney", "lme"):
        start = time.perf_counter()
        table = smt.tl.counterfactual_de(model, adata, "condition", N_CELLS, method)
        seconds = time.perf_counter() - start
        row = {"method": method, "genes": len(table), "donors": adata.obs["donor"].nunique()}
        results.append(row | {"cells": N_CELLS, "seconds": seconds})
        print(results[-1], flush=True)
        save("gene_tests_times", results, simulated=ASD)


SETS = (
    ("null", null_set, range(N_NULL)),
    ("null_type", null_type_set, range(N_NULL)),
    ("null_again", null_again_set, AGAIN),
    ("power", power_set, range(N_POWER)),
)
ALONE = {"aml": aml, "times": times, "baselines": without_network}


def counts(method: str, p) -> dict:
    p = np.where(np.isnan(p), 1.0, p)
    adjusted = stats.false_discovery_control(p)
    return {
        "commit": SOURCE["commit"],
        "method": method,
        "genes": len(p),
        "below": int((p < LEVEL).sum()),
        "found": int((adjusted < LEVEL).sum()),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    match sys.argv[1:]:
        case ["run", *parts]:
            for chosen in parts:
                run(chosen)
        case ["figure"]:
            figure()
        case _:
            for name, table in tables().items():
                print(f"{name}\n{table}\n")
