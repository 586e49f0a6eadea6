"""Effects of a condition: false positives, power and depth, by planting effects in real cells.

python benchmarks/group_effects.py run null     # writes results/group_effects_null.json
python benchmarks/group_effects.py run planted  # writes results/group_effects_planted.json
python benchmarks/group_effects.py run depth    # writes results/group_effects_depth.json
python benchmarks/group_effects.py run real     # writes results/group_effects_real.json
python benchmarks/group_effects.py run interferon  # results/group_effects_interferon.json
python benchmarks/group_effects.py run times    # writes results/group_effects_times.json
python benchmarks/group_effects.py run memory   # writes results/group_effects_memory.json
python benchmarks/group_effects.py              # prints the tables

Donors of OneK1K, who differ as donors do, are put into two groups at random, so that nothing
differs but what a design makes differ: numbers of cells, depth (by thinning the counts), mixture
of types. Cells of one type of AML, pig airway and Kang's controls are dealt to donors that are
made up, with log-fold changes of their own. What is saved of a method on a data set is not run
again. *planted*: half of the genes have an effect, half of these in either direction, by thinning
the counts of one group. *depth*: cells are dealt to donors who do not differ, and a network is
trained, for ``tl.counterfactual_de``. *memory*: the same numbers of donors, types and genes with
more and more cells in a file.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _group_effects_cells import KANG, NULL, PLANTED, Design, cells_of, onek1k, planted
from _group_effects_tables import LEVEL, METHODS, judged, tables
from _processes import fresh_processes, one_thread, peak_memory
from _pseudobulk_tests import (
    log_cpm,
    moderated_t,
    of_donors,
    of_sums,
    sizes_by_type,
    voom_weights,
)
from _record import SOURCE, data_folder, save, saved
from scipy import sparse

import scmedal_tools as smt
from scmedal_tools._sample_model import CountSums, sum_counts

if TYPE_CHECKING:
    from pathlib import Path

WHOLE_AML, GLIOBLASTOMA = "aml_vangalen2019_d0.h5ad", "glioblastoma_zhao2021.h5ad"
# Genes that interferon is known to induce (Schoggins et al., Nature 2011, and textbooks).
INDUCED = [
    "ADAR", "BST2", "CMPK2", "CXCL10", "CXCL11", "DDX58", "EIF2AK2", "EPSTI1", "GBP1", "HERC5",
    "IDO1", "IFI16", "IFI27", "IFI35", "IFI44", "IFI44L", "IFI6", "IFIH1", "IFIT1", "IFIT2",
    "IFIT3", "IFIT5", "IFITM1", "IFITM2", "IFITM3", "IRF7", "IRF9", "ISG15", "ISG20", "LY6E",
    "MT2A", "MX1", "MX2", "OAS1", "OAS2", "OAS3", "OASL", "PARP9", "PLSCR1", "RSAD2", "SAMD9L",
    "SP110", "STAT1", "STAT2", "TNFSF10", "TRIM22", "UBE2L6", "USP18", "XAF1", "ZBP1",
]  # fmt: skip
# Genes of the 300 in the glioblastoma file that inhibitors of histone deacetylases are reported to
# induce: metallothioneins (Glaser et al., Mol Cancer Ther 2003), clusterin (Nuutinen et al., Int J
# Biochem Cell Biol 2010) and GADD45B (Chen et al., Cancer Lett 2002).
INDUCED_BY_PANOBINOSTAT = ["CLU", "GADD45B", "MT1E", "MT1G", "MT1X", "MT2A"]
PAIR = ["patient", "condition"]
MIN_CELLS, MIN_COUNTS = 5, 3.0
FIRST_SEED = 1_000  # those below served the design
SEEDS = {"null": 30, "planted": 60}
DESEQ_SEEDS = {"null": 30, "planted": 12}  # it takes ten times as long
DEPTHS, DEPTH_SEEDS, DEPTH_EPOCHS = (1.0, 0.9, 0.75, 0.5), 2, 50
DEPTH_CELLS, DEPTH_GENES = 1_800, 500
MEMORY_CELLS = (6_200, 31_000, 62_000)


def methods_of(design: Design) -> set[str]:
    """Methods that a design is for."""
    if design.of_types:
        return {"group_effects", "pooled", "types_t", "types_voom"}
    return {"group_effects", "moderated_t", "voom", "deseq"}


def p_values(adata: ad.AnnData, design: Design, methods: set[str]) -> dict[str, pd.Series]:
    """P-values of each method, of the genes that ``group_effects`` tests."""
    options = {"min_cells": MIN_CELLS, "min_counts": MIN_COUNTS}
    labels = "cell_type" if design.of_types or design.in_type else None
    table = smt.tl.group_effects(adata, "~ condition", "donor", labels_key=labels, **options).table
    table = table[table["state"] == design.judged_in]
    genes = table["variable"]
    found = {"group_effects": table.set_index("variable")["p_value"]}
    if design.in_type:
        adata = adata[adata.obs["cell_type"] == design.in_type].copy()
    baselines = of_one_type(adata, design, genes)
    if design.of_types:
        baselines = {"pooled": baselines["moderated_t"]} | of_types(adata, genes)
    found |= {name: pd.Series(p, genes) for name, p in baselines.items()}
    if "deseq" in methods:
        formula = "~ donor + condition" if design.pairs else "~ condition"
        other = smt.tl.pseudobulk_de(adata, formula, "donor", **options)
        found["deseq"] = other.set_index("variable")["p_value"].fillna(1.0)
    return {name: p for name, p in found.items() if name in methods}


def of_one_type(adata: ad.AnnData, design: Design, genes: pd.Series) -> dict[str, np.ndarray]:
    """Moderated t of the logarithms of sums over the cells of each sample."""
    donor, second = donors_of(adata)
    sums, first = sums_by(adata, genes, donor * 2 + second)
    matrix = np.column_stack([np.ones(len(first)), second[first]])
    if design.pairs:
        matrix = np.column_stack([second[first], np.eye(donor.max() + 1)[donor[first]]])
    contrast = np.zeros(matrix.shape[1])
    contrast[0 if design.pairs else 1] = 1
    return of_sums(sums, matrix, contrast)


def of_types(adata: ad.AnnData, genes: pd.Series) -> dict[str, np.ndarray]:
    """The same of sums in each cell type, of which each donor's mean is taken, types apart."""
    donor, second = donors_of(adata)
    kind = adata.obs["cell_type"].cat.remove_unused_categories().cat.codes.to_numpy(int)
    group = donor * (kind.max() + 1) + kind
    enough = np.bincount(group)[group] >= MIN_CELLS
    adata, donor, second, kind = adata[enough], donor[enough], second[enough], kind[enough]
    sums, first = sums_by(adata, genes, group[enough])
    donor, second, kind = donor[first], second[first], kind[first]
    sizes = sizes_by_type(sums, kind)
    values = log_cpm(sums.counts, sizes)
    in_type = np.eye(kind.max() + 1)[kind]
    design = np.column_stack([in_type, second])
    # As in group_effects: genes with few counts in a type are not tested there.
    mean_counts = (in_type.T @ sums.counts) / in_type.sum(0)[:, None]
    measured = (mean_counts >= MIN_COUNTS)[kind].astype(float)
    found = {}
    for name, weights in (
        ("types_t", measured),
        ("types_voom", measured * voom_weights(values, sizes, design)),
    ):
        means, totals, of_group = of_donors(values, weights, kind, donor, second)
        matrix = np.column_stack([np.ones(len(means)), of_group])
        totals = totals if name == "types_voom" else (totals > 0).astype(float)
        found[name] = moderated_t(means, matrix, np.array([0, 1]), totals)
    return found


def donors_of(adata: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Number of the donor of each cell, and whether it is of the second group."""
    donor = adata.obs["donor"].cat.remove_unused_categories().cat.codes.to_numpy(int)
    return donor, (adata.obs["condition"] == "b").to_numpy()


def sums_by(
    adata: ad.AnnData, genes: pd.Series, group: np.ndarray
) -> tuple[CountSums, np.ndarray]:
    """Sums of some genes by group, and a cell of each group."""
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    sums = sum_counts(adata.X, group, len(first))
    return sums.of_genes(adata.var_names.get_indexer(genes)), first


def simulate(design: Design, seed: int, methods: set[str]) -> list[dict]:
    rng = np.random.default_rng(seed)
    adata = cells_of(design, rng)
    effects = pd.Series(planted(adata, design, rng), adata.var_names)
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    rows = []
    for method, p in p_values(adata, design, methods).items():
        rows.append(
            {
                "design": design.name,
                "seed": seed,
                "method": method,
                "commit": SOURCE["commit"],
            }
            | judged(p, effects)
        )
    return rows


def run(part: str) -> None:
    if part in ALONE:
        return ALONE[part]()
    designs, name = {"null": NULL, "planted": PLANTED}[part], f"group_effects_{part}"
    results = saved(name)
    done = {(row["design"], row["seed"], row["method"]) for row in results}
    for methods, seeds in ((METHODS.keys() - {"deseq"}, SEEDS), ({"deseq"}, DESEQ_SEEDS)):
        for design in designs:
            start = time.perf_counter()
            for seed in range(FIRST_SEED, FIRST_SEED + seeds[part]):
                asked = methods_of(design) & methods
                asked = {m for m in asked if (design.name, seed, m) not in done}
                if asked:
                    results += simulate(design, seed, asked)
                    save(name, results, designs=[asdict(d) for d in designs])
            print(part, design.name, f"{time.perf_counter() - start:.0f} s", flush=True)


def depth() -> None:
    """Cells dealt to donors at random, of which six have less depth: log-normalised and counts."""
    pool, results = onek1k(), []
    for depth in DEPTHS:
        for seed in range(DEPTH_SEEDS):
            rng = np.random.default_rng(seed)
            expressed = np.asarray((pool.X > 0).mean(0)).ravel()
            genes = np.sort(expressed.argsort()[-DEPTH_GENES:])
            adata = pool[rng.permutation(pool.n_obs)[:DEPTH_CELLS], genes].copy()
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


def made_up(n_cells: int) -> ad.AnnData:
    """As many donors and genes as the paper's ASD data have, in ten types."""
    rng = np.random.default_rng(0)
    means = rng.lognormal(-1, 1, 2_916)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n_cells)])
    obs["donor"] = [f"D{k:02d}" for k in np.arange(n_cells) % 31]
    obs["cell_type"] = [f"type_{k}" for k in np.arange(n_cells) // 31 % 10]
    obs["condition"] = np.where(obs["donor"] < "D15", "a", "b")
    blocks = [  # a dense one of all would be large
        sparse.csr_matrix(rng.poisson(means, (len(cells), len(means))).astype(np.float32))
        for cells in np.array_split(np.arange(n_cells), n_cells // MEMORY_CELLS[0])
    ]
    return ad.AnnData(sparse.vstack(blocks).tocsr(), obs)


def timed(adata: ad.AnnData) -> dict:
    start = time.process_time()  # of the processor, whatever else it does
    found = smt.tl.group_effects(
        adata, "~ condition", "donor", labels_key="cell_type", min_counts=0
    )
    seconds = time.process_time() - start
    row = {"seconds": seconds, "cells": adata.n_obs, "genes": adata.n_vars}
    return row | {"states": found.table["state"].nunique() - 1}


def times() -> None:
    row = timed(made_up(MEMORY_CELLS[0]))
    print(row)
    save("group_effects_times", [row])


def memory() -> None:
    """Cells of a file, each number in a process of its own."""
    results = []
    with fresh_processes() as (fresh, folder):
        for n_cells in MEMORY_CELLS:
            file = folder / f"{n_cells}.h5ad"
            made_up(n_cells).write_h5ad(file)
            results.append(fresh.submit(of_file, file).result())
            print(results[-1], flush=True)
            save("group_effects_memory", results)


def of_file(file: Path) -> dict:
    one_thread()
    adata = ad.read_h5ad(file, backed="r")
    row = {"file": file.stat().st_size / 2**20, "before": peak_memory()}
    return row | timed(adata) | {"peak": peak_memory()}


def real() -> None:
    """Glioblastoma slices with and without a drug, in pairs; AML patients by cell type."""
    slices = ad.read_h5ad(data_folder() / GLIOBLASTOMA)
    found = smt.tl.group_effects(slices, "~ condition", "patient")
    samples = found.samples.to_df().set_index([found.samples.obs[k] for k in PAIR])
    shifts = samples.xs("panobinostat", level=1) - samples.xs("ctrl", level=1)
    table = found.table.sort_values("p_value")
    agree = (np.sign(shifts[table["variable"]]) == np.sign(table["log_fc"].to_numpy())).sum()
    table = table.assign(agree=agree.to_numpy(), rank=np.arange(len(table)) + 1)
    table["symbol"] = slices.var["symbol"].astype(str)[table["variable"]].to_numpy()
    table["found"] = int((table["adj_p_value"] < LEVEL).sum())
    targets = table[table["symbol"].isin(INDUCED_BY_PANOBINOSTAT)]
    results = table.head(10).assign(data="glioblastoma").to_dict("records")
    results += targets.assign(data="targets").to_dict("records")
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
    options = {"labels_key": "cell_type", "min_cells": MIN_CELLS}
    effects = smt.tl.group_effects(adata, "~ condition", "donor", **options)
    shifts = shifts_of_donors(effects.samples)
    results = []
    for state, of_state in effects.table.groupby("state"):
        ordered = of_state.sort_values("p_value").set_index("variable")
        known = ordered.index.isin(INDUCED)
        found = (ordered["adj_p_value"] < LEVEL).to_numpy()
        of_donors_there = shifts[state][ordered.index]
        agree = np.sign(of_donors_there) == np.sign(ordered["log_fc"])
        row = ordered[["n_donors", "n_samples", "n_cells"]].max().to_dict()
        row |= {
            "stimulated": len(of_donors_there),
            "state": state,
            "genes": len(ordered),
            "found": int(found.sum()),
            "agree": int(agree.all()[found].sum()),
            "first": ", ".join(ordered.index[:5]),
            "known_of_20": int(known[:20].sum()),
            "known_found": int((known & found).sum()),
            "known_agree": int(agree.all()[known & found].sum()),
            "known": int(known.sum()),
        }
        results.append(row)
    print(pd.DataFrame(results))
    save("group_effects_interferon", results, data=KANG)


def shifts_of_donors(samples: ad.AnnData) -> dict[str, pd.DataFrame]:
    """Each donor's stimulated cells less the mean of all controls, by type, and over types."""
    values, obs = samples.to_df(), samples.obs
    is_stimulated = (obs["condition"] == "stim").to_numpy()
    controls = values[~is_stimulated].groupby(obs["state"][~is_stimulated].astype(str)).mean()
    stimulated, obs = values[is_stimulated], obs[is_stimulated]
    shifts = stimulated - controls.loc[obs["state"]].to_numpy()
    shifts = shifts.set_index(obs["donor"].astype(str).to_numpy())
    of_states = {str(state): shifts[(obs["state"] == state).to_numpy()] for state in obs["state"]}
    return of_states | {"overall": shifts.groupby(level=0).mean()}


ALONE = {
    "depth": depth,
    "real": real,
    "times": times,
    "memory": memory,
    "interferon": interferon,
}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    smt.train.quiet()
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["run", *parts]:
            for chosen in parts:
                run(chosen)
        case _:
            for name, table in tables().items():
                print(f"{name}\n{table}\n")
