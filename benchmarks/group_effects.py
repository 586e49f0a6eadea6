"""Effects of a condition: false positives, power and depth, by planting effects in real cells.

python benchmarks/group_effects.py run null     # writes results/group_effects_null.json
python benchmarks/group_effects.py run planted  # writes results/group_effects_planted.json
python benchmarks/group_effects.py run depth    # writes results/group_effects_depth.json
python benchmarks/group_effects.py run real     # writes results/group_effects_real.json
python benchmarks/group_effects.py run interferon  # results/group_effects_interferon.json
python benchmarks/group_effects.py run times    # writes results/group_effects_times.json
python benchmarks/group_effects.py              # prints the tables

Donors of OneK1K, who differ as donors do, are put into two groups at random, so that nothing
differs but what a design makes differ: numbers of cells, depth (by thinning the counts), mixture
of types. Cells of one type of AML, pig airway and Kang's controls are dealt to donors that are
made up, with log-fold changes of their own. Designs that are saved are not run again. *planted*:
half of the genes have an effect, half of these in either direction, by thinning the counts of one
group. *depth*: cells are dealt to donors who do not differ, and a network is trained, for
``tl.counterfactual_de``.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _pseudobulk_tests import log_cpm, moderated_t, voom_weights
from _record import SOURCE, data_folder, load, markdown, save, saved
from pseudo_donors import thin
from scipy import stats

import scmedal_tools as smt
from scmedal_tools._sample_model import sum_counts

ONEK1K, AML = "onek1k_pbmc_40donors_1000genes.h5ad", "aml_vangalen2019_d0_hvg3000.h5ad"
WHOLE_AML, GLIOBLASTOMA = "aml_vangalen2019_d0.h5ad", "glioblastoma_zhao2021.h5ad"
PIG, KANG = "cf_pig_airway_aggregatebiovar.h5ad", "kang2018_pbmc_ctrl_stim_2000cells.h5ad"
# Cells that are dealt to donors that are made up: file, and values of columns.
DEALT = {
    "aml": (AML, {"cell_type": ["Mono", "ProMono"]}),
    "pig": (PIG, {"cell_type": ["Secretory cell"], "genotype": ["WT"]}),
    "kang": (KANG, {"cell_type": ["CD4 T cells"], "condition": ["ctrl"]}),
}
# Genes that interferon is known to induce (Schoggins et al., Nature 2011, and textbooks).
INDUCED = [
    "ADAR", "BST2", "CMPK2", "CXCL10", "CXCL11", "DDX58", "EIF2AK2", "EPSTI1", "GBP1", "HERC5",
    "IDO1", "IFI16", "IFI27", "IFI35", "IFI44", "IFI44L", "IFI6", "IFIH1", "IFIT1", "IFIT2",
    "IFIT3", "IFIT5", "IFITM1", "IFITM2", "IFITM3", "IRF7", "IRF9", "ISG15", "ISG20", "LY6E",
    "MT2A", "MX1", "MX2", "OAS1", "OAS2", "OAS3", "OASL", "PARP9", "PLSCR1", "RSAD2", "SAMD9L",
    "SP110", "STAT1", "STAT2", "TNFSF10", "TRIM22", "UBE2L6", "USP18", "XAF1", "ZBP1",
]  # fmt: skip
PAIR = ["patient", "condition"]
T_CELLS = "CD4 naive/central memory T"
LEVEL = 0.05
MIN_COUNTS = 3.0
FIRST_SEED = 1_000  # those below served the design
SEEDS = {"null": 30, "planted": 12}
SEEDS_DESEQ = {"null": 3, "planted": 12}  # it takes ten times as long
DONOR_SD = 0.3  # of the log-fold changes of donors that are made up
DEPTHS, DEPTH_SEEDS, DEPTH_EPOCHS = (1.0, 0.9, 0.75, 0.5), 2, 50
DEPTH_CELLS, DEPTH_GENES = 1_800, 500
METHODS = {
    "group_effects": "`tl.group_effects`",
    "moderated_t": "log-CPM, moderated t",
    "voom": "log-CPM with precision weights, moderated t",
    "deseq": "`tl.pseudobulk_de` (PyDESeq2)",
    "pooled": "log-CPM of all cells, moderated t",
}


@dataclass(frozen=True)
class Design:
    name: str
    n_donors: tuple[int, int] = (6, 6)
    n_cells: tuple[int, int] = (40, 40)
    depth: float = 1.0
    pairs: bool = False
    dealt: str = ""  # from which cells donors are made up
    of_types: bool = False
    effect: float = 0.0  # mean size of the log-fold changes
    share: float = 1.0  # of the cells that have them


NULL = [
    Design("6 and 6 donors"),
    Design("3 and 3", (3, 3)),
    Design("3 and 9", (3, 9)),
    Design("6 and 6, 10 cells each", n_cells=(10, 10)),
    Design("3 with 60 cells each, 9 with 15", (3, 9), (60, 15)),
    Design("6 and 6, depth .75 in one group", depth=0.75),
    Design("6 and 6, depth .5", depth=0.5),
    Design("3 of depth .5 and 9", (3, 9), depth=0.5),
    Design("6 pairs", n_cells=(30, 30), pairs=True),
    Design("6 pairs, depth .5 in one of each", n_cells=(30, 30), pairs=True, depth=0.5),
    Design("AML monocytes, 6 and 6", dealt="aml"),
    Design("AML monocytes, 6 and 6, depth .5", dealt="aml", depth=0.5),
    Design("all types, in other shares in one group", of_types=True),
    Design("pig secretory cells, 6 and 6", n_cells=(30, 30), dealt="pig"),
    Design("pig secretory cells, 6 and 6, depth .5", n_cells=(30, 30), dealt="pig", depth=0.5),
    Design("Kang's CD4 T cells, 6 and 6", n_cells=(30, 30), dealt="kang"),
]
PLANTED = [
    Design("6 and 6 donors", effect=0.5),
    Design("3 and 3", (3, 3), effect=0.7),
    Design("10 and 10", (10, 10), effect=0.5),
    Design("6 and 6, 10 cells each", n_cells=(10, 10), effect=0.7),
    Design("6 and 6, in half of the cells", effect=1.0, share=0.5),
    Design("6 and 6, depth .5 in one group", effect=0.5, depth=0.5),
    Design("3 with 60 cells each, 9 with 15", (3, 9), (60, 15), effect=0.7),
    Design("6 pairs", n_cells=(30, 30), pairs=True, effect=0.5),
    Design("AML monocytes, 6 and 6", dealt="aml", effect=0.7),
    Design("all types, in other shares in one group", of_types=True, effect=0.5),
    Design("pig secretory cells, 6 and 6", n_cells=(30, 30), dealt="pig", effect=0.7),
    Design("Kang's CD4 T cells, 6 and 6", n_cells=(30, 30), dealt="kang", effect=0.7),
]


def cells_of(design: Design, rng: np.random.Generator) -> ad.AnnData:
    """Raw counts of the cells, each with a donor and a condition."""
    if design.dealt:
        return dealt_cells(design, rng)
    pool = POOL if design.of_types else POOL[POOL.obs["cell_type"] == T_CELLS]
    needed = sum(design.n_cells) if design.pairs else max(design.n_cells)
    n_donors = design.n_donors[0] if design.pairs else sum(design.n_donors)
    sizes = pool.obs["donor"].value_counts()
    donors = rng.permutation(np.sort(sizes.index[sizes >= needed].astype(str)))[:n_donors]
    taken, condition = [], []
    for i, donor in enumerate(donors):
        cells = rng.permutation(np.flatnonzero(pool.obs["donor"] == donor))
        group = int(i >= design.n_donors[0])
        if design.pairs:
            first, second = design.n_cells
            taken += [cells[:first], cells[first : first + second]]
            condition += ["a"] * first + ["b"] * second
            continue
        if design.of_types:
            # A quarter of the monocytes in one group, of the other cells in the other.
            monocytic = pool.obs["cell_type"].iloc[cells].str.contains("mono").to_numpy()
            kept = rng.random(len(cells)) < np.where(monocytic == bool(group), 1.0, 0.25)
            cells = cells[kept]
        else:
            cells = cells[: design.n_cells[group]]
        taken.append(cells)
        condition += ["ab"[group]] * len(cells)
    adata = pool[np.concatenate(taken)].copy()
    adata.obs["condition"] = pd.Categorical(condition)
    return adata


@cache
def pool_of(name: str) -> ad.AnnData:
    """Cells that are dealt."""
    file, chosen = DEALT[name]
    adata = ad.read_h5ad(data_folder() / file)
    return adata[np.all([adata.obs[key].isin(of) for key, of in chosen.items()], axis=0)].copy()


def dealt_cells(design: Design, rng: np.random.Generator) -> ad.AnnData:
    """Cells of a type dealt to donors with log-fold changes of their own."""
    pool, n_donors = pool_of(design.dealt), sum(design.n_donors)
    n_cells = n_donors * design.n_cells[0]
    if n_cells > pool.n_obs:
        raise ValueError(f"{design.name}: {n_cells} cells of {pool.n_obs}.")
    cells = rng.permutation(pool.n_obs)[:n_cells]
    adata = pool[cells].copy()
    donor = np.arange(len(cells)) % n_donors
    change = rng.normal(0, DONOR_SD, (n_donors, adata.n_vars))
    adata.X = thin(adata.X, np.exp(change - change.max(0))[donor], rng)
    adata.obs["donor"] = pd.Categorical([f"D{k:02d}" for k in donor])
    adata.obs["condition"] = pd.Categorical(np.where(donor < design.n_donors[0], "a", "b"))
    return adata


def planted(adata: ad.AnnData, design: Design, rng: np.random.Generator) -> np.ndarray:
    """Plant effects and depth; the log-fold change of each gene."""
    second = (adata.obs["condition"] == "b").to_numpy()
    effects = np.zeros(adata.n_vars)
    if design.effect:
        size = rng.gamma(4, design.effect / 4, adata.n_vars) * rng.choice([-1, 1], adata.n_vars)
        effects = size * (rng.permutation(adata.n_vars) < adata.n_vars // 2)
        has = rng.random(adata.n_obs) < design.share
        lower = np.where(second[:, None], np.minimum(effects, 0), -np.maximum(effects, 0))
        adata.X = thin(adata.X, np.exp(np.where(has[:, None], lower, 0)), rng)
    if design.depth < 1:
        adata.X = thin(adata.X, np.where(second, design.depth, 1.0), rng)
    return effects


def p_values(adata: ad.AnnData, design: Design, deseq: bool) -> dict[str, pd.Series]:
    """P-values of each method, of the genes that ``group_effects`` tests."""
    labels = "cell_type" if design.of_types else None
    options = {"min_cells": 5, "min_counts": MIN_COUNTS, "labels_key": labels}
    table = smt.tl.group_effects(adata, "~ condition", "donor", **options).table
    table = table[table["state"] == ("overall" if design.of_types else "all cells")]
    found = {"group_effects": table.set_index("variable")["p_value"]}
    donor = adata.obs["donor"].cat.remove_unused_categories().cat.codes.to_numpy(int)
    second = (adata.obs["condition"] == "b").to_numpy()
    _, group = np.unique(donor * 2 + second, return_inverse=True)
    sums = sum_counts(adata.X, group, group.max() + 1)
    sums = sums.of_genes(adata.var_names.get_indexer(table["variable"]))
    _, first = np.unique(group, return_index=True)
    matrix = np.column_stack([np.ones(len(first)), second[first]])
    if design.pairs:
        matrix = np.column_stack([second[first], np.eye(donor.max() + 1)[donor[first]]])
    contrast = np.zeros(matrix.shape[1])
    contrast[0 if design.pairs else 1] = 1
    values = log_cpm(sums.counts, sums.sizes())
    rivals = {"moderated_t": moderated_t(values, matrix, contrast)}
    if design.of_types:
        rivals = {"pooled": rivals["moderated_t"]}
    else:
        weights = voom_weights(values, sums.sizes(), matrix)
        rivals["voom"] = moderated_t(values, matrix, contrast, weights)
    found |= {name: pd.Series(p, table["variable"]) for name, p in rivals.items()}
    if deseq and not design.of_types:
        formula = "~ donor + condition" if design.pairs else "~ condition"
        other = smt.tl.pseudobulk_de(adata, formula, "donor", **options)
        found["deseq"] = other.set_index("variable")["p_value"].fillna(1.0)
    return found


def simulate(design: Design, seed: int, deseq: bool) -> list[dict]:
    rng = np.random.default_rng(seed)
    adata = cells_of(design, rng)
    effects = pd.Series(planted(adata, design, rng), adata.var_names)
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    rows = []
    for method, p in p_values(adata, design, deseq).items():
        has_effect = effects[p.index].to_numpy() != 0
        significant = stats.false_discovery_control(p) < LEVEL
        rows.append(
            {
                "design": design.name,
                "seed": seed,
                "method": method,
                "genes": len(p),
                "with_effect": int(has_effect.sum()),
                "below_05": float((p[~has_effect] < LEVEL).mean()),
                "below_01": float((p[~has_effect] < LEVEL / 5).mean()),
                "true": int(significant[has_effect].sum()),
                "false": int(significant[~has_effect].sum()),
            }
        )
    return rows


def run(part: str) -> None:
    global POOL
    POOL = ad.read_h5ad(data_folder() / ONEK1K)
    if part in ALONE:
        return ALONE[part]()
    designs, results = {"null": NULL, "planted": PLANTED}[part], saved(f"group_effects_{part}")
    done = {row["design"] for row in results}
    for design in designs:
        if design.name in done:
            continue
        start = time.perf_counter()
        for number in range(SEEDS[part]):
            deseq = number < SEEDS_DESEQ[part]
            rows = simulate(design, FIRST_SEED + number, deseq)
            results += [row | {"commit": SOURCE["commit"]} for row in rows]
        save(f"group_effects_{part}", results, designs=[asdict(d) for d in designs])
        print(part, design.name, f"{time.perf_counter() - start:.0f} s", flush=True)


def depth() -> None:
    """Cells dealt to donors at random, of which six have less depth: log-normalised and counts."""
    results = []
    for depth in DEPTHS:
        for seed in range(DEPTH_SEEDS):
            rng = np.random.default_rng(seed)
            expressed = np.asarray((POOL.X > 0).mean(0)).ravel()
            genes = np.sort(expressed.argsort()[-DEPTH_GENES:])
            adata = POOL[rng.permutation(POOL.n_obs)[:DEPTH_CELLS], genes].copy()
            donor = np.arange(adata.n_obs) % 12
            adata.obs["donor"] = pd.Categorical([f"D{k:02d}" for k in donor])
            adata.obs["condition"] = pd.Categorical(np.where(donor < 6, "a", "b"))
            planted(adata, Design("", depth=depth), rng)
            smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None, min_cells=0)
            scvi.settings.seed = seed
            smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
            model = smt.model.SCMEDAL_RE(adata)
            model.train(max_epochs=DEPTH_EPOCHS, enable_progress_bar=False)
            tested = {
                "counterfactual_de": smt.tl.counterfactual_de(
                    model, adata, "condition", n_samples=2, progress=False
                ),
                "group_effects": smt.tl.group_effects(
                    adata, "~ condition", "donor", layer="counts"
                ).table,
            }
            for method, table in tested.items():
                p, adjusted = table["p_value"], table["adj_p_value"]
                row = {"depth": depth, "seed": seed, "method": method, "genes": len(table)}
                row |= {"below_05": float((p < LEVEL).mean())}
                results.append(row | {"found": int((adjusted < LEVEL).sum())})
            print(results[-2:], flush=True)
            save("group_effects_depth", results, epochs=DEPTH_EPOCHS)


def times() -> None:
    """As many donors and genes as the paper's ASD data have, in ten types, made up."""
    rng = np.random.default_rng(0)
    means = rng.lognormal(-1, 1, 2_916)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(31 * 10 * 20)])
    obs["donor"] = [f"D{k:02d}" for k in np.arange(len(obs)) % 31]
    obs["cell_type"] = [f"type_{k}" for k in np.arange(len(obs)) // 31 % 10]
    obs["condition"] = np.where(obs["donor"] < "D15", "a", "b")
    adata = ad.AnnData(rng.poisson(means, (len(obs), len(means))).astype(np.float32), obs)
    start = time.perf_counter()
    found = smt.tl.group_effects(
        adata, "~ condition", "donor", labels_key="cell_type", min_counts=0
    )
    row = {"seconds": time.perf_counter() - start, "cells": adata.n_obs}
    row |= {"genes": adata.n_vars, "states": found.table["state"].nunique() - 1}
    print(row)
    save("group_effects_times", [row])


def real() -> None:
    """Glioblastoma slices with and without a drug, in pairs; AML patients by cell type."""
    slices = ad.read_h5ad(data_folder() / GLIOBLASTOMA)
    found = smt.tl.group_effects(slices, "~ condition", "patient")
    samples = found.samples.to_df().set_index([found.samples.obs[k] for k in PAIR])
    shifts = samples.xs("panobinostat", level=1) - samples.xs("ctrl", level=1)
    table = found.table.sort_values("p_value")
    agree = (np.sign(shifts[table["variable"]]) == np.sign(table["log_fc"].to_numpy())).sum()
    table = table.assign(agree=agree.to_numpy(), data="glioblastoma")
    table["found"] = int((table["adj_p_value"] < LEVEL).sum())
    results = table.head(10).to_dict("records")
    aml = ad.read_h5ad(data_folder() / WHOLE_AML)
    contrast = ("patient_group", "AML", "control")
    table = smt.tl.group_effects(
        aml, "~ patient_group", "donor", labels_key="cell_type", contrast=contrast
    ).table
    for state, of_state in table.groupby("state"):
        row = of_state[["n_donors", "n_cells"]].max().to_dict()
        row |= {"depth_ratio": float(of_state["depth_ratio"].median())}
        row |= {"below_05": float((of_state["p_value"] < LEVEL).mean()), "genes": len(of_state)}
        row["found"] = int((of_state["adj_p_value"] < LEVEL).sum())
        results.append({"data": "aml", "state": state} | row)
    save("group_effects_real", results, data=[GLIOBLASTOMA, WHOLE_AML])


def interferon() -> None:
    """Kang's cells of known donors, most of them controls: two of eight have stimulated cells."""
    adata = ad.read_h5ad(data_folder() / KANG)
    adata = adata[adata.obs["donor"] != "unknown"].copy()
    options = {"labels_key": "cell_type", "min_cells": 5}
    effects = smt.tl.group_effects(adata, "~ condition", "donor", **options)
    table, obs = effects.table, effects.samples.obs
    stimulated = obs[obs["condition"] == "stim"].groupby("state")["donor"].nunique()
    stimulated["overall"] = obs.loc[obs["condition"] == "stim", "donor"].nunique()
    results = []
    for state, of_state in table.groupby("state"):
        ordered = of_state.sort_values("p_value")
        known = ordered["variable"].isin(INDUCED)
        found = ordered["adj_p_value"] < LEVEL
        row = ordered[["n_donors", "n_samples", "n_cells"]].max().to_dict()
        row |= {
            "stimulated": int(stimulated[state]),
            "state": state,
            "genes": len(ordered),
            "found": int(found.sum()),
        }
        row |= {"first": ", ".join(ordered["variable"].head(5))}
        row |= {
            "known_of_20": int(known.head(20).sum()),
            "known_found": int((known & found).sum()),
        }
        results.append(row | {"known": int(known.sum())})
    print(pd.DataFrame(results))
    save("group_effects_interferon", results, data=KANG)


ALONE = {"depth": depth, "real": real, "times": times, "interferon": interferon}


def tables() -> dict[str, str]:
    """Tables of the documentation."""
    null = summary("null")
    planted_rows = summary("planted")
    return {
        "null": markdown(
            null,
            {
                "design": "{design}",
                "method": "{method}",
                "p < .05": "{below_05:.3f} ± {below_05_se:.3f}",
                "p < .01": "{below_01:.4f} ± {below_01_se:.4f}",
                "genes found per data set": "{false:.2f}",
                "genes": "{genes:.0f}",
                "data sets": "{n}",
            },
        ),
        "planted": markdown(
            planted_rows,
            {
                "design": "{design}",
                "method": "{method}",
                "genes found, of those with an effect": "{true:.1f} of {with_effect:.0f}",
                "found without an effect": "{false:.1f}",
                "share of false discoveries": "{fdr:.3f}",
                "data sets": "{n}",
            },
        ),
        "depth": depth_table(),
        "glioblastoma": markdown(
            of_real("glioblastoma"),
            {
                "gene": "{variable}",
                "log2 fold change": "{log_fc:.2f} ± {se:.2f}",
                "adjusted p": "{adj_p_value:.4f}",
                "lfsr": "{lfsr:.4f}",
                "patients of 5 with this sign": "{agree}",
            },
        ),
        "interferon": markdown(
            load("group_effects_interferon")["results"],
            {
                "type": "{state}",
                "donors": "{n_donors}",
                "with stimulated cells": "{stimulated}",
                "cells": "{n_cells}",
                "genes": "{genes:,}",
                "adjusted p < .05": "{found}",
                "known ones among these": "{known_found} of {known}",
                "known ones among the first 20": "{known_of_20}",
                "first five": "{first}",
            },
        ),
        "aml": markdown(
            of_real("aml"),
            {
                "cells": "{state}",
                "donors": "{n_donors:.0f}",
                "depth ratio": "{depth_ratio:.2f}",
                "genes": "{genes:,}",
                "p < .05": "{below_05:.3f}",
                "adjusted p < .05": "{found}",
            },
        ),
    }


def of_real(data: str) -> list[dict]:
    return [row for row in load("group_effects_real")["results"] if row["data"] == data]


def summary(part: str) -> list[dict]:
    """Means over data sets, with standard errors, by design and method."""
    results = load(f"group_effects_{part}")["results"]
    rows = []
    for design, of_design in groupby(results, key=lambda row: row["design"]):
        frame = pd.DataFrame(of_design)
        for method, name in METHODS.items():
            of = frame[frame["method"] == method]
            if of.empty:
                continue
            numbers = of[["below_05", "below_01", "true", "false", "genes", "with_effect"]]
            found = of["true"].sum() + of["false"].sum()
            rows.append(
                {"design": design, "method": name, "n": len(of)}
                | numbers.mean().to_dict()
                | numbers.sem().add_suffix("_se").to_dict()
                | {"fdr": of["false"].sum() / max(found, 1)}
            )
    return rows


def depth_table() -> str:
    results = pd.DataFrame(load("group_effects_depth")["results"])
    grouped = results.groupby(["method", "depth"], sort=False)
    rows = grouped[["below_05", "found", "genes"]].mean().reset_index().to_dict("records")
    return markdown(
        rows,
        {
            "method": "`tl.{method}`",
            "depth of one group": "{depth:g}",
            "p < .05": "{below_05:.3f}",
            "genes found per data set": "{found:.1f} of {genes:.0f}",
        },
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    for logger in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["run", *parts]:
            for chosen in parts:
                run(chosen)
        case _:
            for name, table in tables().items():
                print(f"{name}\n{table}\n")
